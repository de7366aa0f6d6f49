// Globals of the web that QuickJS lacks. The build replaces each use of a name in a bundle with the export of that name and omits
// the others. Each export comes from a file of its own in this folder, because only for our files do we know that loading them
// has no effects.

export { AbortController, AbortSignal } from './abort.js';
export { console } from './console.js';
export { crypto } from './crypto.js';
export { Request, Response, fetch } from './fetch.js';
export { FormData } from './form-data.js';
export { Headers } from './headers.js';
export { ReadableStream, TransformStream, WritableStream } from './streams.js';
export { structuredClone } from './structured-clone.js';
export { TextDecoder, TextEncoder } from './text.js';
export { clearInterval, clearTimeout, setInterval, setTimeout } from './timers.js';
export { URL, URLSearchParams } from './url.js';

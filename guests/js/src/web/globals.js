// Globals of the web that QuickJS lacks. The build puts each in place of its name where a bundle uses it, and leaves out the rest:
// each comes from a file of its own here, because only of ours it is known that loading them does nothing.

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

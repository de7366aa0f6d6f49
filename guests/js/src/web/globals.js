// Globals of the web that QuickJS lacks. The build puts each in place of its name where a bundle uses it, and leaves out the rest.

export { AbortController, AbortSignal } from 'abortcontroller-polyfill/dist/cjs-ponyfill.js';
export { default as structuredClone } from 'core-js-pure/actual/structured-clone.js';
export { default as URL } from 'core-js-pure/actual/url/index.js';
export { default as URLSearchParams } from 'core-js-pure/actual/url-search-params/index.js';
export { ReadableStream, TransformStream, WritableStream } from 'web-streams-polyfill';

export { console } from './console.js';
export { crypto } from './crypto.js';
export { Request, Response, fetch } from './fetch.js';
export { FormData } from './form-data.js';
export { Headers } from './headers.js';
export { TextDecoder, TextEncoder } from './text.js';
export { clearInterval, clearTimeout, setInterval, setTimeout } from './timers.js';

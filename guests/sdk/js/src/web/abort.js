// `AbortController` and `AbortSignal` for QuickJS.

export { AbortController, AbortSignal } from 'abortcontroller-polyfill/dist/cjs-ponyfill.js';

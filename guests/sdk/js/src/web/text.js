// `TextEncoder` and `TextDecoder` for QuickJS.

export { TextDecoder, TextEncoder } from '@exodus/bytes/encoding-lite.js';

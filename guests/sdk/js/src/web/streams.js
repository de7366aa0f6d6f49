// Streams for QuickJS.

export { ReadableStream, TransformStream, WritableStream } from 'web-streams-polyfill';

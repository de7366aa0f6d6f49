// The common part of `Request` and `Response`: a body that can be read once. For QuickJS.

import { ReadableStream } from './streams.js';

import { concat, utf8 } from '../engine/bytes.js';
import { FormData } from './form-data.js';
import { TextDecoder } from './text.js';

/** The body of a `Request` or a `Response`. */
export class Body {
  #bytes = null;
  #stream = null;
  #isUsed = false;

  /** Takes a body as the constructors do, and returns its default content type. */
  _takeBody(body) {
    if (body === null || body === undefined) return undefined;
    if (body instanceof ReadableStream) {
      this.#stream = body;
      return undefined;
    }
    const [bytes, type] = bytesOf(body);
    this.#bytes = bytes;
    return type;
  }

  get bodyUsed() {
    return this.#isUsed || Boolean(this.#stream?.locked);
  }

  get body() {
    if (this.#bytes !== null && this.#stream === null) {
      const bytes = this.#bytes;
      this.#stream = new ReadableStream({
        start(controller) {
          if (bytes.length > 0) controller.enqueue(bytes);
          controller.close();
        },
      });
    }
    return this.#stream;
  }

  async bytes() {
    if (this.bodyUsed) throw new TypeError('the body has been read already');
    this.#isUsed = this.#bytes !== null || this.#stream !== null;
    if (this.#stream === null) return this.#bytes ?? new Uint8Array(0);
    const reader = this.#stream.getReader();
    const chunks = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return concat(chunks);
      chunks.push(typeof value === 'string' ? utf8(value) : value);
    }
  }

  async arrayBuffer() {
    const bytes = await this.bytes();
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  }

  async text() {
    return new TextDecoder().decode(await this.bytes());
  }

  async json() {
    return JSON.parse(await this.text());
  }

  async formData() {
    const type = this.headers.get('content-type') ?? '';
    if (!/^application\/x-www-form-urlencoded\b/i.test(type)) {
      throw new TypeError('on QuickJS a form is read as application/x-www-form-urlencoded only: build with --engine starlingmonkey');
    }
    const form = new FormData();
    for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
    return form;
  }

  /** Returns the same body for a clone. A stream is split into two. */
  _sharedBody() {
    if (this.bodyUsed) throw new TypeError('the body has been read already');
    if (this.#stream === null) return this.#bytes;
    const [mine, other] = this.#stream.tee();
    this.#stream = mine;
    return other;
  }
}

function bytesOf(body) {
  if (typeof body === 'string') return [utf8(body), 'text/plain;charset=UTF-8'];
  if (body instanceof Uint8Array) return [body];
  if (body instanceof ArrayBuffer) return [new Uint8Array(body)];
  if (ArrayBuffer.isView(body)) return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength)];
  if (body instanceof URLSearchParams) return [utf8(String(body)), 'application/x-www-form-urlencoded;charset=UTF-8'];
  if (body instanceof FormData) {
    const pairs = new URLSearchParams([...body]);
    return [utf8(String(pairs)), 'application/x-www-form-urlencoded;charset=UTF-8'];
  }
  return [utf8(String(body)), 'text/plain;charset=UTF-8'];
}

// `Request` and `Response` of the fetch standard, for QuickJS, which does not have them.

import { Body } from './body.js';
import { Headers } from './headers.js';
import { utf8 } from '../engine/bytes.js';

const NORMALIZED = new Set(['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT']);
const WITHOUT_BODY = new Set([101, 103, 204, 205, 304]);

export class Request extends Body {
  #url;
  #method;
  #headers;
  #init;

  constructor(input, init = {}) {
    super();
    const other = input instanceof Request ? input : undefined;
    this.#url = other ? other.url : new URL(String(input)).href;
    const method = String(init.method ?? other?.method ?? 'GET');
    this.#method = NORMALIZED.has(method.toUpperCase()) ? method.toUpperCase() : method;
    this.#headers = new Headers(init.headers ?? other?.headers);
    this.#init = { signal: init.signal ?? other?.signal, redirect: init.redirect ?? other?.redirect ?? 'follow' };
    const body = init.body ?? other?._sharedBody();
    if (body && (this.#method === 'GET' || this.#method === 'HEAD')) throw new TypeError(`a ${this.#method} request has no body`);
    const type = this._takeBody(body);
    if (type && !this.#headers.has('content-type')) this.#headers.set('content-type', type);
  }

  get url() {
    return this.#url;
  }

  get method() {
    return this.#method;
  }

  get headers() {
    return this.#headers;
  }

  get signal() {
    return this.#init.signal;
  }

  get redirect() {
    return this.#init.redirect;
  }

  clone() {
    return new Request(this);
  }
}

export class Response extends Body {
  #status;
  #statusText;
  #headers;

  constructor(body = null, init = {}) {
    super();
    const status = init.status ?? 200;
    if (!Number.isInteger(status) || status < 200 || status > 599) throw new RangeError(`${status} is not a response status`);
    if (body !== null && body !== undefined && WITHOUT_BODY.has(status)) throw new TypeError(`a response with ${status} has no body`);
    this.#status = status;
    this.#statusText = String(init.statusText ?? '');
    this.#headers = new Headers(init.headers);
    const type = this._takeBody(body);
    if (type && !this.#headers.has('content-type')) this.#headers.set('content-type', type);
  }

  static json(value, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has('content-type')) headers.set('content-type', 'application/json');
    return new Response(utf8(JSON.stringify(value)), { ...init, headers });
  }

  static redirect(url, status = 302) {
    return new Response(null, { status, headers: { location: String(url) } });
  }

  get type() {
    return 'default';
  }

  get status() {
    return this.#status;
  }

  get ok() {
    return this.#status >= 200 && this.#status < 300;
  }

  get statusText() {
    return this.#statusText;
  }

  get headers() {
    return this.#headers;
  }

  clone() {
    const { status, statusText, headers } = this;
    return new Response(this._sharedBody(), { status, statusText, headers });
  }
}

/** Throws an error with the reason: the tools for QuickJS cannot bind the asynchronous import that `fetch` needs. */
export async function fetch() {
  throw new TypeError('QuickJS guests send no requests: build with --engine starlingmonkey');
}

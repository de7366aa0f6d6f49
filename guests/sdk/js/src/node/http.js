// The parts of `node:http` that Express needs, for a request that has arrived and a response that is handed over as a whole.
// Independent of the host: `express.js` passes the request in and takes the response.

import { Buffer } from 'buffer';
import { EventEmitter } from 'events';

export const METHODS = [
  'CONNECT', 'DELETE', 'GET', 'HEAD', 'LINK', 'LOCK', 'M-SEARCH', 'MERGE', 'MKACTIVITY', 'MKCALENDAR', 'MKCOL', 'MOVE', 'NOTIFY',
  'OPTIONS', 'PATCH', 'POST', 'PROPFIND', 'PROPPATCH', 'PURGE', 'PUT', 'QUERY', 'REPORT', 'SEARCH', 'TRACE', 'UNLOCK', 'UNLINK',
  'UNSUBSCRIBE',
];

// If a client sends several of these fields, only the first one counts, as in Node.js.
const SINGLE = new Set([
  'age', 'authorization', 'content-length', 'content-type', 'etag', 'expires', 'from', 'host', 'if-modified-since',
  'if-unmodified-since', 'last-modified', 'location', 'max-forwards', 'proxy-authorization', 'referer', 'retry-after', 'server',
  'user-agent',
]);

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const WITHOUT_BODY = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/** The connection as packages see it. The host has the real one. Destroying this one abandons the response. */
class Socket extends EventEmitter {
  readable = true;
  writable = true;
  destroyed = false;
  remoteAddress = undefined;

  constructor(isSecure) {
    super();
    this.encrypted = isSecure;
  }

  destroy(error) {
    if (this.destroyed) return this;
    this.destroyed = true;
    this.emit('close', error);
    return this;
  }
}

/** A request whose body is available as a stream, which starts when a listener for `data` is added. */
export class IncomingMessage extends EventEmitter {
  httpVersion = '1.1';
  httpVersionMajor = 1;
  httpVersionMinor = 1;
  readable = true;
  complete = false;
  #body;
  #isFlowing = false;

  /** `headers` is a list of pairs. `readBody` returns a promise of all bytes. */
  constructor({ method, target, headers, isSecure, readBody }) {
    super();
    this.method = method;
    this.url = target;
    this.rawHeaders = headers.flat();
    this.headers = joined(headers);
    // `wasi:http` does not pass this field to a guest, but body parsers look for it if there is no length.
    if (!WITHOUT_BODY.has(method) && !('content-length' in this.headers)) this.headers['transfer-encoding'] = 'chunked';
    this.socket = new Socket(isSecure);
    this.connection = this.socket;
    this.#body = readBody;
  }

  on(event, listener) {
    super.on(event, listener);
    if (event === 'data') this.resume();
    return this;
  }

  addListener(event, listener) {
    return this.on(event, listener);
  }

  resume() {
    if (!this.#isFlowing) {
      this.#isFlowing = true;
      queueMicrotask(() => this.#flow());
    }
    return this;
  }

  pause() {
    return this;
  }

  unpipe() {
    return this;
  }

  destroy(error) {
    this.socket.destroy(error);
    return this;
  }

  pipe(destination) {
    this.on('data', (chunk) => destination.write(chunk));
    this.on('end', () => destination.end());
    return destination;
  }

  async *[Symbol.asyncIterator]() {
    const body = await this.#take();
    if (body.length > 0) yield body;
    this.#end();
  }

  async #flow() {
    try {
      const body = await this.#take();
      if (body.length > 0) this.emit('data', body);
      this.#end();
    } catch (error) {
      this.emit('error', error);
    }
  }

  async #take() {
    this.#isFlowing = true;
    return Buffer.from(await this.#body());
  }

  #end() {
    this.readable = false;
    this.complete = true;
    this.emit('end');
    this.emit('close');
  }
}

/** A response under construction. Written chunks are kept until `end`, or until `flushHeaders` starts a stream. */
export class ServerResponse extends EventEmitter {
  statusCode = 200;
  statusMessage = '';
  headersSent = false;
  writableEnded = false;
  finished = false;
  sendDate = false;
  #headers = new Map();
  #chunks = [];
  #beforeHead;
  #stream;

  /** `beforeHead` runs before the head is fixed. If it throws, the head is not fixed. */
  constructor(request, beforeHead = () => {}) {
    super();
    this.req = request;
    this.socket = request.socket;
    this.connection = request.socket;
    this.#beforeHead = beforeHead;
    this.socket.once('close', (error) => this.#giveUp(error));
  }

  /** Ends the response as broken: a stream is cut off, and a response whose head has not been sent becomes an error (event `broken`). */
  destroy(error) {
    this.socket.destroy(error);
    return this;
  }

  get writableFinished() {
    return this.writableEnded;
  }

  setHeader(name, value) {
    this.#refuseSent('set a header');
    if (!TOKEN.test(String(name))) throw new TypeError(`Header name must be a valid HTTP token [${JSON.stringify(name)}]`);
    if (value === undefined) throw new TypeError(`Invalid value "undefined" for header "${name}"`);
    const lines = Array.isArray(value) ? value.map(String) : String(value);
    for (const line of [lines].flat()) refuseControls(name, line);
    this.#headers.set(String(name).toLowerCase(), { name: String(name), value: typeof value === 'number' ? value : lines });
    return this;
  }

  appendHeader(name, value) {
    const present = this.getHeader(name);
    return this.setHeader(name, present === undefined ? value : [present, value].flat());
  }

  getHeader(name) {
    return this.#headers.get(String(name).toLowerCase())?.value;
  }

  getHeaderNames() {
    return [...this.#headers.keys()];
  }

  getHeaders() {
    return Object.fromEntries([...this.#headers].map(([key, { value }]) => [key, value]));
  }

  hasHeader(name) {
    return this.#headers.has(String(name).toLowerCase());
  }

  removeHeader(name) {
    this.#refuseSent('remove a header');
    this.#headers.delete(String(name).toLowerCase());
  }

  writeHead(status, message, headers) {
    this.statusCode = status;
    const given = typeof message === 'string' ? headers : message;
    const pairs = Array.isArray(given) ? pairsOf(given) : Object.entries(given ?? {});
    for (const [name, value] of pairs) this.setHeader(name, value);
    return this;
  }

  /** Sends the head now. Later chunks are streamed, and the session is read-only. */
  flushHeaders() {
    if (this.headersSent) return;
    this.#fixHead();
    this.#stream = new Chunks();
    for (const chunk of this.#chunks.splice(0)) this.#stream.push(chunk);
    this.emit('head');
  }

  write(chunk, encoding, callback) {
    if (this.writableEnded) throw new Error('write after end');
    if (!this.headersSent && /^text\/event-stream\b/i.test(String(this.getHeader('content-type') ?? ''))) this.flushHeaders();
    const bytes = bytesOf(chunk, encoding);
    if (this.#stream) this.#stream.push(bytes);
    else this.#chunks.push(bytes);
    const done = typeof encoding === 'function' ? encoding : callback;
    if (done) queueMicrotask(done);
    return true;
  }

  end(chunk, encoding, callback) {
    const done = [chunk, encoding, callback].find((argument) => typeof argument === 'function');
    if (this.writableEnded) {
      const error = new Error('the response has been sent already');
      if (done) queueMicrotask(() => done(Object.assign(error, { code: 'ERR_STREAM_ALREADY_FINISHED' })));
      return this;
    }
    const last = typeof chunk === 'function' || chunk === undefined || chunk === null ? undefined : bytesOf(chunk, encoding);
    if (!this.headersSent) this.#fixHead();
    if (last) (this.#stream ?? this.#chunks).push(last);
    this.writableEnded = true;
    this.finished = true;
    this.#stream?.end();
    this.emit('head');
    this.emit('finish');
    this.emit('close');
    if (done) queueMicrotask(done);
    return this;
  }

  /** Returns the response to hand over. Call it after the event `head`. */
  handOver() {
    const headers = [...this.#headers.values()].flatMap(({ name, value }) => [value].flat().map((line) => [name, String(line)]));
    if (isBodiless(this.statusCode)) {
      const others = headers.filter(([name]) => name.toLowerCase() !== 'content-length');
      return { status: this.statusCode, headers: others, body: new Uint8Array(0) };
    }
    return { status: this.statusCode, headers, body: this.#stream ?? concat(this.#chunks) };
  }

  #giveUp(error = new Error('the connection was destroyed before the response was complete')) {
    if (this.writableEnded) return;
    if (this.#stream) this.#stream.fail(error);
    else this.emit('broken', error);
  }

  // Packages such as `on-headers` replace `writeHead` with their own function, which must be called before the head is sent.
  #fixHead() {
    this.writeHead(this.statusCode);
    this.#beforeHead();
    this.headersSent = true;
  }

  #refuseSent(what) {
    if (!this.headersSent) return;
    const error = new Error(`Cannot ${what} after it has been sent to the client`);
    throw Object.assign(error, { code: 'ERR_HTTP_HEADERS_SENT' });
  }
}

/** Chunks that one side pushes and the other side awaits. */
class Chunks {
  #waiting = [];
  #wake = () => {};
  #isEnded = false;
  #failure;

  push(chunk) {
    this.#waiting.push(chunk);
    this.#wake();
  }

  end() {
    this.#isEnded = true;
    this.#wake();
  }

  /** Makes the iterator throw this error after the chunks that were pushed before it. */
  fail(error) {
    this.#failure ??= error;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      if (this.#waiting.length > 0) yield this.#waiting.shift();
      else if (this.#failure) throw this.#failure;
      else if (this.#isEnded) return;
      else await new Promise((wake) => (this.#wake = wake));
    }
  }
}

/** Returns whether HTTP forbids a body with this status. Like Node.js, the body that a handler writes is then dropped. */
function isBodiless(status) {
  return status < 200 || status === 204 || status === 304;
}

function joined(headers) {
  const all = {};
  for (const [raw, value] of headers) {
    const name = raw.toLowerCase();
    if (!Object.hasOwn(all, name)) all[name] = name === 'set-cookie' ? [value] : value;
    else if (name === 'set-cookie') all[name].push(value);
    else if (!SINGLE.has(name)) all[name] += (name === 'cookie' ? '; ' : ', ') + value;
  }
  return all;
}

function pairsOf(flat) {
  if (flat.length > 0 && Array.isArray(flat[0])) return flat;
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
}

function refuseControls(name, line) {
  // A line end in a header would let the author of the value add header fields.
  if (/[^\t\x20-\x7e\x80-\xff]/.test(line)) {
    throw Object.assign(new TypeError(`Invalid character in header content ["${name}"]`), { code: 'ERR_INVALID_CHAR' });
  }
}

function bytesOf(chunk, encoding) {
  if (typeof chunk === 'string') return Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8');
  if (chunk instanceof Uint8Array) return chunk;
  throw new TypeError('a chunk is a string, a Buffer or a Uint8Array');
}

function concat(chunks) {
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

export default { METHODS, IncomingMessage, ServerResponse };

// Tests a guest in a real host: the client of `cloakroom test`, made for `node:test`. It knows the control interface and HTTP, and
// nothing about the build of a guest.

import { Visitor } from './visitor.js';

/**
 * Starts a host with the project's guests and routes, and with its own store and clock. With the context of a `node:test` test the
 * host ends with the test, otherwise with `close`.
 */
export async function startHost(context) {
  const control = process.env.CLOAKROOM_TEST_URL;
  if (!control) throw new Error('run these tests with `cloakroom test`');
  const { host, url } = await call(`${control}/hosts`, 'POST');
  const started = new Host(`${control}/hosts/${host}`, url);
  await started.clock.now();
  context?.after(() => started.close());
  return started;
}

/** A running host. */
export class Host {
  #control;
  // The last known time of the host's clock, by which cookies expire.
  #now = 0;

  constructor(control, url) {
    this.#control = control;
    /** The URL of the host, without a path: `http://127.0.0.1:41234`. */
    this.url = url;
    /** The host's clock, which stands still until it is advanced. */
    this.clock = {
      advance: (milliseconds) => this.#time('POST', { advance_ms: milliseconds }),
      now: () => this.#time('GET'),
    };
    /** The session store, which can be made unreachable. */
    this.store = {
      down: () => this.#ask('/store', 'PUT', { up: false }),
      up: () => this.#ask('/store', 'PUT', { up: true }),
    };
  }

  /** Returns a visitor without a cookie. With data, stores a session and returns a promise of its visitor. */
  visitor(data) {
    const now = () => this.#now;
    if (data === undefined) return new Visitor(this.url, now);
    return this.#ask('/sessions', 'POST', { data }).then(({ cookie }) => new Visitor(this.url, now, cookie));
  }

  /**
   * Adds a rival request of the same session, which commits right before the next commit of a stored session. First in, first used.
   * `{ set: { num: 41 }, delete: ['x'] }` or `{ destroy: true }`.
   */
  rival(change) {
    return this.#ask('/rivals', 'POST', change);
  }

  /** Swaps in a new version: `{ component, guest }`, both optional. Rejects with an Error that contains the reason if it is refused. */
  swap(version = {}) {
    return this.#ask('/swap', 'POST', version);
  }

  /** Returns the stored sessions: `[{ data, expires }]`. */
  async sessions() {
    const stored = await this.#ask('/sessions', 'GET');
    return stored.map(({ data, expires_ms }) => ({ data, expires: new Date(expires_ms) }));
  }

  /** Returns the host's counters since its start: `{ requests, runs, commits, conflicts, reapplies, reruns }`. */
  counts() {
    return this.#ask('/counts', 'GET');
  }

  /** Ends the host. */
  close() {
    return this.#ask('', 'DELETE');
  }

  async #time(method, body) {
    this.#now = (await this.#ask('/clock', method, body)).now_ms;
    return new Date(this.#now);
  }

  #ask(path, method, body) {
    return call(this.#control + path, method, body);
  }
}

async function call(url, method, body) {
  const json = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(url, { method, body: json, headers: json ? { 'content-type': 'application/json' } : {} });
  const text = await answer.text();
  const value = text === '' ? undefined : JSON.parse(text);
  if (!answer.ok) throw new Error(value?.error ?? `${method} ${url}: ${answer.status}`);
  return value;
}

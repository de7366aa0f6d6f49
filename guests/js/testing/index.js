// Tests of a guest against a real host: the client of `cloakroom test`, made for `node:test`. It knows the control interface
// and HTTP, and nothing of how a guest is built.

import { Visitor } from './visitor.js';

/**
 * Starts a host of the project's guests and routes with a store and a clock of its own. With the context of a `node:test` test
 * it ends with the test; otherwise with `close`.
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
  // What its clock said last: cookies expire by it.
  #now = 0;

  constructor(control, url) {
    this.#control = control;
    /** Where it serves, without a path: `http://127.0.0.1:41234`. */
    this.url = url;
    /** Its clock, which stands still until it is advanced. */
    this.clock = {
      advance: (milliseconds) => this.#time('POST', { advance_ms: milliseconds }),
      now: () => this.#time('GET'),
    };
    /** Its session store, which can be out of reach for a while. */
    this.store = {
      down: () => this.#ask('/store', 'PUT', { up: false }),
      up: () => this.#ask('/store', 'PUT', { up: true }),
    };
  }

  /** A visitor without a cookie; with data, one whose session is stored already. */
  visitor(data) {
    const now = () => this.#now;
    if (data === undefined) return new Visitor(this.url, now);
    return this.#ask('/sessions', 'POST', { data }).then(({ cookie }) => new Visitor(this.url, now, cookie));
  }

  /**
   * A rival request of the same session: it commits right before the next commit of a stored session, first in, first used.
   * `{ set: { num: 41 }, delete: ['x'] }` or `{ destroy: true }`.
   */
  rival(change) {
    return this.#ask('/rivals', 'POST', change);
  }

  /** Brings in a new version: `{ component, guest }`, both optional. An Error says why one was refused. */
  swap(version = {}) {
    return this.#ask('/swap', 'POST', version);
  }

  /** What is stored: `[{ data, expires }]`. */
  async sessions() {
    const stored = await this.#ask('/sessions', 'GET');
    return stored.map(({ data, expires_ms }) => ({ data, expires: new Date(expires_ms) }));
  }

  /** `{ requests, runs, commits, conflicts, reapplies, reruns }` so far. */
  counts() {
    return this.#ask('/counts', 'GET');
  }

  /** Ends it. */
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

// The session of one request: the host's entries as JavaScript values, and the detection of values that were changed in place.
// Depends on the host's session interface, which is passed in, but not on requests. `live-session.js` makes `req.session` of it.

import { SessionError, askSession } from './errors.js';
import { deepFreeze, thawed } from './freeze.js';
import { isExact, parse, stringify } from './json.js';
import { SessionCookie } from './session-cookie.js';

/** The object that `getSession` returns: every function of the host's session, with JavaScript values. */
export class Session {
  #host;
  // The entries that this request has read or written: the handler's value, and the JSON text that the host has for it.
  #entries = new Map();
  // 'open', or the reason why it can no longer be changed: 'sent', 'destroyed', 'unset'.
  #state = 'open';
  #cookie;

  /** `host` is the interface `cloakroom:http/session`. */
  constructor(host) {
    this.#host = host;
  }

  /** 'open', 'sent', 'destroyed' or 'unset'. */
  get state() {
    return this.#state;
  }

  /** The attributes of the session's cookie. `maxAge` and `expires` can be set. */
  get cookie() {
    this.#cookie ??= new SessionCookie(this.#host);
    return this.#cookie;
  }

  /** Returns the value of an entry, or `undefined` if there is no entry. Counts as a read of this key. */
  get(key) {
    refuseMalformed(key);
    if (this.#state === 'destroyed' || this.#state === 'unset') return undefined;
    const known = this.#entries.get(key);
    if (known) return known.value;
    const json = askSession(named(key), () => this.#host.get(key)) ?? undefined;
    const value = json === undefined ? undefined : parse(named(key), json);
    if (this.#state === 'sent') deepFreeze(value);
    this.#entries.set(key, { value, json });
    return value;
  }

  /** Writes an entry. A value that `JSON.stringify` omits (a function) is kept for this request only, as in Express. */
  set(key, value) {
    refuseMalformed(key);
    this.#refuseLate(named(key));
    // A value that was frozen with an older state of the session is not meant to be constant.
    this.#store(key, thawed(value));
  }

  /** Removes an entry. A missing entry is not an error. */
  delete(key) {
    refuseMalformed(key);
    this.#refuseLate(named(key));
    askSession(named(key), () => this.#host.delete(key));
    this.#entries.set(key, { value: undefined, json: undefined });
  }

  /** Returns whether there is an entry. Counts as a read of this key. */
  has(key) {
    const value = this.get(key);
    return value !== undefined;
  }

  /** Returns the keys of all entries, in the session's order. Counts as a read of every key. */
  keys() {
    if (this.#state === 'destroyed' || this.#state === 'unset') return [];
    const stored = askSession('session keys', () => this.#host.listKeys());
    const own = [...this.#entries].filter(([, { value, json }]) => value !== undefined && json === undefined);
    return [...stored, ...own.map(([key]) => key)];
  }

  /**
   * Adds to an integer; a missing entry counts as 0. It does not return the sum, so it never causes another run: the best choice
   * for a counter that is only shown elsewhere.
   */
  add(key, delta = 1) {
    const exact = exactDelta(key, delta);
    this.#refuseLate(named(key));
    this.#flushEntry(key);
    askSession(named(key), () => this.#host.add(key, exact));
    this.#entries.delete(key);
  }

  /** Adds to an integer; a missing entry counts as 0. Returns the sum. No other request of this session receives the same sum. */
  increment(key, delta = 1) {
    const exact = exactDelta(key, delta);
    this.#refuseLate(named(key));
    this.#flushEntry(key);
    const sum = askSession(named(key), () => this.#host.increment(key, exact));
    this.#entries.delete(key);
    if (!isExact(sum)) {
      // The host adds in 64 bits, so this exactly reverts the addition.
      askSession(named(key), () => this.#host.add(key, -exact));
      throw new SessionError('invalid', `${named(key)} would be about ${sum}, which a JavaScript number cannot hold exactly`);
    }
    return Number(sum);
  }

  /** Removes all entries. The session, its id and its cookie remain. */
  clear() {
    this.#refuseLate('session');
    askSession('session', () => this.#host.clear());
    this.#forget();
  }

  /** A stable name for this session that is worthless as a credential; `undefined` before the session has an id. */
  get fingerprint() {
    return askSession('session', () => this.#host.fingerprint()) ?? undefined;
  }

  /** Gives the session a new id and keeps its entries. Call it at login. */
  renew() {
    this.#refuseLate('session');
    askSession('session', () => this.#host.renew());
  }

  /** Gives the session a new id and drops its entries. */
  regenerate() {
    this.#refuseSent('session');
    askSession('session', () => this.#host.regenerate());
    this.#forget();
    this.#state = 'open';
  }

  /** Deletes the session and makes the browser delete its cookie. Call it at logout. */
  destroy() {
    this.#refuseSent('session');
    askSession('session', () => this.#host.destroy());
    this.#forget();
    this.#state = 'destroyed';
  }

  /** Commits now instead of when the response is sent. It is seldom needed, because no response is sent before its session is stored. */
  save() {
    this.#refuseLate('session');
    this.flush();
    askSession('session', () => this.#host.save());
  }

  /** Drops the changes that are not committed and reads the session again. */
  reload() {
    this.#refuseLate('session');
    askSession('session', () => this.#host.reload());
    this.#forget();
  }

  /** Starts the session's lifetime again. The host does this on every request that uses the session. */
  touch() {
    this.#refuseLate('session');
    askSession('session', () => this.#host.touch());
  }

  /** Does what the host's option `unset` defines: deletes the session, or drops this request's changes. */
  unset() {
    this.#refuseSent('session');
    askSession('session', () => this.#host.unset());
    this.#forget();
    this.#state = 'unset';
  }

  /**
   * Writes every entry whose value was changed in place.
   *
   * Throws the first refusal after it has tried all entries. A refused entry is unchanged, and the handler's value of it is frozen.
   */
  flush() {
    let refusal;
    for (const [key, entry] of this.#entries) {
      try {
        this.#flushEntry(key);
      } catch (error) {
        refusal ??= error;
        deepFreeze(entry.value);
        this.#entries.delete(key);
      }
    }
    if (refusal !== undefined) throw refusal;
  }

  /** Called when the response is sent. Writes the values that were changed in place, and then prevents all changes. Throws like `flush`. */
  send() {
    if (this.#state === 'sent') return;
    if (this.#state === 'open') this.flush();
    for (const { value } of this.#entries.values()) deepFreeze(value);
    if (this.#state === 'open') this.#state = 'sent';
  }

  /** Returns the keys of values that were changed after `send` because they cannot be frozen, such as a Date. */
  lateChanges() {
    const late = [...this.#entries].filter(([key, { value, json }]) => isObject(value) && !isStored(key, value, json));
    return late.map(([key]) => key);
  }

  #flushEntry(key) {
    const entry = this.#entries.get(key);
    if (!entry || !isObject(entry.value) || isStored(key, entry.value, entry.json)) return;
    this.#store(key, entry.value);
  }

  #store(key, value) {
    const json = stringify(named(key), value);
    askSession(named(key), () => (json === undefined ? this.#host.delete(key) : this.#host.set(key, json)));
    this.#entries.set(key, { value, json });
  }

  #forget() {
    for (const { value } of this.#entries.values()) deepFreeze(value);
    this.#entries.clear();
    this.#cookie = undefined;
  }

  #refuseSent(what) {
    if (this.#state !== 'sent') return;
    throw new SessionError('committed', `${what}: the response has been sent, so the session is read-only`);
  }

  #refuseLate(what) {
    this.#refuseSent(what);
    if (this.#state === 'destroyed') throw new SessionError('invalid', `${what}: the session was destroyed in this request`);
    if (this.#state === 'unset') throw new SessionError('invalid', `${what}: the session was set to null in this request`);
  }
}

function named(key) {
  return `session key \`${key}\``;
}

function isObject(value) {
  return typeof value === 'object' && value !== null;
}

/** Returns whether the host's text for an entry still matches the handler's value. */
function isStored(key, value, json) {
  const now = stringify(named(key), value);
  if (now === json) return true;
  // Another language may have written the same value with another spelling: `1.0`, or a space.
  return json !== undefined && now === JSON.stringify(JSON.parse(json));
}

/** Refuses a key with half of a surrogate pair. It would reach the host as another character, and so as another key. */
function refuseMalformed(key) {
  if (String(key).isWellFormed()) return;
  throw new SessionError('invalid', `${named(String(key).toWellFormed())}: a key must not contain half of a surrogate pair`);
}

function exactDelta(key, delta) {
  refuseMalformed(key);
  if ((typeof delta === 'number' || typeof delta === 'bigint') && isExact(delta)) return Number(delta);
  throw new SessionError('invalid', `${named(key)}: ${String(delta)} is not an integer that can be added`);
}

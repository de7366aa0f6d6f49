// `req.session.cookie`: the attributes that the host gives the session's cookie. Never its value.

import { SessionError, askSession } from './errors.js';
import { isExact } from './json.js';

const FIXED = ['path', 'domain', 'httpOnly', 'secure', 'sameSite', 'partitioned', 'priority'];

/** express-session's `Cookie`, as far as a guest has a say: its lifetime. */
export class SessionCookie {
  #host;

  constructor(host) {
    this.#host = host;
  }

  /** Milliseconds until it expires; `null` if it ends with the browser. Setting it starts a lifetime of that length. */
  get maxAge() {
    const expires = this.#milliseconds('expires');
    return expires === null ? null : expires - Date.now();
  }

  set maxAge(milliseconds) {
    // Express takes `false` for "until the browser is closed" as well.
    const lifetime = milliseconds === undefined || milliseconds === false ? null : milliseconds;
    if (lifetime !== null && !isExact(lifetime)) {
      throw new SessionError('invalid', `cookie.maxAge: ${String(milliseconds)} is no whole number of milliseconds, nor null`);
    }
    askSession('cookie.maxAge', () => this.#host.setMaxAge(lifetime === null ? null : Number(lifetime)));
  }

  /** The lifetime that each use of the session starts afresh, in milliseconds; `null`: until the browser is closed. */
  get originalMaxAge() {
    return this.#milliseconds('originalMaxAge');
  }

  set originalMaxAge(milliseconds) {
    this.maxAge = milliseconds;
  }

  /** When it expires; `null`: when the browser is closed. */
  get expires() {
    const expires = this.#milliseconds('expires');
    return expires === null ? null : new Date(expires);
  }

  set expires(at) {
    const end = at === null || at === undefined || at === false ? null : new Date(at).getTime();
    this.maxAge = end === null ? null : end - Date.now();
  }

  /** All attributes, as express-session names and orders them. */
  get data() {
    const { originalMaxAge, partitioned, priority, expires, secure, httpOnly, domain, path, sameSite } = this;
    return { originalMaxAge, partitioned, priority, expires, secure, httpOnly, domain, path, sameSite };
  }

  toJSON() {
    return this.data;
  }

  #milliseconds(name) {
    const value = this.#attribute(name) ?? null;
    if (value === null) return null;
    if (isExact(value)) return Number(value);
    throw new SessionError('invalid', `cookie.${name} is ${value}, which a JavaScript number cannot hold exactly`);
  }

  #attribute(name) {
    return askSession('session cookie', () => this.#host.cookie())[name];
  }

  static {
    for (const name of FIXED) {
      Object.defineProperty(SessionCookie.prototype, name, {
        configurable: true,
        enumerable: true,
        get() {
          return this.#attribute(name) ?? undefined;
        },
        set() {
          throw new SessionError('invalid', `cookie.${name} is the host's to set: [session.cookie] in its configuration`);
        },
      });
    }
  }
}

// `req.session.cookie`: the attributes that the host gives the session's cookie. It never contains the cookie's value.

import { SessionError, askSession } from './errors.js';
import { isExact } from './json.js';

const FIXED = ['path', 'domain', 'httpOnly', 'secure', 'sameSite', 'partitioned', 'priority'];

/** express-session's `Cookie`. A guest can only change its lifetime. */
export class SessionCookie {
  #host;

  constructor(host) {
    this.#host = host;
  }

  /** Milliseconds until the cookie expires; `null` if it lasts until the browser is closed. Setting it starts a lifetime of that length. */
  get maxAge() {
    const expires = this.#milliseconds('expires');
    return expires === null ? null : expires - Date.now();
  }

  set maxAge(milliseconds) {
    // Express accepts `false` for "until the browser is closed" too.
    const lifetime = milliseconds === undefined || milliseconds === false ? null : milliseconds;
    if (lifetime !== null && !isExact(lifetime)) {
      throw new SessionError('invalid', `cookie.maxAge: ${String(milliseconds)} is neither a whole number of milliseconds nor null`);
    }
    askSession('cookie.maxAge', () => this.#host.setMaxAge(lifetime === null ? null : Number(lifetime)));
  }

  /** The lifetime that each use of the session starts again, in milliseconds; `null` means until the browser is closed. */
  get originalMaxAge() {
    return this.#milliseconds('originalMaxAge');
  }

  set originalMaxAge(milliseconds) {
    this.maxAge = milliseconds;
  }

  /** The time when the cookie expires; `null` means when the browser is closed. */
  get expires() {
    const expires = this.#milliseconds('expires');
    return expires === null ? null : new Date(expires);
  }

  set expires(at) {
    const end = at === null || at === undefined || at === false ? null : new Date(at).getTime();
    this.maxAge = end === null ? null : end - Date.now();
  }

  /** All attributes, with the names and in the order of express-session. */
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
          throw new SessionError('invalid', `cookie.${name} can only be set by the host: [session.cookie] in its configuration`);
        },
      });
    }
  }
}

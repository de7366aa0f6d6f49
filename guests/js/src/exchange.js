// One request and what belongs to it: the session and the cookies. Both kinds of handlers stand on this.

import { RequestCookies } from './cookies.js';
import { SessionError } from './errors.js';
import { liveSession } from './live-session.js';
import { Session } from './session.js';

/** The session and cookies of one request. `host` has the interfaces `session` and `cookies`. */
export class Exchange {
  #live;

  constructor(host) {
    this.host = host;
    this.session = new Session(host.session);
    this.cookies = new RequestCookies(host.cookies);
  }

  /** What stands in `req.session`: the live object; `undefined` after `destroy`, `null` after it was set to null. */
  get live() {
    if (this.session.state === 'destroyed') return undefined;
    if (this.session.state === 'unset') return null;
    this.#live ??= liveSession(this.session, () => (this.#live = undefined));
    return this.#live;
  }

  set live(value) {
    if (value === this.#live && value !== undefined) return;
    if (value !== null && value !== undefined) {
      throw new SessionError('invalid', '`req.session` can only be set to null: write its properties instead');
    }
    this.session.unset();
  }

  /** Says in the log what came too late and could not be refused when it was done. */
  reportLateChanges() {
    for (const key of this.session.lateChanges()) {
      console.error(`session key \`${key}\` was changed after the response had been sent: the change is lost`);
    }
  }
}

const exchanges = new WeakMap();

/** Remembers which exchange a request of either kind belongs to. */
export function belongs(request, exchange) {
  exchanges.set(request, exchange);
}

/** The exchange of a request: Express's `req`, a fetch-style `Request`, or a Hono context. */
export function exchangeOf(request) {
  const found = exchanges.get(request) ?? exchanges.get(request?.req?.raw) ?? exchanges.get(request?.raw);
  if (found) return found;
  throw new TypeError('this is no request that a guest was given: pass `req`, the `Request`, or the context');
}

// One request and what belongs to it: the session and the cookies. Both kinds of handlers stand on this.

import { RequestCookies } from './cookies.js';
import { SessionError } from './errors.js';
import { liveSession } from './live-session.js';
import { Session } from './session.js';
import { traced } from './trace.js';

/** The session and cookies of one request. `host` has the interfaces `session` and `cookies`. */
export class Exchange {
  #live;
  #fail;
  #isAnswered = false;

  /** Rejects at an error that a callback threw which nobody awaits, for the request must not wait without end then. */
  failure = new Promise((_, reject) => (this.#fail = reject));

  /** Cuts off an answer whose head has left. Express's answers put theirs in its place. */
  cut = () => {};

  constructor(host) {
    this.host = host;
    this.session = new Session(host.session);
    this.cookies = new RequestCookies(host.cookies);
    this.failure.catch(() => {});
  }

  /** The answer's head leaves. */
  answered() {
    this.#isAnswered = true;
  }

  /** Ends the request with an error that nobody awaits: by 500, or by cutting the answer if its head has left. */
  fail(error) {
    if (!this.#isAnswered) return this.#fail(error);
    console.error(traced(error));
    this.cut();
  }

  /** What stands in `req.session`: the live object; `undefined` after `destroy`, `null` after it was set to null. */
  get live() {
    if (this.session.state === 'destroyed') return undefined;
    if (this.session.state === 'unset') return null;
    this.#live ??= liveSession(
      this.session,
      () => (this.#live = undefined),
      (error) => this.fail(error),
    );
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

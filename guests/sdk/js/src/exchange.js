// One request with its session and its cookies. Both kinds of handlers use it.

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

  /** Rejects with an error that a callback threw and that no code awaits. Without it, the request would wait forever. */
  failure = new Promise((_, reject) => (this.#fail = reject));

  /** Cuts off a response whose head has been sent. Express responses replace this function. */
  cut = () => {};

  constructor(host) {
    this.host = host;
    this.session = new Session(host.session);
    this.cookies = new RequestCookies(host.cookies);
    this.failure.catch(() => {});
  }

  /** Records that the response's head has been sent. */
  answered() {
    this.#isAnswered = true;
  }

  /** Ends the request with an error that no code awaits: with a 500, or by cutting off the response if its head has been sent. */
  fail(error) {
    if (!this.#isAnswered) return this.#fail(error);
    console.error(traced(error));
    this.cut();
  }

  /** The value of `req.session`: the live object; `undefined` after `destroy`, `null` after it was set to null. */
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

  /** Logs the changes that were made too late and that could not be refused when they were made. */
  reportLateChanges() {
    for (const key of this.session.lateChanges()) {
      console.error(`session key \`${key}\` was changed after the response had been sent: the change is lost`);
    }
  }
}

const exchanges = new WeakMap();

/** Records the exchange that a request of either kind belongs to. */
export function belongs(request, exchange) {
  exchanges.set(request, exchange);
}

/** Returns the exchange of a request: Express's `req`, a fetch-style `Request`, or a Hono context. */
export function exchangeOf(request) {
  const found = exchanges.get(request) ?? exchanges.get(request?.req?.raw) ?? exchanges.get(request?.raw);
  if (found) return found;
  throw new TypeError('this is not a request that a guest has received: pass `req`, the `Request`, or the context');
}

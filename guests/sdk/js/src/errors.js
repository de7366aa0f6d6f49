// The errors that reach a handler. Depends on the errors that the host's interfaces throw, but not on requests.

// Statuses of the refusals that are not mistakes of the guest. All other refusals have status 500.
const STATUS = { 'too-large': 413, unavailable: 503 };

/**
 * Error thrown when a call on the session is refused. A refused call has changed nothing.
 *
 * `code` is `denied`, `invalid`, `too-large`, `committed` or `unavailable`, as in `session.wit`. `status` is the status of
 * Express's response unless an error handler sends another one.
 */
export class SessionError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'SessionError';
    this.code = code;
    this.status = STATUS[code] ?? 500;
  }
}

/** Error thrown when a cookie is refused. `code` is `denied` or `invalid`, as in `cookies.wit`. */
export class CookieError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'CookieError';
    this.code = code;
  }
}

/** Calls the host's session. An error that it throws becomes a `SessionError` whose message begins with `what`. */
export function askSession(what, call) {
  try {
    return call();
  } catch (error) {
    const refusal = error?.payload;
    if (typeof refusal?.tag !== 'string') throw error;
    throw new SessionError(refusal.tag, sessionMessage(what, refusal), { cause: error });
  }
}

/** Calls the host's cookies. An error that they throw becomes a `CookieError`. */
export function askCookies(name, call) {
  try {
    return call();
  } catch (error) {
    const refusal = error?.payload;
    if (typeof refusal?.tag !== 'string') throw error;
    throw new CookieError(refusal.tag, `cookie \`${name}\`: ${refusal.val}`, { cause: error });
  }
}

function sessionMessage(what, { tag, val }) {
  switch (tag) {
    case 'too-large':
      return `${what}: the session would exceed its limit of ${val} bytes`;
    case 'committed':
      return `${what}: the response has been sent, so the session is read-only`;
    default:
      return `${what}: ${val}`;
  }
}

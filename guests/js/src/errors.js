// The errors that reach a handler. Knows what the host's interfaces throw; knows nothing of requests.

// What a visitor can know of a refusal. The rest are mistakes of the guest.
const STATUS = { 'too-large': 413, unavailable: 503 };

/**
 * Why a call on the session was refused. A refused call has changed nothing.
 *
 * `code` is `denied`, `invalid`, `too-large`, `committed` or `unavailable`, as in `session.wit`. `status` is what Express answers
 * with if no error handler does otherwise.
 */
export class SessionError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'SessionError';
    this.code = code;
    this.status = STATUS[code] ?? 500;
  }
}

/** Why a cookie was refused: `code` is `denied` or `invalid`, as in `cookies.wit`. */
export class CookieError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = 'CookieError';
    this.code = code;
  }
}

/** Calls the host's session; what it throws becomes a `SessionError` that says what it was about. */
export function askSession(what, call) {
  try {
    return call();
  } catch (error) {
    const refusal = error?.payload;
    if (typeof refusal?.tag !== 'string') throw error;
    throw new SessionError(refusal.tag, sessionMessage(what, refusal), { cause: error });
  }
}

/** Calls the host's cookies; what it throws becomes a `CookieError`. */
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
      return `${what}: the session would pass its limit of ${val} bytes`;
    case 'committed':
      return `${what}: the response has been sent, so the session is read-only`;
    default:
      return `${what}: ${val}`;
  }
}

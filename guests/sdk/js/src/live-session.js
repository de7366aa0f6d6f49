// `req.session`: an object whose properties are the session's entries, together with express-session's methods. Depends only on
// `Session`.

import { SessionError } from './errors.js';
import { SessionCookie } from './session-cookie.js';

// JavaScript itself reads these properties of any object: `await` and `return` read the first one, `JSON.stringify` the second.
// Reading them as entries would be a read that the guest author has not written.
const ASKED_BY_JAVASCRIPT = new Set(['then', 'toJSON']);

const STALE = 'this session object is from before `regenerate`: read the values you need before it, and use `req.session` after it';

/**
 * Returns the live object for a `Session`.
 *
 * `renewed` is called when `regenerate` has created another session, so that a new live object replaces this one. `failed`
 * receives the error that a callback threw, because no other code catches it.
 */
export function liveSession(session, renewed = () => {}, failed = () => {}) {
  let isStale = false;
  const current = () => {
    if (isStale) throw new SessionError('invalid', STALE);
    return session;
  };
  const retire = () => {
    isStale = true;
    renewed();
  };
  const methods = expressMethods(current, retire, failed);
  return new Proxy({}, handlers(current, methods));
}

/** Returns express-session's methods. The host answers at once, so each method has done its work when it returns. */
function expressMethods(current, retire, failed) {
  const once = (work) =>
    function (callback) {
      return finish(this, callback, work, failed);
    };
  const methods = {
    save: once(() => current().save()),
    reload: once(() => current().reload()),
    destroy: once(() => current().destroy()),
    regenerate: once(() => {
      current().regenerate();
      retire();
    }),
    touch() {
      current().touch();
      return this;
    },
    resetMaxAge() {
      current().touch();
      return this;
    },
  };
  return Object.assign(Object.create(null), methods);
}

/**
 * Runs `work`. With a callback, its error is passed to the callback, as in Express. Without a callback, the error is thrown at
 * once: the error of a promise that is not awaited would be lost, and `await` treats a thrown error like a rejection.
 */
function finish(session, callback, work, failed) {
  if (typeof callback !== 'function') {
    work();
    return Promise.resolve();
  }
  let failure;
  try {
    work();
  } catch (error) {
    failure = error;
  }
  queueMicrotask(async () => {
    try {
      await callback(failure);
    } catch (error) {
      failed(error);
    }
  });
  return session;
}

function handlers(current, methods) {
  const isInherited = (key) => key in Object.prototype;
  const isTaken = (key) => key in methods || key === 'cookie' || key === 'id';
  const isEntry = (key) => !ASKED_BY_JAVASCRIPT.has(key) && current().has(key);
  const read = (key) => {
    if (typeof key === 'symbol') return undefined;
    if (key in methods) return methods[key];
    if (key === 'cookie') return current().cookie;
    if (key === 'id') return current().fingerprint;
    if (ASKED_BY_JAVASCRIPT.has(key)) return undefined;
    if (isInherited(key)) return Object.prototype[key];
    return current().get(key);
  };
  const write = (key, value) => {
    // JSON has no symbols: Express would keep the value for this request and store nothing.
    if (typeof key === 'symbol') throw new SessionError('invalid', 'a session has no symbols: its keys are texts');
    // `{ ...req.session }` contains this property too, and may be written back as a whole.
    if (key === 'cookie' && value instanceof SessionCookie) return true;
    if (isTaken(key)) {
      throw new SessionError('invalid', `session key \`${key}\`: express-session uses this name itself`);
    }
    if (ASKED_BY_JAVASCRIPT.has(key)) {
      throw new SessionError('invalid', `session key \`${key}\`: JavaScript asks every object for it, so it is never read as an entry`);
    }
    current().set(key, value);
    return true;
  };
  const descriptor = (value, enumerable) => ({ value, enumerable, writable: true, configurable: true });
  return {
    get: (_, key) => read(key),
    set: (_, key, value) => write(key, value),
    has: (_, key) => typeof key === 'string' && (isTaken(key) || isInherited(key) || isEntry(key)),
    deleteProperty(_, key) {
      if (typeof key === 'string') current().delete(key);
      return true;
    },
    ownKeys: () => ['cookie', ...current().keys()],
    getOwnPropertyDescriptor(_, key) {
      if (typeof key === 'symbol') return undefined;
      if (key === 'cookie') return descriptor(current().cookie, true);
      if (key in methods || key === 'id') return descriptor(read(key), false);
      const value = isInherited(key) ? undefined : read(key);
      return value === undefined ? undefined : descriptor(value, true);
    },
    defineProperty(_, key, descriptor) {
      if (!('value' in descriptor)) {
        const why = 'an entry is a value: it has no accessor, and cannot be made read-only';
        throw new SessionError('invalid', `session key \`${String(key)}\`: ${why}`);
      }
      return write(key, descriptor.value);
    },
    preventExtensions: () => {
      throw new SessionError('invalid', 'a session cannot be frozen');
    },
  };
}

// Freezing of what a session handed out, so that a late change throws instead of being lost. Knows nothing of sessions.

const frozenHere = new WeakSet();

/** Freezes what a JSON text can hold, however deep. What freezes only in part (a Date) is left as it is. */
export function deepFreeze(value) {
  if (typeof value !== 'object' || value === null || frozenHere.has(value) || !isPlain(value)) return;
  frozenHere.add(value);
  Object.freeze(value);
  for (const inner of Object.values(value)) deepFreeze(inner);
}

/**
 * The value with copies, which can be changed, of all that `deepFreeze` has frozen in it: that was out of date rather than meant to be
 * constant. What it has not frozen stays the object that it is.
 */
export function thawed(value, seen = new Map()) {
  if (typeof value !== 'object' || value === null || !isPlain(value)) return value;
  if (seen.has(value)) return seen.get(value);
  const isOutOfDate = frozenHere.has(value);
  const mine = isOutOfDate ? (Array.isArray(value) ? [] : {}) : value;
  seen.set(value, mine);
  for (const [key, inner] of Object.entries(value)) {
    const own = thawed(inner, seen);
    // Defined, not assigned: `__proto__` is a key like any other.
    if (!isOutOfDate && own === inner) continue;
    Reflect.defineProperty(mine, key, { value: own, enumerable: true, writable: true, configurable: true });
  }
  return mine;
}

function isPlain(value) {
  return !ArrayBuffer.isView(value) && typeof value.toJSON !== 'function';
}

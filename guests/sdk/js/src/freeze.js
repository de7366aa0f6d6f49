// Freezes the values that a session has returned, so that a late change throws instead of being lost. Independent of sessions.

const frozenHere = new WeakSet();

/** Freezes values that a JSON text can contain, at any depth. A value that can only be frozen in part (a Date) is not changed. */
export function deepFreeze(value) {
  if (typeof value !== 'object' || value === null || frozenHere.has(value) || !isPlain(value)) return;
  frozenHere.add(value);
  Object.freeze(value);
  for (const inner of Object.values(value)) deepFreeze(inner);
}

/**
 * Returns the value with mutable copies of all parts that `deepFreeze` has frozen. Such a part was frozen because it was out of
 * date, and not because it was meant to be constant. Parts that `deepFreeze` has not frozen stay the same objects.
 */
export function thawed(value, seen = new Map()) {
  if (typeof value !== 'object' || value === null || !isPlain(value)) return value;
  if (seen.has(value)) return seen.get(value);
  const isOutOfDate = frozenHere.has(value);
  const mine = isOutOfDate ? (Array.isArray(value) ? [] : {}) : value;
  seen.set(value, mine);
  for (const [key, inner] of Object.entries(value)) {
    const own = thawed(inner, seen);
    // Defined, not assigned, because `__proto__` is a key like any other.
    if (!isOutOfDate && own === inner) continue;
    Reflect.defineProperty(mine, key, { value: own, enumerable: true, writable: true, configurable: true });
  }
  return mine;
}

function isPlain(value) {
  return !ArrayBuffer.isView(value) && typeof value.toJSON !== 'function';
}

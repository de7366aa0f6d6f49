// Freezing of what a session handed out, so that a late change throws instead of being lost. Knows nothing of sessions.

const frozenHere = new WeakSet();

/** Freezes what a JSON text can hold, however deep. What freezes only in part (a Date) is left as it is. */
export function deepFreeze(value) {
  if (typeof value !== 'object' || value === null || frozenHere.has(value) || !isPlain(value)) return;
  frozenHere.add(value);
  Object.freeze(value);
  for (const inner of Object.values(value)) deepFreeze(inner);
}

/** Whether `deepFreeze` has frozen it, so that it is out of date rather than meant to be constant. */
export function isOutOfDate(value) {
  return typeof value === 'object' && value !== null && frozenHere.has(value);
}

function isPlain(value) {
  return !ArrayBuffer.isView(value) && typeof value.toJSON !== 'function';
}

// JSON that loses no number: an integer that a JavaScript number cannot hold exactly is refused, in both directions. Independent
// of the host.

import { SessionError } from './errors.js';

// A text can contain a number that a JavaScript number cannot hold only if it has sixteen digits in a row, or an exponent.
const SUSPICIOUS = /\d{16}|\d[eE]/;
// Strings are matched so that the digits in them are skipped.
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

// Types that JSON would turn into an object without their contents.
const KINDS = [
  { is: (value) => value instanceof Map, instead: 'a plain object, or `[...map]`' },
  { is: (value) => value instanceof Set, instead: 'an array, `[...set]`' },
  { is: (value) => value instanceof WeakMap || value instanceof WeakSet, instead: 'the values that it should remember' },
  { is: (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value), instead: 'a text, such as base64, or `[...bytes]`' },
];

/**
 * Parses a JSON text.
 *
 * Throws a `SessionError` (`invalid`) that names `what` if a number in it, at any depth, would be rounded to another integer or
 * to infinity.
 */
export function parse(what, text) {
  if (SUSPICIOUS.test(text)) refuseInexact(what, text);
  return JSON.parse(text);
}

/**
 * Returns the JSON text of a value, as `JSON.stringify` does: `undefined` for values that JSON cannot express (`undefined`,
 * functions, symbols).
 *
 * Throws a `SessionError` (`invalid`) that names `what` for a cycle, for a BigInt, for an integer beyond 2^53-1 (a reader could
 * not distinguish it from its neighbours), and for values that JSON would turn into an empty object or `null`: a Map, bytes, NaN.
 */
export function stringify(what, value) {
  try {
    return JSON.stringify(value, (name, inner) => checked(what, name, inner));
  } catch (error) {
    if (error instanceof SessionError) throw error;
    throw new SessionError('invalid', `${what} is not JSON: ${error?.message ?? error}`, { cause: error });
  }
}

/** Returns whether a number or a BigInt is an integer that a number holds exactly. */
export function isExact(value) {
  return Number.isSafeInteger(typeof value === 'bigint' ? Number(value) : value);
}

function refuseInexact(what, text) {
  for (const [token] of text.matchAll(TOKENS)) {
    if (token.startsWith('"')) continue;
    const isFloat = /[.eE]/.test(token);
    if (isFloat ? Number.isFinite(Number(token)) : Number.isSafeInteger(Number(token))) continue;
    throw new SessionError('invalid', `${what} holds the number ${token}, which a JavaScript number cannot hold exactly`);
  }
}

function checked(what, name, value) {
  const where = name === '' ? what : `${what} (at \`${name}\`)`;
  if (typeof value === 'bigint') {
    throw new SessionError('invalid', `${where} is a BigInt, which JSON does not have: store a number or a text`);
  }
  // From 1e21 on, a number is written with an exponent, which shows that it is rounded.
  if (Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 1e21) {
    throw new SessionError('invalid', `${where} is an integer beyond 2^53-1, which would be rounded: store a text`);
  }
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new SessionError('invalid', `${where} is ${value}, which JSON does not have: store null or a text`);
  }
  const kind = KINDS.find(({ is }) => is(value));
  if (kind) throw new SessionError('invalid', `${where} holds a ${nameOf(value)}, which JSON does not have: store ${kind.instead}`);
  return value;
}

function nameOf(value) {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

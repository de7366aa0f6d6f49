// JSON that loses no number: an integer that a JavaScript number cannot hold is refused, in both directions.
// Knows nothing of the host.

import { SessionError } from './errors.js';

// Only such a text can hold a number that a JavaScript number cannot: sixteen digits in a row, or an exponent.
const SUSPICIOUS = /\d{16}|\d[eE]/;
// Strings are matched so that digits in them are passed over.
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

// JSON would make an object without any of the contents of these.
const KINDS = [
  { is: (value) => value instanceof Map, instead: 'a plain object, or `[...map]`' },
  { is: (value) => value instanceof Set, instead: 'an array, `[...set]`' },
  { is: (value) => value instanceof WeakMap || value instanceof WeakSet, instead: 'what it is to remember' },
  { is: (value) => value instanceof ArrayBuffer || ArrayBuffer.isView(value), instead: 'a text, such as base64, or `[...bytes]`' },
];

/**
 * The value of a JSON text.
 *
 * Throws a `SessionError` (`invalid`) that names `what` if a number in it, however deep, would be rounded to another
 * integer or to infinity.
 */
export function parse(what, text) {
  if (SUSPICIOUS.test(text)) refuseInexact(what, text);
  return JSON.parse(text);
}

/**
 * The JSON text of a value as `JSON.stringify` gives it: `undefined` for what JSON cannot express (`undefined`, functions,
 * symbols).
 *
 * Throws a `SessionError` (`invalid`) that names `what` for a cycle, a BigInt, an integer beyond 2^53-1 (the next reader could
 * not tell it from its neighbours), and what JSON would make an empty object or `null` of: a Map, bytes, NaN.
 */
export function stringify(what, value) {
  try {
    return JSON.stringify(value, (name, inner) => checked(what, name, inner));
  } catch (error) {
    if (error instanceof SessionError) throw error;
    throw new SessionError('invalid', `${what} is no JSON: ${error?.message ?? error}`, { cause: error });
  }
}

/** Whether a number or a BigInt is an integer that a number holds exactly. */
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
  // From 1e21 on a number is written with an exponent: it says by itself that it is rounded.
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

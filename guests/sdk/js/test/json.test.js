// Numbers that would be rounded are refused. All other values behave as with `JSON`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parse, stringify } from '../src/json.js';

test('an unsafe integer is found however deep, and never inside a text', () => {
  for (const text of ['9007199254740992', '{"a":[{"b":-9007199254740993}]}', '12345678901234567890', '1e400', '-1E999']) {
    assert.throws(() => parse('key', text), /^SessionError: key holds the number/, text);
  }
  const texts = ['"9007199254740993"', '{"\\"9007199254740993":1}'];
  const exact = ['9007199254740991', '-9007199254740991', '1.5e300', '0.12345678901234567', ...texts];
  for (const text of exact) {
    assert.deepEqual(parse('key', text), JSON.parse(text));
  }
});

test('what JSON would empty without a word is refused, with its name and what to store instead', () => {
  const values = [new Map([[1, 2]]), new Set([1]), new WeakMap(), new WeakSet(), new Uint8Array(2), new ArrayBuffer(2)];
  for (const value of values) {
    const { name } = value.constructor;
    const said = new RegExp(`^SessionError: key .* holds a ${name}, which JSON does not have: store `);
    assert.throws(() => stringify('key', { deep: [value] }), said);
  }
  for (const n of [NaN, Infinity, -Infinity]) {
    assert.throws(() => stringify('key', { n }), { code: 'invalid', message: /at `n`/ });
  }
});

test('what is written can be read again', () => {
  assert.equal(stringify('key', { a: [1, new Date(0)], b: undefined }), '{"a":[1,"1970-01-01T00:00:00.000Z"]}');
  assert.equal(stringify('key', () => {}), undefined);
  assert.equal(stringify('key', 1e300), '1e+300');
  assert.throws(() => stringify('key', { n: 2 ** 53 }), /key \(at `n`\)/);
  assert.throws(() => stringify('key', [5n]), /BigInt/);
  const cycle = {};
  cycle.self = cycle;
  assert.throws(() => stringify('key', cycle), /key is not JSON/);
});

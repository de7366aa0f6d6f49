// Tests of the globals of Node.js that packages use.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { process as own, setImmediate as ownSetImmediate } from '../src/node/process.js';

test('an error in what is done later is logged', async (t) => {
  const logged = t.mock.method(console, 'error', () => {});
  own.nextTick((text) => {
    throw new Error(text);
  }, 'thrown');
  ownSetImmediate(() => Promise.reject(new Error('rejected')));
  await new Promise((done) => setTimeout(done));
  const texts = logged.mock.calls.map(({ arguments: [text] }) => text.split('\n')[0]);
  assert.deepEqual(texts, ['Error: thrown', 'Error: rejected']);
});

// Run these tests with `cloakroom test`. Each test starts a host of its own.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startHost } from 'cloakroom/testing';

test('each visitor is counted apart', async (t) => {
  const host = await startHost(t);
  const [anna, bela] = [host.visitor(), host.visitor()];
  assert.equal((await anna.get('/session')).text, '1번 접속');
  assert.equal((await anna.get('/session')).text, '2번 접속');
  assert.equal((await bela.get('/session')).text, '1번 접속');
});

test('deleting the session starts the count afresh', async (t) => {
  const host = await startHost(t);
  const anna = await host.visitor({ num: 41 });
  assert.equal((await anna.get('/session')).text, '42번 접속');
  assert.equal((await anna.get('/session/delete', { follow: true })).text, '1번 접속');
});

test('a visit at the same moment is not lost', async (t) => {
  const host = await startHost(t);
  const anna = await host.visitor({ num: 1 });
  await host.rival({ set: { num: 10 } });
  assert.equal((await anna.get('/session')).text, '11번 접속');
});

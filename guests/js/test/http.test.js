// The answer under construction that Express writes to.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IncomingMessage, ServerResponse } from '../src/node/http.js';

function answering() {
  const request = new IncomingMessage({ method: 'GET', target: '/', headers: [], isSecure: false, readBody: async () => new Uint8Array(0) });
  return new ServerResponse(request);
}

test('a destroyed connection breaks a stream off after what was written', async () => {
  const res = answering();
  res.setHeader('content-type', 'text/event-stream');
  res.write('first');
  res.socket.destroy();
  const chunks = [];
  const reading = async () => {
    for await (const chunk of res.handOver().body) chunks.push(String(chunk));
  };
  await assert.rejects(reading, /the connection was destroyed/);
  assert.deepEqual(chunks, ['first']);
});

test('a connection destroyed before the head is told, and after the end it changes nothing', async () => {
  const early = answering();
  const told = new Promise((done) => early.once('broken', done));
  const reason = new Error('given up');
  early.destroy(reason);
  assert.equal(await told, reason);

  const late = answering();
  late.once('broken', () => assert.fail('it has ended'));
  late.end('whole');
  late.destroy();
  assert.equal(String(late.handOver().body), 'whole');
});

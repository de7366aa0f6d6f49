// Tests of the response under construction that Express writes to.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IncomingMessage, ServerResponse } from '../src/node/http.js';

function answering() {
  const readBody = async () => new Uint8Array(0);
  const request = new IncomingMessage({ method: 'GET', target: '/', headers: [], isSecure: false, readBody });
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

test('what ends an answer a second time is ignored, and its callback told', async () => {
  const res = answering();
  res.end('first');
  const error = await new Promise((done) => res.end('second', done));
  assert.equal(error.code, 'ERR_STREAM_ALREADY_FINISHED');
  assert.equal(String(res.handOver().body), 'first');
});

test('an answer that has no body in HTTP is handed over without what was written', () => {
  for (const status of [103, 204, 304]) {
    const res = answering();
    res.writeHead(status, { 'Content-Length': 4, ETag: '"a"' }).end('body');
    const { headers, body } = res.handOver();
    assert.deepEqual({ headers, length: body.length }, { headers: [['ETag', '"a"']], length: 0 });
  }
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

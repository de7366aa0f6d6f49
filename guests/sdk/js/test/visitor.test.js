// Tests of a visitor's cookie jar in `cloakroom/testing`.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { startHost } from '../testing/index.js';
import { Visitor } from '../testing/visitor.js';

async function serving(t, handle) {
  const server = createServer(handle);
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

test('cookies are sent until they expire by the clock of the host', async (t) => {
  const url = await serving(t, (req, res) => {
    if (req.url === '/set') res.setHeader('set-cookie', ['a=1; Max-Age=60; Path=/', 'b=2', 'c=3; Expires=Thu, 01 Jan 1970 00:10:00 GMT']);
    res.end(req.headers.cookie ?? 'none');
  });
  let now = 0;
  const visitor = new Visitor(url, () => now, 'z=0');
  assert.equal((await visitor.get('/set')).text, 'z=0');
  assert.equal((await visitor.get('/')).text, 'z=0; a=1; b=2; c=3');
  now = 61_000;
  assert.equal((await visitor.get('/')).text, 'z=0; b=2; c=3');
  now = 600_000;
  assert.deepEqual(visitor.cookies, { z: '0', b: '2' });
});

test('a redirect is followed only if asked, and a form is sent as one', async (t) => {
  const url = await serving(t, async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    if (req.url === '/form') return res.writeHead(303, { location: `/done?${body}` }).end();
    res.end(req.url);
  });
  const visitor = new Visitor(url, () => 0);
  assert.equal((await visitor.post('/form', { form: { a: 'b c' } })).status, 303);
  assert.equal((await visitor.post('/form', { form: { a: 'b c' }, follow: true })).text, '/done?a=b+c');
});

test('a redirect is resolved against where it came from, keeps what 307 keeps, and never leaves the host', async (t) => {
  const url = await serving(t, async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    const redirects = {
      '/shop/cart': [302, 'list?all'],
      '/old': [307, '/new'],
      '/older': [308, '/old'],
      '/away': [302, 'http://127.0.0.1:9/'],
    };
    const to = redirects[req.url];
    if (to) return res.writeHead(to[0], { location: to[1] }).end();
    res.end(`${req.method} ${req.url} ${body}`);
  });
  const visitor = new Visitor(url, () => 0);
  const text = async (path) => (await visitor.post(path, { body: 'kept', follow: true })).text;
  assert.equal(await text('/shop/cart'), 'GET /shop/list?all ');
  assert.equal(await text('/older'), 'POST /new kept');
  assert.equal((await visitor.get('/away', { follow: true })).status, 302);
});

test('outside of `cloakroom test` it says how to run the tests', async () => {
  delete process.env.CLOAKROOM_TEST_URL;
  await assert.rejects(startHost(), /run these tests with `cloakroom test`/);
});

test('a host that is started serves under the control server, and ends with the test', async (t) => {
  const calls = [];
  process.env.CLOAKROOM_TEST_URL = await serving(t, async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    calls.push(`${req.method} ${req.url} ${body}`.trim());
    const answers = {
      '/hosts': { host: 1, url: 'http://127.0.0.1:9' },
      '/hosts/1/sessions': { cookie: 'sid=1' },
      '/hosts/1/clock': { now_ms: 5 },
    };
    if (req.url === '/hosts/1/swap') return res.writeHead(422).end('{"error":"it is no component"}');
    res.end(answers[req.url] ? JSON.stringify(answers[req.url]) : '');
  });
  t.after(() => delete process.env.CLOAKROOM_TEST_URL);
  await t.test('a test of a guest', async (inner) => {
    const host = await startHost(inner);
    assert.deepEqual((await host.visitor({ user: 'ada' })).cookies, { sid: '1' });
    await host.rival({ set: { n: 1 } });
    await host.store.down();
    await assert.rejects(host.swap({ component: 'x.wasm' }), /it is no component/);
  });
  assert.deepEqual(calls, [
    'POST /hosts',
    'GET /hosts/1/clock',
    'POST /hosts/1/sessions {"data":{"user":"ada"}}',
    'POST /hosts/1/rivals {"set":{"n":1}}',
    'PUT /hosts/1/store {"up":false}',
    'POST /hosts/1/swap {"component":"x.wasm"}',
    'DELETE /hosts/1',
  ]);
});

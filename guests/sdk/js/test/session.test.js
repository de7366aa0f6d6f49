// Tests of the calls that `req.session` makes to the host, and of the changes that it detects itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SessionError } from '../src/errors.js';
import { Exchange } from '../src/exchange.js';
import { standIn } from './stand-in.js';

function opened(entries) {
  const { session, stored, calls } = standIn(entries);
  const exchange = new Exchange({ session, cookies: {} });
  return { exchange, stored, calls, live: exchange.live };
}

const refused = (code) => (error) => error instanceof SessionError && error.code === code;

test('reading a property reads that key alone, and once', () => {
  const { live, calls } = opened({ a: '1', b: '2' });
  assert.equal(live.a + live.a, 2);
  assert.deepEqual(calls, ['get a']);
});

test('nothing is written that was not changed, however it is spelled', () => {
  const { exchange, live, calls } = opened({ a: '{"n": 1.0, "t": "\\u00e9"}' });
  assert.equal(live.a.t, 'é');
  exchange.session.send();
  assert.deepEqual(calls, ['get a']);
});

test('a change inside a value is written when the answer leaves', () => {
  const { exchange, live, stored } = opened({ cart: '{"items":[]}' });
  live.cart.items.push('fig');
  assert.equal(stored.get('cart'), '{"items":[]}');
  exchange.session.send();
  assert.equal(stored.get('cart'), '{"items":["fig"]}');
});

test('a value that was assigned goes on being watched', () => {
  const { exchange, live, stored } = opened();
  const cart = { items: [] };
  live.cart = cart;
  cart.items.push('fig');
  exchange.session.send();
  assert.equal(stored.get('cart'), '{"items":["fig"]}');
  assert.throws(() => cart.items.push('late'), TypeError);
});

test('it is an object in every way that JavaScript asks', () => {
  const { live } = opened({ a: '1', b: '{"c":2}' });
  assert.deepEqual(Object.keys(live), ['cookie', 'a', 'b']);
  assert.equal('a' in live, true);
  assert.equal('x' in live, false);
  assert.equal(live.hasOwnProperty('b'), true);
  assert.deepEqual({ ...live }.b, { c: 2 });
  assert.equal(JSON.parse(JSON.stringify(live)).a, 1);
  delete live.a;
  assert.deepEqual(Object.keys(live), ['cookie', 'b']);
});

test('a read before the answer is not a write after it', () => {
  const { exchange, live } = opened({ cart: '{"items":[]}', other: '{"n":[]}' });
  const { items } = live.cart;
  exchange.session.send();
  assert.throws(() => items.push(1), TypeError);
  assert.throws(() => (live.x = 1), refused('committed'));
  assert.throws(() => live.other.n.push(1), TypeError);
  assert.throws(() => delete live.cart, refused('committed'));
});

test('the methods of express-session are no entries, and their names are refused', () => {
  const { live, calls } = opened();
  for (const name of ['save', 'cookie', 'id', 'touch']) assert.throws(() => (live[name] = 1), refused('invalid'));
  assert.equal(typeof live.save, 'function');
  assert.deepEqual(calls, []);
});

test('to await or return the session object costs no call, and what JavaScript asks for is no entry', async () => {
  const { live, calls } = opened({ then: '1', toJSON: '2' });
  assert.equal(await live, live);
  assert.equal(await (async () => live)(), live);
  assert.deepEqual([live.then, live.toJSON, 'then' in live], [undefined, undefined, false]);
  for (const name of ['then', 'toJSON']) assert.throws(() => (live[name] = () => {}), refused('invalid'));
  assert.deepEqual(calls, []);
});

test('a copy of the whole session can be put back, and its cookie stays the host\'s', () => {
  const { live, calls } = opened({ a: '1' });
  Object.assign(live, { ...live, b: 2 });
  assert.deepEqual(calls.filter((call) => call.startsWith('set')), ['set a', 'set b']);
  assert.throws(() => (live.cookie = { maxAge: 1 }), refused('invalid'));
});

test('an entry that is defined without a value is refused, and keeps its value', () => {
  const { live, stored } = opened({ a: '1' });
  assert.throws(() => Object.defineProperty(live, 'a', { writable: false }), refused('invalid'));
  assert.throws(() => Object.defineProperty(live, 'a', { get: () => 2 }), refused('invalid'));
  assert.equal(stored.get('a'), '1');
  Object.defineProperty(live, 'a', { value: 2, enumerable: true, writable: true, configurable: true });
  assert.equal(stored.get('a'), '2');
});

test('a key with half of a letter is refused, because the host would take it for another', () => {
  const { exchange, live, calls } = opened();
  const uses = [() => live['\ud800'], () => (live['\ud800'] = 1), () => delete live['\ud800']];
  for (const use of uses) assert.throws(use, refused('invalid'));
  assert.throws(() => exchange.session.add('\ud800'), refused('invalid'));
  assert.deepEqual(calls, []);
});

test('a refusal says which key, and leaves the other changes in place', () => {
  const { exchange, live, stored } = opened({ denied: '{"n":[]}', cart: '[]' });
  live.denied.n.push(1);
  live.cart.push(1);
  assert.throws(() => exchange.session.send(), /session key `denied`: no grant/);
  assert.equal(stored.get('cart'), '[1]');
  exchange.session.send();
  assert.equal(stored.get('denied'), '{"n":[]}');
});

test('an error goes to the callback, and without one it is thrown', async () => {
  const { exchange, live } = opened();
  await live.destroy();
  assert.equal(exchange.live, undefined);
  assert.throws(() => live.save(), refused('invalid'));
  const told = await new Promise((done) => live.save(done));
  assert.ok(refused('invalid')(told));
});

test('an error thrown in a callback fails the request, and after the answer it is logged and cuts it', async (t) => {
  const { exchange, live } = opened();
  live.save(() => {
    throw new Error('thrown');
  });
  await assert.rejects(exchange.failure, /thrown/);
  live.save(async () => {
    throw new Error('late');
  });
  const logged = t.mock.method(console, 'error', () => {});
  const cut = new Promise((done) => (exchange.cut = done));
  exchange.answered();
  await cut;
  assert.match(logged.mock.calls[0].arguments[0], /late/);
});

test('a refusal has the status that Express answers with', () => {
  const status = ['too-large', 'unavailable', 'invalid', 'committed'].map((code) => new SessionError(code, '').status);
  assert.deepEqual(status, [413, 503, 500, 500]);
});

test('increment writes what was changed before it, and adds nothing that it would have to round', () => {
  const { exchange, stored } = opened({ big: '9007199254740991' });
  assert.equal(exchange.session.increment('n'), 1);
  assert.throws(() => exchange.session.increment('big'), refused('invalid'));
  assert.equal(stored.get('big'), '9007199254740991');
  assert.throws(() => exchange.session.increment('n', 0.5), refused('invalid'));
  assert.throws(() => exchange.session.increment('n', 2n ** 60n), refused('invalid'));
});

test('a value from before `regenerate` is a copy inside a new value as well, which goes on being watched', async () => {
  const { exchange, live, stored } = opened({ cart: '{"items":[{"n":1}]}' });
  const { cart } = live;
  await live.regenerate();
  const kept = { name: 'kept', carts: [cart] };
  exchange.live.kept = kept;
  kept.carts[0].items[0].n = 2;
  kept.name = 'changed';
  exchange.session.send();
  assert.equal(stored.get('kept'), '{"name":"changed","carts":[{"items":[{"n":2}]}]}');
  assert.deepEqual(cart, { items: [{ n: 1 }] });
});

test('a value from before `regenerate` can be put into the new session, and is a copy there', async () => {
  const { exchange, live, stored } = opened({ cart: '{"items":[]}' });
  const { cart } = live;
  await live.regenerate();
  exchange.live.cart = cart;
  exchange.live.cart.items.push(1);
  exchange.session.send();
  assert.equal(stored.get('cart'), '{"items":[1]}');
  assert.throws(() => live.cart, refused('invalid'));
});

// The guest on StarlingMonkey: a handler for WASI 0.2. Only this file depends on how componentize-js represents `wasi:http` 0.2.
// It responds through `incomingHandler`, because an instance can serve its `fetch` event only once.

import * as cookies from 'cloakroom:http/cookies@0.1.0';
import * as session from 'cloakroom:http/session@0.1.0';
import * as environment from 'wasi:cli/environment@0.2.10';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

import { setEnvironment } from '../node/process.js';
import { serve } from '../serve.js';
import { traced } from '../trace.js';
import { concat, fieldBytes, latin1, methodName } from './bytes.js';

// Maximum number of bytes in one `blocking-write-and-flush`.
const WRITE_BYTES_MAX = 4096;
const READ_BYTES = 65_536n;

/** Returns the interface to export as `incomingHandler`. `guest` is the guest author's module. */
export function handlerOf(guest) {
  setEnvironment(() => environment.getEnvironment());
  const answer = serve(guest, { session: withBigInts(session), cookies: cookiesWithBigInts(cookies) });
  return {
    async handle(request, out) {
      await respond(await answer(arrivedOf(request)), out);
    },
  };
}

/**
 * Adapts the session interface. The SDK passes numbers, and accepts numbers and BigInts as results. componentize-js 0.23.0
 * expects BigInts, and a negative BigInt terminates the guest. A negative amount is therefore added here, by reading and writing
 * the entry, so on this engine a subtraction with `add` counts as a read.
 */
function withBigInts(host) {
  return {
    ...host,
    add: (key, delta) => (delta < 0 ? void sum(host, key, delta) : host.add(key, BigInt(delta))),
    increment: (key, delta) => (delta < 0 ? sum(host, key, delta) : host.increment(key, BigInt(delta))),
    setMaxAge: (milliseconds) => host.setMaxAge(milliseconds === null ? undefined : past(milliseconds)),
  };
}

function sum(host, key, delta) {
  const text = host.get(key) ?? '0';
  if (!/^-?\d+$/.test(text)) throw refusal(`\`${key}\` is not an integer`);
  const whole = BigInt(text) + BigInt(delta);
  if (BigInt.asIntN(64, whole) !== whole) throw refusal(`\`${key}\`: the sum does not fit in 64 bits`);
  host.set(key, String(whole));
  return whole;
}

/** Returns an error of the same form as the host's own refusals. */
function refusal(val) {
  return Object.assign(new Error(val), { payload: { tag: 'invalid', val } });
}

/** Converts a time to a BigInt. A time before 1970 and a negative lifetime become zero, which is in the past as well. */
function past(milliseconds) {
  return BigInt(Math.max(0, milliseconds));
}

function cookiesWithBigInts(host) {
  const big = (value) => (value === null ? undefined : past(value));
  const absent = (value) => value ?? undefined;
  return {
    all: () => host.all(),
    serialize: (name, value, signed, { maxAge, expires, domain, path, sameSite, priority, ...flags }) =>
      host.serialize(name, value, signed, {
        ...flags,
        maxAge: big(maxAge),
        expires: big(expires),
        domain: absent(domain),
        path: absent(path),
        sameSite: absent(sameSite),
        priority: absent(priority),
      }),
  };
}

function arrivedOf(request) {
  return {
    method: methodName(request.method()),
    target: request.pathWithQuery() ?? '/',
    headers: request.headers().entries().map(([name, value]) => [name, latin1(value)]),
    isSecure: request.scheme()?.tag === 'HTTPS',
    authority: request.authority() ?? '',
    readBody: once(async () => readBody(request)),
  };
}

function readBody(request) {
  const body = request.consume();
  const stream = body.stream();
  const chunks = [];
  try {
    for (;;) chunks.push(stream.blockingRead(READ_BYTES));
  } catch (error) {
    // The end of a stream is reported as an error.
    if (error?.payload?.tag !== 'closed') throw new Error("the request's body broke off", { cause: error });
  } finally {
    stream[Symbol.dispose]();
  }
  return concat(chunks);
}

async function respond({ status, headers, body, finished }, out) {
  const response = new OutgoingResponse(Fields.fromList(headers.map(([name, value]) => [name, fieldBytes(value)])));
  response.setStatusCode(status);
  const outgoing = response.body();
  ResponseOutparam.set(out, { tag: 'ok', val: response });
  const stream = outgoing.write();
  let isWhole = false;
  try {
    if (body instanceof Uint8Array) write(stream, body);
    else for await (const chunk of body) write(stream, chunk);
    isWhole = true;
  } catch (error) {
    console.error(traced(error));
  }
  stream[Symbol.dispose]();
  // The host cuts off a body that is dropped before it is finished.
  if (isWhole) OutgoingBody.finish(outgoing, undefined);
  else outgoing[Symbol.dispose]();
  finished();
}

function write(stream, bytes) {
  for (let at = 0; at < bytes.length; at += WRITE_BYTES_MAX) {
    stream.blockingWriteAndFlush(bytes.subarray(at, at + WRITE_BYTES_MAX));
  }
}

function once(work) {
  let result;
  return () => (result ??= work());
}

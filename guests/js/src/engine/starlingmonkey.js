// The guest on StarlingMonkey: a handler of WASI 0.2. The only file that knows how componentize-js shows `wasi:http` 0.2.
// It answers through `incomingHandler`, because an instance can serve its `fetch` event only once.

import * as cookies from 'cloakroom:http/cookies@0.1.0';
import * as session from 'cloakroom:http/session@0.1.0';
import * as environment from 'wasi:cli/environment@0.2.10';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

import { setEnvironment } from '../node/process.js';
import { serve } from '../serve.js';
import { traced } from '../trace.js';
import { concat, fieldBytes, latin1, methodName } from './bytes.js';

// What one `blocking-write-and-flush` takes at most.
const WRITE_BYTES_MAX = 4096;
const READ_BYTES = 65_536n;

/** `guest` is the module that the author wrote; gives the interface to export as `incomingHandler`. */
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
 * The SDK hands in numbers, and takes numbers and BigInts. componentize-js 0.23.0 takes BigInts, and ends the guest over a negative
 * one, so what is to be subtracted is read and written here: then an `add` counts as a read.
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

/** As the host's own refusals look. */
function refusal(val) {
  return Object.assign(new Error(val), { payload: { tag: 'invalid', val } });
}

/** A time as a BigInt. Before 1970, and a lifetime below zero, are as much in the past as zero is. */
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
    // The end of a stream is told as an error.
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
  // A body that is dropped unfinished is cut off by the host.
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

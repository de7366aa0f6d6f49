// The guest on StarlingMonkey: a handler of WASI 0.2. The only file that knows how componentize-js shows `wasi:http` 0.2.
// It answers through `incomingHandler`, because an instance can serve its `fetch` event only once.

import * as cookies from 'cloakroom:http/cookies@0.1.0';
import * as session from 'cloakroom:http/session@0.1.0';
import * as environment from 'wasi:cli/environment@0.2.10';
import { Fields, OutgoingBody, OutgoingResponse, ResponseOutparam } from 'wasi:http/types@0.2.10';

import { setEnvironment } from '../node/process.js';
import { serve } from '../serve.js';
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
 * A 64-bit integer as the tools take it: a BigInt, a negative one by its two's complement (componentize-js 0.23.0 ends the guest
 * over a negative BigInt). What it gives back is read in the same way.
 */
const toHost = (number) => BigInt.asUintN(64, BigInt(number));
const fromHost = (big) => (typeof big === 'bigint' ? BigInt.asIntN(64, big) : big);

/** The SDK hands in numbers, and takes numbers and BigInts. */
function withBigInts(host) {
  return {
    ...host,
    add: (key, delta) => host.add(key, toHost(delta)),
    increment: (key, delta) => fromHost(host.increment(key, toHost(delta))),
    setMaxAge: (milliseconds) => host.setMaxAge(milliseconds === null ? undefined : toHost(milliseconds)),
    cookie() {
      const { originalMaxAge, expires, ...rest } = host.cookie();
      return { ...rest, originalMaxAge: fromHost(originalMaxAge), expires: fromHost(expires) };
    },
  };
}

function cookiesWithBigInts(host) {
  const big = (value) => (value === null ? undefined : toHost(value));
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
  if (body instanceof Uint8Array) write(stream, body);
  else for await (const chunk of body) write(stream, chunk);
  stream[Symbol.dispose]();
  OutgoingBody.finish(outgoing, undefined);
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

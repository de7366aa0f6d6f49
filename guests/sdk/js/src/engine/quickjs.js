// The guest on QuickJS: a handler for WASI 0.3. Only this file depends on how componentize-qjs represents `wasi:http` 0.3.

import * as cookies from 'cloakroom:http/cookies@0.1.0';
import * as session from 'cloakroom:http/session@0.1.0';
import * as environment from 'wasi:cli/environment@0.2.10';
import * as random from 'wasi:random/random@0.2.10';
import { Fields, Request, Response } from 'wasi:http/types@0.3.0';

import { setEnvironment } from '../node/process.js';
import { serve } from '../serve.js';
import { traced } from '../trace.js';
import { concat, fieldBytes, latin1, methodName } from './bytes.js';

const { RESULT_OPTION_OTHER_ERROR_CODE: TRAILERS, RESULT_VOID_ERROR_CODE: TAKEN } = wit.Future.types;

// QuickJS keeps ten frames by default, which do not reach from Express to the guest author's code.
Error.stackTraceLimit = 40;

/** Returns the interface to export as `handler`. `guest` is the guest author's module. */
export function handlerOf(guest) {
  setEnvironment(() => environment.getEnvironment());
  const answer = serve(guest, { session, cookies });
  let isSeeded = false;
  return {
    async handle(request) {
      if (!isSeeded) seed();
      isSeeded = true;
      return respond(await answer(arrivedOf(request)));
    },
  };
}

/** Seeds `Math.random` in each instance. QuickJS draws its seed when the guest is built, so all instances would draw the same numbers. */
function seed() {
  const state = new Uint32Array(new BigUint64Array([random.getRandomU64(), random.getRandomU64()].map(BigInt)).buffer);
  Math.random = () => {
    // xorshift128 (Marsaglia 2003), of which 53 bits are used. As everywhere, `Math.random` must not be used for secrets.
    return (next(state) * 2 ** 21 + (next(state) >>> 11)) / 2 ** 53;
  };
}

function next(state) {
  let t = state[3];
  t ^= t << 11;
  t ^= t >>> 8;
  state.copyWithin(1, 0, 3);
  state[0] = t ^ state[1] ^ (state[1] >>> 19);
  return state[0];
}

function arrivedOf(request) {
  const headers = request.getHeaders().copyAll();
  return {
    method: methodName(request.getMethod()),
    target: request.getPathWithQuery() ?? '/',
    headers: headers.map(([name, value]) => [name, latin1(value)]),
    isSecure: request.getScheme()?.tag === 'HTTPS',
    authority: request.getAuthority() ?? '',
    readBody: once(() => readBody(request)),
  };
}

async function readBody(request) {
  const taken = wit.Future.from({ tag: 'ok' }, TAKEN);
  const [stream, trailers] = Request.consumeBody(request, taken.readable);
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const end = await trailers.read();
  if (end?.tag === 'err') throw new Error(`the request's body broke off: ${end.val?.tag}`);
  return concat(chunks);
}

function respond({ status, headers, body, finished }) {
  const fields = Fields.fromList(headers.map(([name, value]) => [name, fieldBytes(value)]));
  const { readable, writable } = wit.Stream(wit.Stream.U8);
  const end = write(writable, body).finally(finished);
  const [response] = Response.new(fields, readable, wit.Future.from(end, TRAILERS).readable);
  response.setStatusCode(status);
  return response;
}

/**
 * Writes a body and returns the result to pass to the host. After an error, the host cuts the body, which would otherwise look complete.
 */
async function write(writable, body) {
  try {
    if (body instanceof Uint8Array) {
      if (body.length > 0) await writable.writeAll(body);
    } else {
      for await (const chunk of body) await writable.writeAll(chunk);
    }
    return { tag: 'ok', val: null };
  } catch (error) {
    console.error(traced(error));
    return { tag: 'err', val: { tag: 'internal-error', val: null } };
  } finally {
    writable.drop();
  }
}

function once(work) {
  let result;
  return () => (result ??= work());
}

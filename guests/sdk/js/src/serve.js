// Makes a guest of the guest author's module. Supports both kinds of handlers and is independent of the engine, which passes the
// request in and takes the response.
//
// The request is `{ method, target, headers, isSecure, authority, readBody }`. `headers` is a list of pairs, and `readBody`
// returns a promise of bytes. The response is `{ status, headers, body }`. `body` is bytes or an async iterable of bytes.

import { Exchange } from './exchange.js';
import { answerWithFetch } from './fetch.js';
import { expressAnswerer, listeningApp, takeNotes } from './registry.js';
import { traced } from './trace.js';

// These fields belong to the connection, which the host has, and `wasi:http` refuses them. Code for Node.js often sets them.
const OF_THE_CONNECTION = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade']);

/** Returns the function that answers requests with the guest's handler. `host` has the interfaces `session` and `cookies`. */
export function serve(module, host) {
  const answer = answerer(module);
  sayNotes();
  return async (arrived) => {
    const exchange = new Exchange(host);
    try {
      const { status, headers, body } = await Promise.race([answer(arrived, exchange), exchange.failure]);
      exchange.answered();
      const finished = () => exchange.reportLateChanges();
      const own = headers.filter(([name]) => !OF_THE_CONNECTION.has(name.toLowerCase()));
      if (arrived.method !== 'HEAD') return { status, headers: own, body, finished };
      // WASI 0.2 compares the length with the body that is sent, and the response to HEAD has no body.
      const others = own.filter(([name]) => name.toLowerCase() !== 'content-length');
      return { status, headers: others, body: new Uint8Array(0), finished };
    } catch (error) {
      console.error(traced(error));
      return bare500(exchange);
    }
  };
}

function answerer(module) {
  const handler = module.default ?? listeningApp();
  if (isExpress(handler)) return (...given) => expressAnswerer()(handler, ...given);
  // The build sets this to false for a guest with Express, so that the bundle does not contain the web's classes.
  if (CLOAKROOM_FETCH) {
    if (typeof handler?.fetch === 'function') return (...given) => answerWithFetch((...g) => handler.fetch(...g), ...given);
    if (typeof handler === 'function') return (...given) => answerWithFetch(handler, ...given);
  } else if (handler) {
    throw new Error('the module imports Express, so its handler must be an Express app: `export default app`');
  }
  throw new Error('the module has no handler: `export default app`, or `export default { fetch(request) { ... } }`');
}

const isExpress = (handler) => typeof handler === 'function' && typeof handler.handle === 'function';

/**
 * Throws the notes, if there are any, so that the build learns them. The build then builds the guest a second time, and this
 * function throws nothing (`build/componentize.js`).
 */
function sayNotes() {
  const notes = takeNotes();
  if (notes.length > 0 && !globalThis.__cloakroomNotesShown) throw new Error(`cloakroom-notes:${JSON.stringify(notes)}`);
}

function bare500(exchange) {
  try {
    exchange.session.send();
  } catch (error) {
    // The error names a change that could not be stored. The response is an error already.
    console.error(traced(error));
  }
  const headers = [['content-type', 'text/plain; charset=utf-8']];
  return { status: 500, headers, body: ascii('Internal Server Error\n'), finished: () => {} };
}

const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

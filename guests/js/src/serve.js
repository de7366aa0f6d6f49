// Makes a guest of the module that its author wrote. Knows both kinds of handlers and neither engine: an engine hands in
// what arrived and takes the answer.
//
// What arrives: `{ method, target, headers, isSecure, authority, readBody }`, `headers` as pairs, `readBody` a promise of bytes.
// What is answered: `{ status, headers, body }`, `body` bytes or an async iterable of them.

import { Exchange } from './exchange.js';
import { answerWithFetch } from './fetch.js';
import { expressAnswerer, listeningApp, takeNotes } from './registry.js';
import { traced } from './trace.js';

// The connection is the host's, and `wasi:http` refuses these. Code for Node.js sets them in passing.
const OF_THE_CONNECTION = new Set(['connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade']);

/** The function that answers requests with the guest's handler. `host` has the interfaces `session` and `cookies`. */
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
      // WASI 0.2 holds a length to the body that comes with it, and here none does.
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
  // The build sets this to false where the guest has Express: the web's classes need not be in it then.
  if (CLOAKROOM_FETCH) {
    if (typeof handler?.fetch === 'function') return (...given) => answerWithFetch((...g) => handler.fetch(...g), ...given);
    if (typeof handler === 'function') return (...given) => answerWithFetch(handler, ...given);
  } else if (handler) {
    throw new Error('the module imports Express, so an Express app is to be its handler: `export default app`');
  }
  throw new Error('the module has no handler: `export default app`, or `export default { fetch(request) { ... } }`');
}

const isExpress = (handler) => typeof handler === 'function' && typeof handler.handle === 'function';

/** The build runs the guest's start once to learn these, and builds what it has shown a second time (`build/componentize.js`). */
function sayNotes() {
  const notes = takeNotes();
  if (notes.length > 0 && !globalThis.__cloakroomNotesShown) throw new Error(`cloakroom-notes:${JSON.stringify(notes)}`);
}

function bare500(exchange) {
  try {
    exchange.session.send();
  } catch (error) {
    // It names what could not be stored; the answer is an error already.
    console.error(traced(error));
  }
  const headers = [['content-type', 'text/plain; charset=utf-8']];
  return { status: 500, headers, body: ascii('Internal Server Error\n'), finished: () => {} };
}

const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

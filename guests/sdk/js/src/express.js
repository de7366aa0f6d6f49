// Express itself, with the session and the cookies of the host. The build replaces the parts of Node.js that Express needs
// (`build/replacements.js`). Independent of how a request arrives.

import express from 'express';

import { clearCookie, setCookie } from './cookies.js';
import { belongs, exchangeOf } from './exchange.js';
import { IncomingMessage, ServerResponse } from './node/http.js';
import { answersExpress, listens } from './registry.js';

const forRequest = IncomingMessage.prototype;

define(forRequest, 'session', {
  get: (req) => exchangeOf(req).live,
  set: (req, value) => (exchangeOf(req).live = value),
});
define(forRequest, 'sessionID', { get: (req) => exchangeOf(req).session.fingerprint });
define(forRequest, 'cookies', { get: (req) => exchangeOf(req).cookies.plain });
define(forRequest, 'signedCookies', { get: (req) => exchangeOf(req).cookies.signed });

express.response.cookie = function cookie(name, value, options) {
  return this.append('Set-Cookie', setCookie(exchangeOf(this.req).host.cookies, name, value, options));
};

express.response.clearCookie = function clear(name, options) {
  return this.append('Set-Cookie', clearCookie(exchangeOf(this.req).host.cookies, name, options));
};

express.application.listen = function listen(...given) {
  listens(this);
  const listening = given.findLast((argument) => typeof argument === 'function');
  if (listening) queueMicrotask(() => listening());
  return { address: () => null, close: (closed) => closed && queueMicrotask(() => closed()), on: () => {} };
};

const init = express.application.init;
express.application.init = function initWithGuestDefaults() {
  init.call(this);
  this.disable('x-powered-by');
  // The host marks a response with a session as not cacheable, so no client would send back its ETag.
  this.disable('etag');
};

/** Answers one request with an Express app. `serve.js` describes `arrived` and the result. */
function answer(app, arrived, exchange) {
  const req = new IncomingMessage(arrived);
  const res = new ServerResponse(req, () => exchange.session.send());
  belongs(req, exchange);
  exchange.cut = () => req.socket.destroy();
  return new Promise((handOver, fail) => {
    res.once('broken', fail);
    res.once('head', () => handOver(res.handOver()));
    app(req, res);
  });
}

function define(prototype, name, { get, set }) {
  Object.defineProperty(prototype, name, {
    configurable: true,
    enumerable: true,
    get() {
      return get(this);
    },
    set(value) {
      if (set) set(this, value);
      // Packages such as cookie-parser set this property to the value they have parsed. It is already set here.
    },
  });
}

answersExpress(answer);

export default express;
export const { Router, Route, json, urlencoded, text, raw, application, request, response } = express;

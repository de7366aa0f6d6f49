// The exports of the package `cloakroom`, for guest authors.

import express from './express.js';
import { cookieParser, session } from './middleware.js';
import { exchangeOf } from './exchange.js';

export default express;
export { express, session, cookieParser };
export { Router, Route, json, urlencoded, text, raw } from './express.js';
export { CookieError, SessionError } from './errors.js';

/** Returns the session of a request, with every function that the host offers: `getSession(req).increment('views', 1)`. */
export function getSession(request) {
  return exchangeOf(request).session;
}

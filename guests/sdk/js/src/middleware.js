// The middleware that Express code uses for sessions and cookies. The host does this work, so these functions only report which
// of their options have to move into the host's configuration. They never report a value.

import { note } from './registry.js';

const KEYS = {
  secret: 'session.secrets',
  name: 'session.name',
  resave: 'session.resave',
  rolling: 'session.rolling',
  saveUninitialized: 'session.save_uninitialized',
  unset: 'session.unset',
  proxy: 'session.proxy',
  cookie: 'session.cookie',
  store: 'store.url',
};

// Options that match the host's behaviour are not reported.
const DEFAULTS = { resave: false, saveUninitialized: false, rolling: false };

const passOn = (req, res, next) => next();

/** express-session's factory. The session works without it. */
export function session(options = {}) {
  for (const [option, value] of Object.entries(options)) {
    if (value === undefined || DEFAULTS[option] === value) continue;
    if (option === 'genid') note('session({ genid }): the host makes the ids');
    else if (KEYS[option]) note(`session({ ${option} }): the host's configuration decides, under \`${KEYS[option]}\``);
    else note(`session({ ${option} }): unknown option`);
  }
  return passOn;
}

/** Replaces the base class of stores, so that code which creates a store still runs. */
session.Store = class Store {};
session.MemoryStore = class MemoryStore extends session.Store {};

/** cookie-parser's factory. `req.cookies` and `req.signedCookies` work without it. */
export function cookieParser(secret) {
  if (secret !== undefined) note('cookieParser(secret): the host signs and verifies, under `session.secrets` or `cookies.secrets`');
  return passOn;
}

// `req.cookies`, `req.signedCookies` and `res.cookie`, on top of the host's interface `cookies`. Only the host has the secrets.
// Independent of requests.

import { CookieError, askCookies } from './errors.js';
import { parse } from './json.js';

const YEAR_2106 = 0xffff_ffff * 1000;
const NAMED = { lax: 'lax', strict: 'strict', none: 'none', low: 'low', medium: 'medium', high: 'high' };

/** The request's cookies, read on first use. `host` is the interface `cloakroom:http/cookies`. */
export class RequestCookies {
  #host;
  #all;

  constructor(host) {
    this.#host = host;
  }

  /** Cookies that do not claim to be signed: cookie-parser's `req.cookies`. */
  get plain() {
    return this.#read().plain;
  }

  /** Cookies that claim to be signed: `req.signedCookies`. The value is `false` if no secret of the host has signed the cookie. */
  get signed() {
    return this.#read().signed;
  }

  #read() {
    if (this.#all) return this.#all;
    const all = { plain: Object.create(null), signed: Object.create(null) };
    for (const { name, value, signed } of this.#host.all()) {
      (signed ? all.signed : all.plain)[name] = decoded(value ?? undefined);
    }
    return (this.#all = all);
  }
}

/** Returns the `set-cookie` value for `res.cookie(name, value, options)`. Throws a `CookieError`. */
export function setCookie(host, name, value, options = {}) {
  if (options.encode) throw new CookieError('invalid', `cookie \`${name}\`: \`encode\` is not offered, the host encodes`);
  const what = typeof value === 'object' ? { tag: 'json', val: JSON.stringify(value) } : { tag: 'text', val: String(value) };
  const attributes = attributesOf(name, options);
  return askCookies(name, () => host.serialize(String(name), what, Boolean(options.signed), attributes));
}

/** Returns the `set-cookie` value that makes the browser delete a cookie, for `res.clearCookie(name, options)`. */
export function clearCookie(host, name, options = {}) {
  const { maxAge: _, signed: __, ...rest } = options;
  return setCookie(host, name, '', { ...rest, expires: new Date(1) });
}

function decoded(value) {
  if (value === undefined) return false;
  if (value.tag === 'text') return value.val;
  try {
    return parse('cookie', value.val);
  } catch {
    // A visitor can send any text. Text that is not JSON, or that has a number which would be rounded, stays the text that was sent.
    return `j:${value.val}`;
  }
}

function attributesOf(name, options) {
  const expires = options.expires === undefined || options.expires === null ? null : new Date(options.expires).getTime();
  const sameSite = options.sameSite === true ? 'strict' : options.sameSite;
  return {
    maxAge: milliseconds(name, 'maxAge', options.maxAge ?? null),
    expires: milliseconds(name, 'expires', expires),
    domain: options.domain ?? null,
    path: options.path ?? null,
    httpOnly: Boolean(options.httpOnly),
    secure: Boolean(options.secure),
    partitioned: Boolean(options.partitioned),
    priority: choice(name, 'priority', options.priority),
    sameSite: choice(name, 'sameSite', sameSite),
  };
}

function milliseconds(name, option, value) {
  if (value === null) return null;
  // Express accepts fractions too. The host refuses an age that is far beyond any clock.
  const whole = Math.trunc(Number(value));
  if (Math.abs(whole) <= YEAR_2106 * 2) return whole;
  throw new CookieError('invalid', `cookie \`${name}\`: \`${option}\` is not a time`);
}

function choice(name, option, value) {
  if (!value) return null;
  const chosen = NAMED[String(value).toLowerCase()];
  if (chosen) return chosen;
  throw new CookieError('invalid', `cookie \`${name}\`: \`${option}\` cannot be ${JSON.stringify(value)}`);
}

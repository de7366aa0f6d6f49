// Answers a request with a fetch-style handler: `fetch(request, env)` returns a `Response`. Hono apps are such handlers.

import { belongs } from './exchange.js';
import { clearCookie, setCookie } from './cookies.js';

const WITHOUT_BODY = new Set(['GET', 'HEAD']);
const EMPTY_STATUS = new Set([101, 204, 205, 304]);

/** Calls `fetch(request, env)`. `serve.js` describes `arrived` and the result. */
export async function answerWithFetch(fetch, arrived, exchange) {
  const request = await requestOf(arrived);
  belongs(request, exchange);
  const cookieLines = [];
  const response = await fetch(request, environment(exchange, cookieLines));
  if (typeof response?.status !== 'number' || typeof response.headers?.entries !== 'function') {
    throw new TypeError('the fetch handler did not return a Response');
  }
  exchange.session.send();
  const headers = [...headersOf(response), ...cookieLines.map((line) => ['set-cookie', line])];
  return { status: response.status, headers, body: await bodyOf(response) };
}

async function requestOf({ method, target, headers, isSecure, authority, readBody }) {
  const url = `${isSecure ? 'https' : 'http'}://${authority || 'localhost'}${target}`;
  const body = WITHOUT_BODY.has(method) ? undefined : await readBody();
  return new Request(url, { method, headers, body: body?.length ? body : undefined });
}

/** Returns the second argument of a handler. In Hono it is `c.env`. */
function environment(exchange, lines) {
  const { host } = exchange;
  return {
    get session() {
      return exchange.live;
    },
    cookies: {
      get: (name) => exchange.cookies.plain[name],
      signed: (name) => exchange.cookies.signed[name],
      set: (name, value, options) => void lines.push(setCookie(host.cookies, name, value, options)),
      clear: (name, options) => void lines.push(clearCookie(host.cookies, name, options)),
    },
  };
}

function headersOf(response) {
  const cookies = response.headers.getSetCookie?.() ?? [];
  const others = [...response.headers.entries()].filter(([name]) => name !== 'set-cookie');
  return [...others, ...cookies.map((line) => ['set-cookie', line])];
}

/** Reads the whole body, unless it is an event stream: the host would hold back the pieces of other bodies anyway. */
async function bodyOf(response) {
  if (EMPTY_STATUS.has(response.status) || response.body === null) return new Uint8Array(0);
  const isStream = /^text\/event-stream\b/i.test(response.headers.get('content-type') ?? '');
  if (isStream && response.body) return chunksOf(response.body);
  return new Uint8Array(await response.arrayBuffer());
}

async function* chunksOf(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield typeof value === 'string' ? new TextEncoder().encode(value) : value;
  }
}

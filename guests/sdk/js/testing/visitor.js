// A visitor: sends requests and stores cookies in a jar, as a browser does. It knows only the URL of its host.

/** A browser without pages. It follows redirects only on request. */
export class Visitor {
  #url;
  #now;
  // From a name to its value and its expiry time, in milliseconds of the host's clock.
  #jar = new Map();

  /** `now` returns the time of that clock. `cookie` is a `Cookie` header with the visitor's first cookies. */
  constructor(url, now, cookie = '') {
    this.#url = url;
    this.#now = now;
    for (const pair of cookie.split(/; */).filter(Boolean)) {
      const [name, ...value] = pair.split('=');
      this.#jar.set(name, { value: value.join('='), end: Infinity });
    }
  }

  get(path, options) {
    return this.send('GET', path, options);
  }

  head(path, options) {
    return this.send('HEAD', path, options);
  }

  delete(path, options) {
    return this.send('DELETE', path, options);
  }

  post(path, options) {
    return this.send('POST', path, options);
  }

  put(path, options) {
    return this.send('PUT', path, options);
  }

  patch(path, options) {
    return this.send('PATCH', path, options);
  }

  /**
   * Sends a request. `options`: `headers`, and one of `body` (text or bytes), `json` (a value) and `form` (names and values). With
   * `follow` it follows up to ten redirects within this host: after 307 and 308 with the same method and body, otherwise with GET.
   */
  async send(method, path, { headers = {}, body, json, form, follow = false } = {}) {
    let at = { method, url: new URL(path, this.#url), request: withBody(headers, { body, json, form }) };
    for (let hops = 0; ; hops++) {
      const answer = await this.#once(at);
      const next = follow && whereTo(answer, at, headers);
      if (!next) return answer;
      if (hops === 10) throw new Error(`${method} ${path} is redirected without end`);
      at = next;
    }
  }

  /** The cookies that the visitor would send: `{ name: value }`, with the values as on the wire. */
  get cookies() {
    const kept = [...this.#jar].filter(([, { end }]) => end > this.#now());
    return Object.fromEntries(kept.map(([name, { value }]) => [name, value]));
  }

  async #once({ method, url, request: { headers, body } }) {
    const own = Object.entries(this.cookies).map(([name, value]) => `${name}=${value}`).join('; ');
    const all = own ? { ...headers, cookie: own } : headers;
    const response = await fetch(url, { method, headers: all, body, redirect: 'manual' });
    for (const line of response.headers.getSetCookie()) this.#keep(line);
    const text = await response.text();
    return { status: response.status, headers: response.headers, text, json: () => JSON.parse(text) };
  }

  #keep(line) {
    const [pair, ...attributes] = line.split(/; */);
    const [name, ...value] = pair.split('=');
    const given = new Map(attributes.map((attribute) => attribute.split('=')).map(([key, ...rest]) => [key.toLowerCase(), rest.join('=')]));
    const expires = Date.parse(given.get('expires') ?? '');
    const end = given.has('max-age') ? this.#now() + Number(given.get('max-age')) * 1000 : Number.isNaN(expires) ? Infinity : expires;
    this.#jar.set(name, { value: value.join('='), end });
  }
}

/** Returns the request of a redirect, or `undefined` for another answer or another host, which must not get this host's cookies. */
function whereTo({ status, headers }, { method, url, request }, given) {
  const location = headers.get('location');
  if (status < 300 || status >= 400 || !location) return undefined;
  const next = new URL(location, url);
  if (next.origin !== url.origin) return undefined;
  if (status === 307 || status === 308) return { method, url: next, request };
  return { method: method === 'HEAD' ? 'HEAD' : 'GET', url: next, request: { headers: given } };
}

function withBody(headers, { body, json, form }) {
  if (json !== undefined) return { headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(json) };
  if (form !== undefined) return { headers, body: new URLSearchParams(form) };
  return { headers, body };
}

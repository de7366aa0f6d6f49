// One visitor: requests with a jar of cookies, as one browser keeps them. Knows no host but by its URL.

/** A browser without pages. It follows no redirect unless it is asked to. */
export class Visitor {
  #url;
  #now;
  // Name to value and the time it ends, in milliseconds of the host's clock.
  #jar = new Map();

  /** `now` tells that clock; `cookie` is a `Cookie` header that it begins with. */
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
   * Sends a request. `options`: `headers`, `body` (text or bytes), or `json` (a value), or `form` (names and values); `follow`
   * goes where a redirect of this host points, up to ten times: with 307 and 308 by the same method and body, else by GET.
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

  /** What it would send: `{ name: value }`, as on the wire. */
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

/** The request that a redirect asks for; `undefined` if the answer is none, or one to another host, which gets no cookies of this one. */
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

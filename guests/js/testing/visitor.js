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
   * goes where a redirect points, up to ten times.
   */
  async send(method, path, { headers = {}, body, json, form, follow = false } = {}) {
    let answer = await this.#once(method, path, withBody(headers, { body, json, form }));
    for (let hops = 0; follow && answer.status >= 300 && answer.status < 400 && answer.headers.get('location'); hops++) {
      if (hops === 10) throw new Error(`${method} ${path} is redirected without end`);
      answer = await this.#once('GET', answer.headers.get('location'), { headers });
    }
    return answer;
  }

  /** What it would send: `{ name: value }`, as on the wire. */
  get cookies() {
    const kept = [...this.#jar].filter(([, { end }]) => end > this.#now());
    return Object.fromEntries(kept.map(([name, { value }]) => [name, value]));
  }

  async #once(method, path, { headers, body }) {
    const own = Object.entries(this.cookies).map(([name, value]) => `${name}=${value}`).join('; ');
    const all = own ? { ...headers, cookie: own } : headers;
    const response = await fetch(new URL(path, this.#url), { method, headers: all, body, redirect: 'manual' });
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

function withBody(headers, { body, json, form }) {
  if (json !== undefined) return { headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(json) };
  if (form !== undefined) return { headers, body: new URLSearchParams(form) };
  return { headers, body };
}

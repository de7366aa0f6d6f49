// `Headers` of the fetch standard, for QuickJS.

const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

export class Headers {
  // Lower-case names in the order they arrived, each with a list of values.
  #fields = new Map();

  constructor(init = []) {
    const pairs = typeof init?.[Symbol.iterator] === 'function' ? init : Object.entries(init ?? {});
    for (const [name, value] of pairs) this.append(name, value);
  }

  append(name, value) {
    const key = checkedName(name);
    const values = this.#fields.get(key) ?? [];
    values.push(checkedValue(value));
    this.#fields.set(key, values);
  }

  set(name, value) {
    this.#fields.set(checkedName(name), [checkedValue(value)]);
  }

  delete(name) {
    this.#fields.delete(checkedName(name));
  }

  get(name) {
    return this.#fields.get(checkedName(name))?.join(', ') ?? null;
  }

  getSetCookie() {
    return [...(this.#fields.get('set-cookie') ?? [])];
  }

  has(name) {
    return this.#fields.has(checkedName(name));
  }

  forEach(visit, self) {
    for (const [name, value] of this) visit.call(self, value, name, this);
  }

  *entries() {
    for (const name of [...this.#fields.keys()].sort()) {
      const values = this.#fields.get(name);
      // Cookies contain commas, so they are never joined.
      if (name === 'set-cookie') for (const value of values) yield [name, value];
      else yield [name, values.join(', ')];
    }
  }

  *keys() {
    for (const [name] of this) yield name;
  }

  *values() {
    for (const [, value] of this) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }
}

function checkedName(name) {
  const text = String(name);
  if (!NAME.test(text)) throw new TypeError(`${JSON.stringify(text)} is not a header name`);
  return text.toLowerCase();
}

function checkedValue(value) {
  const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');
  if (/[\0\n\r]/.test(text)) throw new TypeError('a header value must not contain line ends');
  return text;
}

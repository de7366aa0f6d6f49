// `FormData` of the fetch standard, with text fields only, for QuickJS.

export class FormData {
  #pairs = [];

  append(name, value) {
    this.#pairs.push([String(name), String(value)]);
  }

  set(name, value) {
    const at = this.#pairs.findIndex(([known]) => known === String(name));
    this.delete(name);
    this.#pairs.splice(at < 0 ? this.#pairs.length : at, 0, [String(name), String(value)]);
  }

  delete(name) {
    this.#pairs = this.#pairs.filter(([known]) => known !== String(name));
  }

  get(name) {
    return this.#pairs.find(([known]) => known === String(name))?.[1] ?? null;
  }

  getAll(name) {
    return this.#pairs.filter(([known]) => known === String(name)).map(([, value]) => value);
  }

  has(name) {
    return this.#pairs.some(([known]) => known === String(name));
  }

  forEach(visit, self) {
    for (const [name, value] of this) visit.call(self, value, name, this);
  }

  *entries() {
    yield* this.#pairs.map((pair) => [...pair]);
  }

  *keys() {
    for (const [name] of this.#pairs) yield name;
  }

  *values() {
    for (const [, value] of this.#pairs) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }
}

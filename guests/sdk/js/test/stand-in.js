// A replacement for the host's session interface, for tests of the JavaScript code only. End-to-end tests cover the host itself.

/** Creates the interface. `entries` are JSON texts. `calls` lists the names of all calls, with their keys. */
export function standIn(entries = {}) {
  const stored = new Map(Object.entries(entries));
  const calls = [];
  const refuse = (tag, val) => {
    throw Object.assign(new Error('[object Object] (see error.payload)'), { payload: { tag, val } });
  };
  const noted = (name, work) => (...given) => {
    calls.push([name, ...given.slice(0, 1)].join(' '));
    return work(...given);
  };
  const host = {
    get: (key) => stored.get(key) ?? null,
    set: (key, json) => (key === 'denied' ? refuse('denied', 'no grant') : void stored.set(key, json)),
    delete: (key) => void stored.delete(key),
    listKeys: () => [...stored.keys()],
    add: (key, delta) => void stored.set(key, String(BigInt(stored.get(key) ?? 0) + BigInt(delta))),
    increment: (key, delta) => {
      host.add(key, delta);
      return BigInt(stored.get(key));
    },
    clear: () => stored.clear(),
    fingerprint: () => 'f00d',
    renew: () => {},
    regenerate: () => stored.clear(),
    destroy: () => stored.clear(),
    save: () => {},
    reload: () => {},
    touch: () => {},
    unset: () => {},
    cookie: () => ({ originalMaxAge: 1000n, expires: null, path: '/', httpOnly: true, secure: false, partitioned: false }),
    setMaxAge: () => {},
  };
  const session = Object.fromEntries(Object.entries(host).map(([name, work]) => [name, noted(name, work)]));
  return { session, stored, calls };
}

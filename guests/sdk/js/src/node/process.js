// The global `process` and related functions, as far as packages for Node.js use them. Independent of the host: an engine
// provides the environment.

import { traced } from '../trace.js';

let readEnvironment = () => [];

/** Sets the function that returns the environment variables, as pairs of name and value. */
export function setEnvironment(read) {
  readEnvironment = read;
}

const fixed = {
  // Express shows the stack of an error to the visitor unless this says that it is in production.
  NODE_ENV: 'production',
};

const env = new Proxy(fixed, {
  get: (own, name) => own[name] ?? (typeof name === 'string' ? find(name) : undefined),
  has: (own, name) => name in own || (typeof name === 'string' && find(name) !== undefined),
  ownKeys: (own) => [...new Set([...Object.keys(own), ...readEnvironment().map(([name]) => name)])],
  getOwnPropertyDescriptor(own, name) {
    const value = own[name] ?? find(name);
    return value === undefined ? undefined : { value, enumerable: true, writable: true, configurable: true };
  },
});

function find(name) {
  return readEnvironment().find(([known]) => known === name)?.[1];
}

/** Runs `work` later and logs its error, because no code awaits it. */
function soon(work, ...rest) {
  queueMicrotask(async () => {
    try {
      await work(...rest);
    } catch (error) {
      console.error(traced(error));
    }
  });
}

export const process = {
  env,
  argv: [],
  platform: 'wasi',
  version: '',
  versions: {},
  cwd: () => '/',
  nextTick: soon,
  emitWarning: (warning) => console.warn(String(warning)),
  on() {
    return this;
  },
  once() {
    return this;
  },
};

export const setImmediate = soon;
export const clearImmediate = () => {};

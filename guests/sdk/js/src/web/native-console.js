// `console` on StarlingMonkey: the engine's own console, with errors shown in the files and lines of the guest author's sources.

import { traced } from '../trace.js';

const native = globalThis.console;

const shown = (value) => (value instanceof Error ? traced(value) : value);
const told = (level) => (...values) => native[level](...values.map(shown));

export const console = Object.assign(Object.create(native), {
  log: told('log'),
  info: told('info'),
  debug: told('debug'),
  warn: told('warn'),
  error: told('error'),
});

// `console` on StarlingMonkey: the engine's own, with errors told in the author's files and lines.

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

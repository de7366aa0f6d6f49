// `setTimeout` and related functions on QuickJS, using the clock of WASI 0.3.

import * as clock from 'wasi:clocks/monotonic-clock@0.3.0';

import { traced } from '../trace.js';
import { console } from './console.js';

const MILLISECOND = 1_000_000;
const running = new Set();
let last = 0;

export function setTimeout(work, milliseconds = 0, ...rest) {
  const id = ++last;
  running.add(id);
  run(id, milliseconds, () => {
    running.delete(id);
    work(...rest);
  });
  return id;
}

export function setInterval(work, milliseconds = 0, ...rest) {
  const id = ++last;
  running.add(id);
  const again = () => {
    work(...rest);
    run(id, milliseconds, again);
  };
  run(id, milliseconds, again);
  return id;
}

export function clearTimeout(id) {
  running.delete(id);
}

export const clearInterval = clearTimeout;

async function run(id, milliseconds, work) {
  await clock.waitFor(Math.max(1, Math.trunc(Number(milliseconds) || 0)) * MILLISECOND);
  if (!running.has(id)) return;
  try {
    work();
  } catch (error) {
    // No code awaits a timer.
    console.error(traced(error));
  }
}

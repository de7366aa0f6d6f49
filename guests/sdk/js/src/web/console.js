// `console` on QuickJS: each call is written to standard error, which the host logs line by line.

import * as stderr from 'wasi:cli/stderr@0.2.10';
import inspect from 'object-inspect';

import { utf8 } from '../engine/bytes.js';
import { traced } from '../trace.js';

const WRITE_BYTES_MAX = 4096;

function write(...values) {
  const bytes = utf8(`${values.map(shown).join(' ')}\n`);
  const stream = stderr.getStderr();
  for (let at = 0; at < bytes.length; at += WRITE_BYTES_MAX) {
    stream.blockingWriteAndFlush(bytes.subarray(at, at + WRITE_BYTES_MAX));
  }
}

function shown(value) {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return traced(value);
  return inspect(value, { depth: 4 });
}

/** All levels are the same for the host. */
export const console = {
  log: write,
  info: write,
  debug: write,
  warn: write,
  error: write,
  trace: (...values) => write(...values, new Error('trace')),
  assert: (holds, ...values) => holds || write('assertion failed', ...values),
};

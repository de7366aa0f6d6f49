#!/usr/bin/env node
// `cloakroom-build src/app.js -o build/hello.wasm [--engine quickjs|starlingmonkey]`: from a module to a component.

import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';

import { mapped } from '../src/trace.js';
import { ENGINES, bundle } from './bundle.js';
import { BuildError, componentize } from './componentize.js';

const USAGE = 'usage: cloakroom-build ENTRY -o COMPONENT.wasm [--engine quickjs|starlingmonkey]';

try {
  await run(words(process.argv.slice(2)));
} catch (error) {
  console.error(told(error));
  process.exit(1);
}

function words(given) {
  const options = { output: { type: 'string', short: 'o' }, engine: { type: 'string', default: 'quickjs' } };
  let parsed;
  try {
    parsed = parseArgs({ args: given, options, allowPositionals: true });
  } catch (error) {
    throw new BuildError(`${error.message}\n${USAGE}`);
  }
  const { values, positionals } = parsed;
  if (positionals.length !== 1 || !values.output) throw new BuildError(USAGE);
  if (!Object.hasOwn(ENGINES, values.engine)) {
    throw new BuildError(`there is no engine \`${values.engine}\`: quickjs or starlingmonkey`);
  }
  return { entry: positionals[0], output: values.output, engine: values.engine };
}

async function run({ entry, output, engine }) {
  const start = performance.now();
  if (!existsSync(entry)) throw new BuildError(`${entry} does not exist`);
  const { code, table, warnings, file } = await bundle(entry, engine);
  for (const warning of warnings) console.error(`warning: ${placed(warning)}`);
  globalThis.__cloakroomLines = table;
  const { component, notes } = await componentize(code, engine, mapped);
  for (const note of notes) console.error(`${file}: note: ${note}`);
  await replace(output, component);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${relative('', output)}: ${(component.length / 1e6).toFixed(1)} MB on ${engine} in ${seconds} s`);
}

/** Renames the component into place, so that a host which watches the file never sees half of it. */
async function replace(output, component) {
  const folder = dirname(output);
  await mkdir(folder, { recursive: true });
  const beside = join(folder, `.${basename(output)}.${process.pid}`);
  try {
    await writeFile(beside, component);
    await rename(beside, output);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

function told(error) {
  if (error instanceof BuildError) return `cloakroom-build: ${error.message}`;
  if (Array.isArray(error?.errors)) return error.errors.map(placed).join('\n');
  return `cloakroom-build: ${error?.stack ?? error}`;
}

function placed({ text, location }) {
  if (!location) return text;
  return `${location.file}:${location.line}:${location.column + 1}: ${text}\n    ${location.lineText.trim()}`;
}

// Tests of the build: positions in its errors, and the content of bundles.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { bundle } from '../build/bundle.js';
import { afterNotes } from '../build/componentize.js';
import { mapped } from '../src/trace.js';

const own = (file) => fileURLToPath(new URL(`../${file}`, import.meta.url));

async function built(t, source) {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-test-'));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'app.js'), source);
  const words = [own('build/cli.js'), 'app.js', '-o', 'app.wasm'];
  return new Promise((done) => {
    execFile(process.execPath, words, { cwd: folder }, (error, _, stderr) => done({ code: error?.code ?? 0, stderr }));
  });
}

test('a syntax error is told with its file and line', async (t) => {
  const { code, stderr } = await built(t, 'const a = 1;\nconst b = (;\n');
  assert.equal(code, 1);
  assert.match(stderr, /^app\.js:2:12: Unexpected ";"/);
});

test('an error at the start is told with its file and line', async (t) => {
  const { code, stderr } = await built(t, '\n\nmissing();\nexport default 1;\n');
  assert.equal(code, 1);
  assert.match(stderr, /missing is not defined\n.*\(app\.js:3\)/);
});

test('a module without a handler is refused', async (t) => {
  const { code, stderr } = await built(t, 'export const a = 1;\n');
  assert.equal(code, 1);
  assert.match(stderr, /the module has no handler/);
});

test('a module of Node.js that a guest cannot have is refused by its name', async (t) => {
  const { code, stderr } = await built(t, "import 'node:child_process';\nexport default () => new Response('');\n");
  assert.equal(code, 1);
  assert.match(stderr, /^app\.js:1:8: a guest has no module `node:child_process`/);
});

test('a module of Node.js that packages get empty is refused where the author imports it', async (t) => {
  const { code, stderr } = await built(t, "import { inspect } from 'node:util';\nexport default () => new Response(inspect(1));\n");
  assert.equal(code, 1);
  assert.match(stderr, /^app\.js:1:25: a guest has no module `node:util`/);
});

test('with `require` Express, express-session and cookie-parser are what they are on Node.js', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-test-'));
  t.after(() => rm(folder, { recursive: true }));
  const source = `const express = require('express');
const session = require('express-session');
const cookieParser = require('cookie-parser');
const app = express();
app.use(session(), cookieParser());
app.use(express.json(), express.Router());
globalThis.told = [express, session, session.MemoryStore, cookieParser, app.handle].map((value) => typeof value);
module.exports = app;`;
  await writeFile(join(folder, 'app.cjs'), source);
  const { code, hasExpress } = await bundle(join(folder, 'app.cjs'), 'quickjs');
  assert.equal(hasExpress, true);
  // Runs only the guest's start, which calls no function that its engine imports from the host.
  const start = code.replaceAll(/^import (.*) from "(?:wasi|cloakroom):.*$/gm, (_, names) => standInFor(names));
  await import(`data:text/javascript,${encodeURIComponent(`globalThis.wit = { Future: { types: {} } };\n${start}`)}`);
  const { told } = globalThis;
  delete globalThis.told;
  delete globalThis.wit;
  delete globalThis.__cloakroomLines;
  assert.deepEqual(told, Array(5).fill('function'));
});

function standInFor(names) {
  const listed = names.replace(/^\* as /, '').replaceAll(' as ', ': ');
  return `const ${listed} = {};`;
}

test('a fetch handler is bundled without Express, and an Express app without the classes of the web', async () => {
  const { code: hono } = await bundle(own('examples/fetch.js'), 'quickjs');
  assert.doesNotMatch(hono, /node_modules\/express\//);
  const { code: express } = await bundle(own('../../examples/counter-js/src/app.js'), 'quickjs');
  assert.doesNotMatch(express, /node_modules\/(web-streams-polyfill|core-js-pure)\//);
});

test('a frame of the bundle is told as a line of the source, and frames of libraries are left out', async () => {
  const { code: first, table } = await bundle(own('test/guests/session-script.js'), 'quickjs');
  const source = await readFile(own('test/guests/session-script.js'), 'utf8');
  const place = source.split('\n').findIndex((text) => text.includes('told to the log alone')) + 1;
  // This guest has notes for its author, so the build builds it a second time.
  const code = afterNotes(first);
  const line = code.split('\n').findIndex((text) => text.includes('told to the log alone')) + 1;
  globalThis.__cloakroomLines = table;
  const stack = mapped(`Error: x\n    at boom (/guest.js:${line}:9)\n    at handle (/guest.js:20:1)`);
  delete globalThis.__cloakroomLines;
  assert.match(stack, new RegExp(`^Error: x\n    at boom \\(.*session-script\\.js:${place}\\)$`));
});

// Every snippet of the README is part of a file that is built or tested.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

test('every snippet of the README is a part of an example or of a template', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const folders = ['examples', 'template/src', 'template/test', 'template-ts/src', '../../examples/counter-js/src'];
  const texts = [];
  for (const folder of folders) {
    const names = (await readdir(join(root, folder))).filter((name) => /\.(js|ts)$/.test(name));
    for (const name of names) texts.push(await readFile(join(root, folder, name), 'utf8'));
  }
  const snippets = [...readme.matchAll(/```(?:js|ts)\n([\s\S]*?)```/g)].map(([, snippet]) => snippet);
  assert.ok(snippets.length >= 6, `${snippets.length} snippets`);
  for (const snippet of snippets) {
    assert.ok(texts.some((text) => text.includes(snippet)), `in no file:\n${snippet}`);
  }
});

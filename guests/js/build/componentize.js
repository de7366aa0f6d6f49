// Makes a component of a bundle with one of the two engines. Knows their tools; knows nothing of Express or fetch.

import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const REPOSITORY_WIT = fileURLToPath(new URL('../../../wit', import.meta.url));
const OWN_WORLDS = fileURLToPath(new URL('../wit/worlds.wit', import.meta.url));

/** Something the author has to mend; its text is all there is to say. */
export class BuildError extends Error {}

// Its tools name the second one among their own tests' packages only, and need it to run.
const STARLINGMONKEY = '@bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.17';

const TOOLS = { quickjs, starlingmonkey };

/**
 * The component's bytes, and the notes that the guest's start had for its author.
 *
 * Throws a `BuildError` if the guest's start throws; `traced` puts the sources' lines into its stack.
 */
export async function componentize(code, engine, traced) {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-build-'));
  try {
    const wit = await layWit(folder);
    const tool = (source) => TOOLS[engine](source, wit, folder);
    try {
      return { component: await tool(code), notes: [] };
    } catch (error) {
      const notes = notesIn(error);
      if (!notes) throw failure(error, traced);
      return { component: await tool(afterNotes(code)), notes };
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The bundle for the second build. It stays on its lines, which the table of the sources' lines counts. */
export function afterNotes(code) {
  return `globalThis.__cloakroomNotesShown = true; ${code}`;
}

/** The repository's texts and our own worlds in one folder, as one package. */
async function layWit(folder) {
  const wit = join(folder, 'wit');
  await cp(REPOSITORY_WIT, wit, { recursive: true, filter: (path) => !path.startsWith(join(REPOSITORY_WIT, 'deps')) });
  await symlink(join(REPOSITORY_WIT, 'deps'), join(wit, 'deps'));
  await cp(OWN_WORLDS, join(wit, 'javascript.wit'));
  return wit;
}

async function quickjs(source, wit, folder) {
  const { componentize: make } = await import('componentize-qjs');
  const jsPath = join(folder, 'guest.js');
  await writeFile(jsPath, source);
  const { component } = await make({ witPath: wit, jsSource: source, jsPath, moduleRoot: folder, world: 'javascript-quickjs' });
  return component;
}

async function starlingmonkey(source, wit, folder) {
  const tool = find('@bytecodealliance/componentize-js');
  if (!tool) throw new BuildError(`StarlingMonkey is not installed: npm install --save-dev ${STARLINGMONKEY}`);
  const { componentize: make } = await import(tool);
  const sourcePath = join(folder, 'guest.js');
  await writeFile(sourcePath, source);
  const { component } = await make({ sourcePath, witPath: wit, worldName: 'javascript-starlingmonkey' });
  return component;
}

/** The file of a package that the project at hand has installed: it need not be a dependency of ours. */
function find(name) {
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    const root = join(folder, 'node_modules', name);
    if (existsSync(join(root, 'package.json'))) {
      const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
      return pathToFileURL(join(root, exports.import)).href;
    }
    if (folder === dirname(folder)) return undefined;
  }
}

function notesIn(error) {
  const json = /cloakroom-notes:(\[.*\])/.exec(String(error?.message ?? error))?.[1];
  return json && JSON.parse(json);
}

function failure(error, traced) {
  if (error instanceof BuildError) return error;
  const text = String(error?.message ?? error);
  // The tools wrap what the guest threw in sentences of their own.
  const own = text.slice(Math.max(0, text.search(/\b\w*Error: (?!.*Failed)/)));
  return new BuildError(`the guest's start failed\n${traced(own)}`, { cause: error });
}

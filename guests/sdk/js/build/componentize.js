// Makes a component of a bundle with one of the two engines. Depends on their tools, but not on Express or fetch.

import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const REPOSITORY_WIT = fileURLToPath(new URL('../../../wit', import.meta.url));
const OWN_WORLDS = fileURLToPath(new URL('../wit/worlds.wit', import.meta.url));

/** A mistake of the guest author. Only its message is shown. */
export class BuildError extends Error {}

// componentize-js needs the second package to run, but declares it only as a development dependency.
const STARLINGMONKEY = '@bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.17';

const TOOLS = { quickjs, starlingmonkey };

/**
 * Returns the component's bytes and the notes for the guest author that the guest's start has thrown.
 *
 * Throws a `BuildError` if the guest's start throws another error; `traced` replaces the lines in its stack by those of the sources.
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

/** Returns the bundle for the second build. Its line numbers do not change, because the table of lines refers to them. */
export function afterNotes(code) {
  return `globalThis.__cloakroomNotesShown = true; ${code}`;
}

/** Puts the WIT files of the repository and our own worlds into one folder, as one package. */
async function layWit(folder) {
  const wit = join(folder, 'wit');
  // The folder of the SDK's own repository is a link, so it is dereferenced.
  const isWanted = (path) => !path.startsWith(join(REPOSITORY_WIT, 'deps'));
  await cp(REPOSITORY_WIT, wit, { recursive: true, dereference: true, filter: isWanted });
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

/** Returns the main file of a package that the current project has installed. It need not be a dependency of the SDK. */
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
  // The tools add text of their own around the error that the guest threw.
  const own = text.slice(Math.max(0, text.search(/\b\w*Error: (?!.*Failed)/)));
  return new BuildError(`the guest's start failed\n${traced(own)}`, { cause: error });
}

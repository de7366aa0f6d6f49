// Bundles a guest author's module with the SDK into one file that an engine can run. Depends on esbuild, but not on the tools
// that make components.

import { basename, dirname, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

import { lineTable } from './lines.js';
import { replacements } from './replacements.js';

const own = (file) => fileURLToPath(new URL(`../src/${file}`, import.meta.url));

/** The name under which each engine takes the handler, and the files with the globals that it lacks. */
export const ENGINES = {
  quickjs: {
    glue: own('engine/quickjs.js'),
    name: 'handler',
    globals: [own('web/globals.js'), own('node/globals.js')],
  },
  starlingmonkey: {
    glue: own('engine/starlingmonkey.js'),
    name: 'incomingHandler',
    globals: [own('web/native-console.js'), own('node/globals.js')],
  },
};

/**
 * Returns one module as text, with its source map. Both call it `guest.js`.
 *
 * Throws the error of esbuild: an error with `errors`, each with a file, a line and a text.
 */
export async function bundle(entry, engine) {
  const first = await bundleAs(entry, engine, true);
  // The handler of a guest that imports Express is an Express app, which does not need the web's `Request` and `Response`.
  return first.hasExpress ? bundleAs(entry, engine, false) : first;
}

async function bundleAs(entry, engine, withFetch) {
  const { glue, name, globals } = ENGINES[engine];
  const file = resolve(entry);
  const contents = `import * as guest from ${JSON.stringify(file)};
import { handlerOf } from ${JSON.stringify(glue)};
export const ${name} = handlerOf(guest);`;
  const { outputFiles, metafile, warnings } = await build({
    stdin: { contents, resolveDir: dirname(file), sourcefile: 'cloakroom-entry.js' },
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    target: 'es2022',
    external: ['wasi:*', 'cloakroom:*'],
    inject: globals,
    define: { global: 'globalThis', CLOAKROOM_FETCH: String(withFetch) },
    metafile: true,
    sourcemap: 'external',
    outfile: 'guest.js',
    write: false,
    logLevel: 'silent',
    plugins: [replacements(engine)],
  });
  const [map, code] = ['.map', '.js'].map((end) => outputFiles.find(({ path }) => path.endsWith(end)).text);
  const table = lineTable(JSON.parse(map), process.cwd());
  return {
    code: `${code}\nglobalThis.__cloakroomLines = ${JSON.stringify(table)};\n`,
    table,
    warnings,
    hasExpress: isKept(metafile, own('express.js')),
    file: relative('', file) || basename(file),
  };
}

/** Returns whether any part of a file is left in the bundle. Unused parts are removed. */
function isKept({ outputs }, file) {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  return inputs.some(([input, { bytesInOutput }]) => resolve(input) === file && bytesInOutput > 0);
}

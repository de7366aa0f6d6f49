// Maps lines of the bundle to lines of the guest author's files. `src/trace.js` reads the table when an error is logged.

import { relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TraceMap, eachMapping } from '@jridgewell/trace-mapping';

const OURS = fileURLToPath(new URL('../src/', import.meta.url));

/**
 * Returns `files`, which are indexed by number, and `lines`, which is flat: line of the bundle, number of the file, line in the
 * file. An entry holds until the next one, and both lines count on from it. A file of -1 means lines of a library. File names are
 * relative to the folder `root`.
 */
export function lineTable(map, root) {
  const files = [];
  const lines = [];
  let last = { file: -1, bundled: 0, line: 0 };
  eachMapping(new TraceMap(map), ({ generatedLine, source, originalLine }) => {
    if (generatedLine === last.bundled && last.file >= 0) return;
    const file = numberOf(files, source, root);
    const goesOn = file === last.file && (file < 0 || originalLine - last.line === generatedLine - last.bundled);
    last = goesOn ? last : { file, bundled: generatedLine, line: originalLine ?? 0 };
    if (!goesOn) lines.push(generatedLine, file, last.line);
  });
  return { files, lines };
}

function numberOf(files, source, root) {
  if (!source || /node_modules\/|(^|\/)cloakroom-(entry|\w+:)/.test(source)) return -1;
  const path = resolve(root, source);
  if (path.startsWith(OURS)) return -1;
  const name = relative(root, path);
  const known = files.indexOf(name);
  return known >= 0 ? known : files.push(name) - 1;
}

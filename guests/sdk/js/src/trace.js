// Stack traces with the files and lines of the guest author's sources. The build adds a table of the bundle's lines (`build/lines.js`).

// A position in the bundle: QuickJS writes `at name (/guest.js:1:2)`, StarlingMonkey `name@guest.js:1:2`.
const BUNDLED = /\(?\/?guest\.js:(\d+)(?::\d+)?\)?/;

/** Returns the text of an error with its stack, with the bundle's lines replaced by those of the sources. */
export function traced(error) {
  if (!(error instanceof Error)) return `a handler threw a value that is not an Error: ${String(error)}`;
  const stack = String(error.stack ?? '').trimEnd();
  const head = `${error.name}: ${error.message}`;
  const whole = stack.startsWith(head) ? stack : `${head}\n${stack}`;
  return mapped(whole);
}

/** Returns a stack trace with the lines of the sources. Frames of libraries are omitted, unless there are no others. */
export function mapped(stack) {
  const table = globalThis.__cloakroomLines;
  if (!table) return stack;
  const lines = stack.split('\n');
  const own = lines.map((line) => withPlace(table, line)).filter((line) => !BUNDLED.test(line));
  const isToldWhere = own.some((line) => table.files.some((file) => line.includes(`${file}:`)));
  return (isToldWhere ? own : lines).join('\n');
}

function withPlace(table, line) {
  return line.replace(BUNDLED, (frame, bundled) => {
    const place = placeOf(table, Number(bundled));
    return place ? `(${place})` : frame;
  });
}

/**
 * Returns the position of a bundle's line in the sources. `table.lines` is flat and in ascending order: line of the bundle,
 * number of the file, line in the file. A file of -1 ends a range.
 */
function placeOf({ files, lines }, wanted) {
  let found = -1;
  for (let at = 0; at < lines.length && lines[at] <= wanted; at += 3) found = at;
  if (found < 0 || lines[found + 1] < 0) return undefined;
  return `${files[lines[found + 1]]}:${lines[found + 2] + (wanted - lines[found])}`;
}

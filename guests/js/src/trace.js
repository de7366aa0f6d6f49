// Stack traces in the author's files and lines. The build leaves a table of the bundle's lines (`build/lines.js`).

// A place in the bundle: QuickJS writes `at name (/guest.js:1:2)`, StarlingMonkey `name@guest.js:1:2`.
const BUNDLED = /\(?\/?guest\.js:(\d+)(?::\d+)?\)?/;

/** The text of an error with its stack, the bundle's lines replaced by those of the sources. */
export function traced(error) {
  if (!(error instanceof Error)) return `a handler threw what is no Error: ${String(error)}`;
  const stack = String(error.stack ?? '').trimEnd();
  const head = `${error.name}: ${error.message}`;
  const whole = stack.startsWith(head) ? stack : `${head}\n${stack}`;
  return mapped(whole);
}

/** A stack trace with the sources' lines. Frames of libraries are left out, unless there are no others. */
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

/** `table.lines` is flat: line of the bundle, number of the file, line in it; ascending. A file of -1 ends a stretch. */
function placeOf({ files, lines }, wanted) {
  let found = -1;
  for (let at = 0; at < lines.length && lines[at] <= wanted; at += 3) found = at;
  if (found < 0 || lines[found + 1] < 0) return undefined;
  return `${files[lines[found + 1]]}:${lines[found + 2] + (wanted - lines[found])}`;
}

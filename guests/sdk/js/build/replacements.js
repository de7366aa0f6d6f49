// Replacements for Node.js's modules and for the parts of Express that need them. Only the build uses them.

import { readFile } from 'node:fs/promises';
import { builtinModules, createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const own = (file) => fileURLToPath(new URL(`../src/${file}`, import.meta.url));

const FILES = {
  http: own('node/http.js'),
  net: own('node/net.js'),
  events: require.resolve('events/'),
  buffer: require.resolve('buffer/'),
  path: require.resolve('path-browserify'),
  querystring: require.resolve('fast-querystring'),
  'iconv-lite': own('node/utf8.cjs'),
};

// Exports of `absent.cjs` that replace these modules.
const ABSENT = ['fs', 'crypto', 'zlib', 'send', 'serve-static', 'etag'];
// Packages check what these modules offer before they use it. A guest author's own code would not, so only packages may import them.
const EMPTY = ['async_hooks', 'diagnostics_channel', 'url', 'util'];
// Replacements that write nothing for packages that write debug output and deprecation warnings to standard error.
const SILENT = {
  debug: 'module.exports = () => () => {};',
  depd: 'module.exports = () => Object.assign(() => {}, { function: (f) => f, property() {} });',
};

/** Lets the imports of code for Node.js stay as they are: the SDK replaces these packages. */
const ALIASES = {
  cloakroom: `export * from ${text(own('index.js'))}; export { default } from ${text(own('index.js'))};`,
  express: `export { default } from ${text(own('index.js'))}; export * from ${text(own('index.js'))};`,
  'express-session': `export { session as default } from ${text(own('index.js'))};`,
  'cookie-parser': `export { cookieParser as default } from ${text(own('index.js'))};`,
};

/** The same for `require`, which on Node.js returns the `module.exports` of these packages. */
const REQUIRED = {
  express: `module.exports = require(${text(own('index.js'))}).default;`,
  'express-session': `module.exports = require(${text(own('index.js'))}).session;`,
  'cookie-parser': `module.exports = require(${text(own('index.js'))}).cookieParser;`,
};

/** Returns the esbuild plugin. */
export function replacements(engine) {
  return {
    name: 'cloakroom',
    setup(build) {
      build.onResolve({ filter: /^(?:node:)?[a-z_-]+$/ }, (wanted) => resolve(wanted.path.replace(/^node:/, ''), wanted));
      build.onResolve({ filter: /^\.\/view$/ }, ({ importer }) =>
        importer.includes('/express/lib/') ? { path: 'view', namespace: 'cloakroom-absent' } : undefined,
      );
      build.onLoad({ filter: /.*/, namespace: 'cloakroom-absent' }, ({ path }) => ({
        contents: `module.exports = require(${text(own('node/absent.cjs'))})[${text(path)}];`,
        resolveDir: own(''),
      }));
      if (engine === 'starlingmonkey') {
        build.onLoad({ filter: /path-to-regexp.dist.index\.js$/ }, withoutUnicodeProperties);
      }
      build.onLoad({ filter: /mime-db.db\.json$/ }, typesWithExtensions);
      build.onLoad({ filter: /.*/, namespace: 'cloakroom-empty' }, () => ({ contents: 'module.exports = { inspect: {} };' }));
      build.onLoad({ filter: /.*/, namespace: 'cloakroom-silent' }, ({ path }) => ({ contents: SILENT[path] }));
      build.onLoad({ filter: /.*/, namespace: 'cloakroom-alias' }, ({ path }) => ({ contents: ALIASES[path], resolveDir: own('') }));
      build.onLoad({ filter: /.*/, namespace: 'cloakroom-required' }, ({ path }) => ({ contents: REQUIRED[path], resolveDir: own('') }));
    },
  };
}

function resolve(name, { path, importer, kind }) {
  const isOurs = importer.startsWith(own(''));
  if (kind === 'require-call' && Object.hasOwn(REQUIRED, name) && !isOurs) return { path: name, namespace: 'cloakroom-required' };
  if (Object.hasOwn(ALIASES, name) && !isOurs) {
    return { path: name, namespace: 'cloakroom-alias', sideEffects: false };
  }
  if (Object.hasOwn(FILES, name)) return { path: FILES[name] };
  if (ABSENT.includes(name)) return { path: name, namespace: 'cloakroom-absent' };
  if (EMPTY.includes(name) && /[\\/]node_modules[\\/]/.test(importer)) return { path: name, namespace: 'cloakroom-empty' };
  if (Object.hasOwn(SILENT, name)) return { path: name, namespace: 'cloakroom-silent' };
  if (path.startsWith('node:') || builtinModules.includes(path)) {
    return { errors: [{ text: `a guest has no module \`${path}\` of Node.js` }] };
  }
  return undefined;
}

/** Keeps the thousand media types, out of 2,500, that have file extensions: `res.type` and `accepts` look for no others. */
async function typesWithExtensions({ path }) {
  const all = Object.entries(JSON.parse(await readFile(path, 'utf8')));
  const kept = all.filter(([, { extensions }]) => extensions).map(([type, { compressible: _, ...rest }]) => [type, rest]);
  return { contents: JSON.stringify(Object.fromEntries(kept)), loader: 'json' };
}

/** Replaces `\p{...}`, which StarlingMonkey does not support. Names of route parameters then accept any character beyond ASCII. */
async function withoutUnicodeProperties({ path }) {
  const code = await readFile(path, 'utf8');
  const beyond = '\\u{80}-\\u{10ffff}';
  return { contents: code.replaceAll('\\p{ID_Start}', `A-Za-z${beyond}`).replaceAll('\\p{ID_Continue}', `\\w${beyond}`) };
}

function text(value) {
  return JSON.stringify(value);
}

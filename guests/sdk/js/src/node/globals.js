// Globals of Node.js that neither engine has. The build replaces each use of a name in a bundle with the export of that name.

export { Buffer } from './buffer.js';
export { clearImmediate, process, setImmediate } from './process.js';

// Globals of Node.js that neither engine has. The build puts each in place of its name where a bundle uses it.

export { Buffer } from './buffer.js';
export { clearImmediate, process, setImmediate } from './process.js';

// Globals of the web that QuickJS lacks. The build puts each in place of its name where a bundle uses it, and leaves out the rest.

export { console } from './console.js';
export { clearInterval, clearTimeout, setInterval, setTimeout } from './timers.js';

// Replaces features that a guest does not have. Each part throws when it is used and not when it is imported, because packages
// import many modules that they do not use.
'use strict';

const absent = (what, instead) =>
  function () {
    throw new Error(`a guest has no ${what}: ${instead}`);
  };

const file = absent('file system', 'bundle the text into the component, or serve the file from elsewhere');
const hash = absent('node:crypto', 'use the global `crypto`, as far as the engine has it');
const inflate = absent('node:zlib', 'let the proxy in front of the host compress and decompress');

exports.fs = { readFile: file, readFileSync: file, statSync: file, existsSync: file, createReadStream: file };
exports.crypto = { createHash: hash, createHmac: hash, randomBytes: hash, timingSafeEqual: hash };
exports.zlib = { createInflate: inflate, createGunzip: inflate, createBrotliDecompress: inflate };
// `res.sendFile`, `express.static`, `res.render`, `app.set('etag', 'weak')`.
exports.send = absent('file system', '`res.sendFile` has nothing to send');
exports['serve-static'] = absent('file system', '`express.static` has nothing to serve');
exports.view = absent('file system', '`res.render` finds no templates: call the template engine on a text that is bundled');
exports.etag = absent('hash for an ETag', "give `app.set('etag', fn)` a function");

// `iconv-lite` for request bodies in UTF-8, which all clients but very old ones send. Other encodings are reported as unknown,
// and body-parser responds to them with 415.
'use strict';

const { Buffer } = require('buffer');

const isUtf8 = (encoding) => /^(utf-?8|us-ascii)$/i.test(encoding);

exports.encodingExists = isUtf8;
exports.decode = (bytes) => Buffer.from(bytes).toString('utf8');
exports.getDecoder = function (encoding) {
  // raw-body recognizes an unknown encoding by this message.
  if (!isUtf8(encoding)) throw new Error(`Encoding not recognized: '${encoding}'`);
  const chunks = [];
  return {
    // A chunk can end within a character, so all chunks are decoded together at the end.
    write(chunk) {
      chunks.push(chunk);
      return '';
    },
    end: () => Buffer.concat(chunks).toString('utf8'),
  };
};

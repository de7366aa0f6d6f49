// `iconv-lite` as far as request bodies are in UTF-8, which all but very old clients send. Other encodings are told as unknown,
// and body-parser answers them with 415.
'use strict';

const { Buffer } = require('buffer');

const isUtf8 = (encoding) => /^(utf-?8|us-ascii)$/i.test(encoding);

exports.encodingExists = isUtf8;
exports.decode = (bytes) => Buffer.from(bytes).toString('utf8');
exports.getDecoder = function (encoding) {
  // raw-body knows an unknown encoding by this message.
  if (!isUtf8(encoding)) throw new Error(`Encoding not recognized: '${encoding}'`);
  const chunks = [];
  return {
    // A character may be cut by the end of a chunk, so all is decoded at the end.
    write(chunk) {
      chunks.push(chunk);
      return '';
    },
    end: () => Buffer.concat(chunks).toString('utf8'),
  };
};

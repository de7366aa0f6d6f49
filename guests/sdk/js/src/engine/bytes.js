// Conversions between texts and bytes of header fields, without any web API. Independent of the engine.

/** Returns a field's value as a text with one character for each byte, like Node.js. */
export function latin1(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** Returns the bytes of such a text. A text with a character that does not fit in one byte is encoded as UTF-8. */
export function fieldBytes(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 255) return utf8(text);
    bytes[at] = code;
  }
  return bytes;
}

/** Encodes a text in UTF-8. */
export function utf8(text) {
  const escaped = unescape(encodeURIComponent(text.toWellFormed()));
  return Uint8Array.from(escaped, (letter) => letter.charCodeAt(0));
}

/** Returns the method name of a `wasi:http` variant. */
export function methodName({ tag, val }) {
  return tag === 'other' ? val : tag.toUpperCase();
}

/** Joins chunks into one. */
export function concat(chunks) {
  if (chunks.length === 1) return chunks[0];
  const whole = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

// Text and bytes of header fields, without any web API. Knows neither engine.

/** A field's value as text, a byte a letter, as Node.js gives it. */
export function latin1(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** The bytes of such a text; what no single byte holds is encoded as UTF-8. */
export function fieldBytes(text) {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 255) return utf8(text);
    bytes[at] = code;
  }
  return bytes;
}

/** A text in UTF-8. */
export function utf8(text) {
  const escaped = unescape(encodeURIComponent(text.toWellFormed()));
  return Uint8Array.from(escaped, (letter) => letter.charCodeAt(0));
}

/** The method of a `wasi:http` variant. */
export function methodName({ tag, val }) {
  return tag === 'other' ? val : tag.toUpperCase();
}

/** Joins chunks to one. */
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

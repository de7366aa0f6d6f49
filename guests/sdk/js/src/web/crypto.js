// `crypto` on QuickJS: random bytes from the host. It has no `subtle`.

import * as random from 'wasi:random/random@0.2.10';

// Maximum number of random bytes that the host returns in one call.
const CALL_BYTES_MAX = 65536;

export const crypto = {
  getRandomValues(array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let start = 0; start < bytes.length; start += CALL_BYTES_MAX) {
      const length = Math.min(CALL_BYTES_MAX, bytes.length - start);
      bytes.set(random.getRandomBytes(length), start);
    }
    return array;
  },

  randomUUID() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  },
};

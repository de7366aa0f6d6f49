// `isIP` of `node:net`, the only function of that module that Express uses.

import ipaddr from 'ipaddr.js';

export function isIP(text) {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return 4;
  return ipaddr.IPv6.isValid(text) ? 6 : 0;
}

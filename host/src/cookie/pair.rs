//! The `name=value` pairs of a `Cookie` header, as bytes. Knows no meaning of either.

use http::HeaderValue;

/// The pairs of one header in their order, without the spaces around names and values. What has no `=` is no pair.
pub(super) fn pairs(header: &HeaderValue) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.as_bytes().split(|b| *b == b';').filter_map(split)
}

/// Name and value of what stands between two semicolons.
pub(super) fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|b| *b == b'=')?;
    Some((trim(&pair[..equals]), trim(&pair[equals + 1..])))
}

/// Takes spaces and tabs off both ends, and nothing else that some Unicode table calls white space.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

//! The `name=value` pairs of a `Cookie` header, as bytes, without their meaning.

use http::HeaderValue;

/// Returns the pairs of one header in order, without the spaces around names and values. Parts without `=` are skipped.
pub(crate) fn pairs(header: &HeaderValue) -> impl Iterator<Item = (&[u8], &[u8])> {
    header.as_bytes().split(|b| *b == b';').filter_map(split)
}

/// Splits the text between two semicolons into name and value.
pub(crate) fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|b| *b == b'=')?;
    Some((trim(&pair[..equals]), trim(&pair[equals + 1..])))
}

/// Removes spaces and tabs from both ends, but no other Unicode white space.
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

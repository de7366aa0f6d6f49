//! The memory that header fields take in the host.

use http::HeaderMap;

/// Bytes that a header field takes in addition to its text: its entry in a map that may be half empty, and its allocations.
const FIELD_OVERHEAD_BYTES: usize = 256;

/// Returns the bytes that a set of header fields takes.
pub(crate) fn fields_size(fields: &HeaderMap) -> usize {
    let sizes = fields
        .iter()
        .map(|(name, value)| size(name.as_str(), value.as_bytes()));
    sizes.sum()
}

/// Returns the bytes that a header field takes.
pub(crate) fn size(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD_BYTES
}

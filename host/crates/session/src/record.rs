//! The stored form of a session: its ID, its row, and the JSON of Express inside it. This module does no I/O and does not
//! depend on cookie signatures or guests.

mod attributes;
mod charset;
mod document;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod id;
mod json;
mod timestamp;
mod token;

pub use attributes::{CookieAttributes, Priority, SameSite, StoredCookieObject};
pub use charset::Charset;
pub use document::{CorruptDocument, Document, is_reserved_key};
pub use id::SessionId;
pub use json::{as_integer, check_value, is_truthy};
pub use token::{CommitToken, TokenHistory};

use bytes::Bytes;

/// One session's row as a store holds it.
///
/// `Debug` omits the data, because rows contain what visitors have entered.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The JSON text exactly as stored. It may not be UTF-8, because the column can hold any bytes.
    pub data: Bytes,
    /// Last second (since the epoch) at which the row is valid: it is valid iff `expires_at_s >= now`.
    pub expires_at_s: i64,
    /// The tokens of the row's last commits by Cloakroom hosts. Empty when only Express wrote the row or the columns are
    /// absent.
    pub tokens: TokenHistory,
    /// When Cloakroom first wrote the row, in seconds since the epoch.
    pub created_at_s: Option<i64>,
}

impl std::fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRecord")
            .field("data_bytes", &self.data.len())
            .field("expires_at_s", &self.expires_at_s)
            .finish_non_exhaustive()
    }
}

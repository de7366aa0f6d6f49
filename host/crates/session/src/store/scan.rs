//! Reads a whole store page by page in key order, for store copies and store checks. Knows no cookies and no
//! destination.

use std::fmt;

use super::{StoreError, StoreFuture};
use crate::record::{Charset, SessionId, SessionRecord};

/// A store whose rows can be listed, even while hosts write them.
///
/// Each call sees the rows as they are at the time of the call: no two calls share a transaction. A long listing
/// therefore holds no lock and does not keep a log from being reused. It may miss a row that is inserted before its
/// cursor.
pub trait StoreScan: Send + Sync + fmt::Debug {
    /// Returns the next ids after `after`, in the order of the store's key: at most `rows_max` ids of rows that are
    /// valid at `now_s`.
    ///
    /// # Errors
    /// Returns an error if the store does not answer in time or cannot be read.
    ///
    /// Cancel safety: a read; dropping it changes nothing.
    fn ids_after<'a>(
        &'a self,
        after: &'a ScanCursor,
        rows_max: usize,
        now_s: i64,
    ) -> StoreFuture<'a, Result<ScanPage, StoreError>>;

    /// Reads rows and returns one result per id, in the same order: `None` if the row is absent or expired before
    /// `now_s`.
    ///
    /// # Errors
    /// Returns an error if the store does not answer in time or cannot be read.
    ///
    /// Cancel safety: a read; dropping it changes nothing.
    fn rows<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>>;

    /// Counts the rows that are valid at `now_s`, for a progress bar. The count scans an index.
    ///
    /// # Errors
    /// Returns an error if the store does not answer in time or cannot be read.
    fn count(&self, now_s: i64) -> StoreFuture<'_, Result<u64, StoreError>>;

    /// Returns which of Cloakroom's own columns the table has in addition to Express's columns.
    fn own_columns(&self) -> OwnColumns;

    /// Returns the characters that the data column can hold.
    fn charset(&self) -> Charset;
}

/// Cloakroom's own columns, in addition to Express's. A row that is written to a table without these columns loses
/// their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnColumns {
    /// Whether the table has `cloakroom_token`.
    pub tokens: bool,
    /// Whether the table has `cloakroom_created`.
    pub created: bool,
}

/// A position in a listing: the bytes of the last listed id. `Debug` does not print them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ScanCursor(Vec<u8>);

impl ScanCursor {
    /// Returns the bytes of the last id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ScanCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct ScanPage {
    /// The ids, in the order of the store's key.
    pub ids: Vec<SessionId>,
    /// Number of rows whose key is not a session id because it is longer than 128 bytes or is not UTF-8. No cookie can
    /// name such a row.
    pub unusable: u64,
    /// Cursor for the next page; `None` at the end.
    pub next: Option<ScanCursor>,
}

impl ScanPage {
    /// Returns the page for these keys, which were read with a limit of `rows_max`.
    pub fn of(keys: Vec<Vec<u8>>, rows_max: usize) -> Self {
        let is_full = keys.len() >= rows_max;
        let next = keys.last().filter(|_| is_full).cloned().map(ScanCursor);
        let listed = keys.len();
        let ids: Vec<_> = keys
            .iter()
            .filter_map(|key| SessionId::from_foreign(std::str::from_utf8(key).ok()?))
            .collect();
        Self {
            unusable: u64::try_from(listed - ids.len()).unwrap_or(u64::MAX),
            ids,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_page_is_followed_by_another_one_and_odd_keys_are_counted() {
        let keys = || vec![b"a".to_vec(), vec![0xff], vec![b'x'; 129]];
        let page = ScanPage::of(keys(), 3);
        assert_eq!((page.ids.len(), page.unusable), (1, 2));
        assert_eq!(page.next, Some(ScanCursor(vec![b'x'; 129])));
        assert_eq!(ScanPage::of(keys(), 4).next, None);
        assert_eq!(ScanPage::of(Vec::new(), 4).next, None);
    }

    #[test]
    fn debug_shows_no_id() {
        let page = ScanPage::of(vec![b"secret-id".to_vec()], 1);
        assert!(!format!("{page:?}").contains("secret-id"));
    }
}

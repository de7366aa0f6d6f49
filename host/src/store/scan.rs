//! Reading a whole store in the order of its keys, page by page: for copies and for checks. Knows no cookies and no destination.

use std::fmt;

use super::{StoreError, StoreFuture};
use crate::record::{Charset, SessionId, SessionRecord};

/// A store whose rows can be listed, also beside hosts that write them.
///
/// Each call sees the rows as they are at its own time: no two calls share a transaction, so a long listing holds no lock, keeps
/// no log from being reused, and may miss a row that is made behind its place.
pub trait Scan: Send + Sync + fmt::Debug {
    /// The next ids after `after`, in the order of the store's own key: of rows that are valid at `now_s`, at most `rows_max`.
    ///
    /// # Errors
    /// When the store did not answer in time, or cannot be read.
    ///
    /// Cancel safety: a read; dropping it changes nothing.
    fn ids_after<'a>(
        &'a self,
        after: &'a Cursor,
        rows_max: usize,
        now_s: i64,
    ) -> StoreFuture<'a, Result<Page, StoreError>>;

    /// Reads rows, one answer per id in the same order; `None` where the row is absent or expired before `now_s`.
    ///
    /// # Errors
    /// When the store did not answer in time, or cannot be read.
    ///
    /// Cancel safety: a read; dropping it changes nothing.
    fn rows<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>>;

    /// How many rows are valid at `now_s`: a figure for a progress bar, which takes a walk through an index.
    ///
    /// # Errors
    /// When the store did not answer in time, or cannot be read.
    fn count(&self, now_s: i64) -> StoreFuture<'_, Result<u64, StoreError>>;

    /// The columns that the rows have beside Express's.
    fn own_columns(&self) -> OwnColumns;

    /// The characters that the column of the data can hold.
    fn charset(&self) -> Charset;
}

/// The columns beside Express's. A row that is written to a table without them loses their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnColumns {
    /// `cloakroom_token`.
    pub tokens: bool,
    /// `cloakroom_created`.
    pub created: bool,
}

/// A place in a listing: the bytes of the last id that was listed. `Debug` shows none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

impl Cursor {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor(..)")
    }
}

/// One step of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// The ids, in the order of the store's key.
    pub ids: Vec<SessionId>,
    /// Rows under keys that are no session id: over 128 bytes, or no UTF-8. No cookie can name them.
    pub unusable: u64,
    /// Where the next step begins; none at the end.
    pub next: Option<Cursor>,
}

impl Page {
    /// The page of these keys, of which at most `rows_max` were asked for.
    pub(super) fn of(keys: Vec<Vec<u8>>, rows_max: usize) -> Self {
        let is_full = keys.len() >= rows_max;
        let next = keys.last().filter(|_| is_full).cloned().map(Cursor);
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
        let page = Page::of(keys(), 3);
        assert_eq!((page.ids.len(), page.unusable), (1, 2));
        assert_eq!(page.next, Some(Cursor(vec![b'x'; 129])));
        assert_eq!(Page::of(keys(), 4).next, None);
        assert_eq!(Page::of(Vec::new(), 4).next, None);
    }

    #[test]
    fn debug_shows_no_id() {
        let page = Page::of(vec![b"secret-id".to_vec()], 1);
        assert!(!format!("{page:?}").contains("secret-id"));
    }
}

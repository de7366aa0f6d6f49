//! The rows whose last commit has an unknown end. Their next commits travel alone.
//!
//! A commit in doubt is sent again as it was. Among others in one statement its row might show what the first sending did,
//! and the others could not be told by their count; and if it is what breaks links (too much for a proxy, say), it must not
//! break them for others again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::STORE_QUEUE_ROWS_MAX;
use crate::record::SessionId;
use crate::store::{Change, Commit, Verdict};

/// How long a row is remembered after the last time that its commit was sent: far above the waits between two sendings.
const KEPT: Duration = Duration::from_secs(60);
/// Rows that are remembered. With so many in doubt at a time, every row counts as one.
const ROWS_MAX: usize = STORE_QUEUE_ROWS_MAX;

/// See the module.
#[derive(Default)]
pub(in crate::store::mysql) struct Doubts {
    rows: Mutex<HashMap<SessionId, Instant>>,
}

impl Doubts {
    /// Takes note of what a commit is told; before it is told.
    pub(in crate::store::mysql) fn note(&self, commit: &Commit, verdict: &Verdict, now: Instant) {
        // Never sent again.
        if matches!(commit.change, Change::Create(_)) {
            return;
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            Verdict::Committed => {
                rows.remove(&commit.id);
            }
            Verdict::Ambiguous(_) => {
                if rows.len() >= ROWS_MAX {
                    rows.retain(|_, noted_at| now.duration_since(*noted_at) < KEPT);
                }
                if rows.len() < ROWS_MAX {
                    rows.insert(commit.id.clone(), now);
                }
            }
            // Whoever could not look at the row sends it once more.
            Verdict::Conflict | Verdict::RolledBack(_) | Verdict::Failed(_) => {
                if let Some(noted_at) = rows.get_mut(&commit.id) {
                    *noted_at = now;
                }
            }
        }
    }

    /// Whether a commit of this row may have been sent before.
    pub(in crate::store::mysql) fn contain(&self, id: &SessionId, now: Instant) -> bool {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= ROWS_MAX {
            rows.retain(|_, noted_at| now.duration_since(*noted_at) < KEPT);
            return rows.len() >= ROWS_MAX || rows.contains_key(id);
        }
        let is_fresh = |noted_at: &Instant| now.duration_since(*noted_at) < KEPT;
        rows.get(id).is_some_and(is_fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreError, StoreErrorKind};

    fn delete(id: &SessionId) -> Commit {
        Commit {
            id: id.clone(),
            change: Change::Delete { base: None },
        }
    }

    fn error() -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unavailable,
            detail: String::new(),
        }
    }

    #[test]
    fn a_row_is_in_doubt_until_it_is_committed_or_long_enough_ago() {
        let (doubts, now, id) = (Doubts::default(), Instant::now(), SessionId::generate());
        doubts.note(&delete(&id), &Verdict::Conflict, now);
        assert!(!doubts.contain(&id, now));
        doubts.note(&delete(&id), &Verdict::Ambiguous(error()), now);
        assert!(doubts.contain(&id, now));
        assert!(!doubts.contain(&SessionId::generate(), now));

        let later = now + KEPT / 2;
        doubts.note(&delete(&id), &Verdict::Failed(error()), later);
        assert!(doubts.contain(&id, now + KEPT), "it was sent since");
        assert!(!doubts.contain(&id, later + KEPT));

        doubts.note(&delete(&id), &Verdict::Committed, later);
        assert!(!doubts.contain(&id, later));
    }

    #[test]
    fn with_more_than_can_be_remembered_every_row_is_in_doubt_for_a_while() {
        let (doubts, now) = (Doubts::default(), Instant::now());
        for _ in 0..=ROWS_MAX {
            let id = SessionId::generate();
            doubts.note(&delete(&id), &Verdict::Ambiguous(error()), now);
        }
        let stranger = SessionId::generate();
        assert!(doubts.contain(&stranger, now));
        assert!(!doubts.contain(&stranger, now + KEPT));
    }
}

//! The contended rows: rows that other hosts also write, recognized by a recent commit that came too late. A statement
//! contains at most one of them.
//!
//! After a statement with many rows, the rows' tokens show which rows were swapped, and a row remembers only its last
//! few commits. On a busy machine, a row that several hosts write may have received more commits than that by then, so
//! its tokens no longer show the outcome. The count of swapped rows decides the outcome of one such row, but not of
//! two.
//!
//! Decision 8 in `host/docs/decisions` has the alternatives and the measurements.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use cloakroom_base::limits::STORE_QUEUE_ROWS_MAX;
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{Commit, CommitVerdict};

/// How long a row is remembered after a commit that came too late.
const RETENTION: Duration = Duration::from_secs(10);
/// Maximum number of remembered rows. If several hosts write more rows than this at once, some contended rows are
/// batched together.
const ROWS_MAX: usize = STORE_QUEUE_ROWS_MAX;

/// The contended rows and when each was recorded.
#[derive(Default)]
pub(crate) struct ContendedRows {
    rows: Mutex<HashMap<SessionId, Instant>>,
}

impl ContendedRows {
    /// Records the verdict of a commit.
    pub(crate) fn note(&self, commit: &Commit, verdict: &CommitVerdict, now: Instant) {
        if matches!(verdict, CommitVerdict::Committed | CommitVerdict::Failed(_)) {
            return;
        }
        let mut rows = self.rows.lock();
        if rows.len() >= ROWS_MAX {
            rows.retain(|_, noted_at| now.duration_since(*noted_at) < RETENTION);
        }
        if rows.len() < ROWS_MAX {
            rows.insert(commit.id.clone(), now);
        }
    }

    /// Returns whether another writer recently came first on this row.
    pub(crate) fn contain(&self, id: &SessionId, now: Instant) -> bool {
        let mut rows = self.rows.lock();
        match rows.get(id) {
            Some(noted_at) if now.duration_since(*noted_at) < RETENTION => true,
            Some(_) => {
                rows.remove(id);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_session::store::RowChange;

    fn delete(id: &SessionId) -> Commit {
        Commit {
            id: id.clone(),
            change: RowChange::Delete { base: None },
        }
    }

    #[test]
    fn a_row_is_contended_for_a_while_after_a_conflict() {
        let (contended, now, id) = (
            ContendedRows::default(),
            Instant::now(),
            SessionId::generate(),
        );
        contended.note(&delete(&id), &CommitVerdict::Committed, now);
        assert!(!contended.contain(&id, now));
        contended.note(&delete(&id), &CommitVerdict::Conflict, now);
        contended.note(&delete(&id), &CommitVerdict::Committed, now);
        assert!(
            contended.contain(&id, now),
            "the next commit may come too late again"
        );
        assert!(!contended.contain(&SessionId::generate(), now));
        assert!(!contended.contain(&id, now + RETENTION));
    }

    #[test]
    fn rows_that_are_no_longer_contended_make_room_for_new_ones() {
        let (contended, now) = (ContendedRows::default(), Instant::now());
        for _ in 0..=ROWS_MAX {
            contended.note(
                &delete(&SessionId::generate()),
                &CommitVerdict::Conflict,
                now,
            );
        }
        let id = SessionId::generate();
        contended.note(&delete(&id), &CommitVerdict::Conflict, now);
        assert!(!contended.contain(&id, now), "no room");
        contended.note(&delete(&id), &CommitVerdict::Conflict, now + RETENTION);
        assert!(contended.contain(&id, now + RETENTION));
    }
}

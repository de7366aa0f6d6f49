//! The rows that others write as well: those whose commit has lately come too late. Only one of them is in a statement.
//!
//! Which of many rows a statement has swapped is read from their tokens afterwards, and a row remembers its last few commits.
//! On a busy machine one that several hosts write at once may have gone on by more than those by then, and says nothing any
//! more. The count of swapped rows decides about one such row, and about no two of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::STORE_QUEUE_ROWS_MAX;
use crate::record::SessionId;
use crate::store::{Commit, Verdict};

/// How long a row is remembered after a commit that came too late.
const KEPT: Duration = Duration::from_secs(10);
/// Rows that are remembered. Where more are written by several hosts at once, some travel together.
const ROWS_MAX: usize = STORE_QUEUE_ROWS_MAX;

/// See the module.
#[derive(Default)]
pub(in crate::store::mysql) struct Contests {
    rows: Mutex<HashMap<SessionId, Instant>>,
}

impl Contests {
    /// Takes note of what a commit is told.
    pub(in crate::store::mysql) fn note(&self, commit: &Commit, verdict: &Verdict, now: Instant) {
        if matches!(verdict, Verdict::Committed | Verdict::Failed(_)) {
            return;
        }
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= ROWS_MAX {
            rows.retain(|_, noted_at| now.duration_since(*noted_at) < KEPT);
        }
        if rows.len() < ROWS_MAX {
            rows.insert(commit.id.clone(), now);
        }
    }

    /// Whether others have lately come first to this row.
    pub(in crate::store::mysql) fn contain(&self, id: &SessionId, now: Instant) -> bool {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        match rows.get(id) {
            Some(noted_at) if now.duration_since(*noted_at) < KEPT => true,
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
    use crate::store::Change;

    fn delete(id: &SessionId) -> Commit {
        Commit {
            id: id.clone(),
            change: Change::Delete { base: None },
        }
    }

    #[test]
    fn a_row_is_contested_for_a_while_after_a_conflict() {
        let (contests, now, id) = (Contests::default(), Instant::now(), SessionId::generate());
        contests.note(&delete(&id), &Verdict::Committed, now);
        assert!(!contests.contain(&id, now));
        contests.note(&delete(&id), &Verdict::Conflict, now);
        contests.note(&delete(&id), &Verdict::Committed, now);
        assert!(
            contests.contain(&id, now),
            "the next one may come too late again"
        );
        assert!(!contests.contain(&SessionId::generate(), now));
        assert!(!contests.contain(&id, now + KEPT));
    }

    #[test]
    fn old_ones_make_room() {
        let (contests, now) = (Contests::default(), Instant::now());
        for _ in 0..=ROWS_MAX {
            contests.note(&delete(&SessionId::generate()), &Verdict::Conflict, now);
        }
        let id = SessionId::generate();
        contests.note(&delete(&id), &Verdict::Conflict, now);
        assert!(!contests.contain(&id, now), "no room");
        contests.note(&delete(&id), &Verdict::Conflict, now + KEPT);
        assert!(contests.contain(&id, now + KEPT));
    }
}

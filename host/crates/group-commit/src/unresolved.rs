//! The unresolved commits: rows whose last commit has an unknown outcome. The next commits of these rows are not
//! batched.
//!
//! An unresolved commit is sent again unchanged. In a batch, its row might show the effect of the first sending, and
//! the count of swapped rows would no longer decide the outcome of the other rows. Also, if the commit itself breaks
//! connections (for example because it is too large for a proxy), it must not break them repeatedly for other jobs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use cloakroom_base::limits::STORE_QUEUE_ROWS_MAX;
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{Commit, CommitVerdict, RowChange};

/// How long a row is remembered after its commit was last sent. Far longer than the wait between two sendings.
const RETENTION: Duration = Duration::from_secs(60);
/// Maximum number of remembered rows. At this number, every row is treated as unresolved.
const ROWS_MAX: usize = STORE_QUEUE_ROWS_MAX;

/// The unresolved rows and when each was last recorded.
#[derive(Default)]
pub(crate) struct UnresolvedCommits {
    rows: Mutex<HashMap<SessionId, Instant>>,
}

impl UnresolvedCommits {
    /// Records the verdict of a commit. Must be called before the caller receives the verdict.
    pub(crate) fn note(&self, commit: &Commit, verdict: &CommitVerdict, now: Instant) {
        // A creation is never sent again.
        if matches!(commit.change, RowChange::Create(_)) {
            return;
        }
        let mut rows = self.rows.lock();
        match verdict {
            CommitVerdict::Committed => {
                rows.remove(&commit.id);
            }
            CommitVerdict::Ambiguous(_) => {
                if rows.len() >= ROWS_MAX {
                    rows.retain(|_, noted_at| now.duration_since(*noted_at) < RETENTION);
                }
                if rows.len() < ROWS_MAX {
                    rows.insert(commit.id.clone(), now);
                }
            }
            // A caller that could not read the row sends the commit once more.
            CommitVerdict::Conflict | CommitVerdict::RolledBack(_) | CommitVerdict::Failed(_) => {
                if let Some(noted_at) = rows.get_mut(&commit.id) {
                    *noted_at = now;
                }
            }
        }
    }

    /// Returns whether a commit of this row may have been sent before.
    pub(crate) fn contain(&self, id: &SessionId, now: Instant) -> bool {
        let mut rows = self.rows.lock();
        if rows.len() >= ROWS_MAX {
            rows.retain(|_, noted_at| now.duration_since(*noted_at) < RETENTION);
            return rows.len() >= ROWS_MAX || rows.contains_key(id);
        }
        let is_fresh = |noted_at: &Instant| now.duration_since(*noted_at) < RETENTION;
        rows.get(id).is_some_and(is_fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_session::store::{StoreError, StoreErrorKind};

    fn delete(id: &SessionId) -> Commit {
        Commit {
            id: id.clone(),
            change: RowChange::Delete { base: None },
        }
    }

    fn error() -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unavailable,
            detail: String::new(),
        }
    }

    #[test]
    fn a_row_is_unresolved_until_it_is_committed_or_a_minute_has_passed() {
        let (unresolved, now, id) = (
            UnresolvedCommits::default(),
            Instant::now(),
            SessionId::generate(),
        );
        unresolved.note(&delete(&id), &CommitVerdict::Conflict, now);
        assert!(!unresolved.contain(&id, now));
        unresolved.note(&delete(&id), &CommitVerdict::Ambiguous(error()), now);
        assert!(unresolved.contain(&id, now));
        assert!(!unresolved.contain(&SessionId::generate(), now));

        let later = now + RETENTION / 2;
        unresolved.note(&delete(&id), &CommitVerdict::Failed(error()), later);
        assert!(
            unresolved.contain(&id, now + RETENTION),
            "it was sent again"
        );
        assert!(!unresolved.contain(&id, later + RETENTION));

        unresolved.note(&delete(&id), &CommitVerdict::Committed, later);
        assert!(!unresolved.contain(&id, later));
    }

    #[test]
    fn with_too_many_unresolved_rows_every_row_counts_as_unresolved() {
        let (unresolved, now) = (UnresolvedCommits::default(), Instant::now());
        for _ in 0..=ROWS_MAX {
            let id = SessionId::generate();
            unresolved.note(&delete(&id), &CommitVerdict::Ambiguous(error()), now);
        }
        let other = SessionId::generate();
        assert!(unresolved.contain(&other, now));
        assert!(!unresolved.contain(&other, now + RETENTION));
    }
}

//! The session manager's counters, for tests and for metrics. They contain no ids and no session data.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the manager was created.
#[derive(Debug, Default)]
pub struct SessionCounters {
    /// Visits whose cookie was signed by none of our secrets.
    pub bad_cookies: SessionCounter,
    /// Visits with valid cookies of several sessions that exist, or of more sessions than the store is asked for.
    pub ambiguous_cookies: SessionCounter,
    /// Visits with valid cookies of several sessions, exactly one of which exists.
    pub stray_cookies: SessionCounter,
    /// Visits with valid cookies of several sessions that were refused because their guest wrote.
    pub several_refused: SessionCounter,
    /// Visits whose cookie was valid but whose session no longer exists.
    pub dead_cookies: SessionCounter,
    /// Rows that could not be read as a session.
    pub corrupt_rows: SessionCounter,
    /// Reads of rows from the store.
    pub loads: SessionCounter,
    /// Visits that started from a snapshot instead of waiting for the store.
    pub snapshots: SessionCounter,
    /// Snapshots for which the store had a newer row.
    pub stale_snapshots: SessionCounter,
    /// Rows created, changed, moved or deleted.
    pub commits: SessionCounter,
    /// Commits among these that were written by another request's row write, because the requests waited for the same session.
    pub folded_commits: SessionCounter,
    /// Times that another commit had come first.
    pub conflicts: SessionCounter,
    /// Conflicts resolved by applying the log to the newer row.
    pub reapplies: SessionCounter,
    /// Conflicts resolved by running the attempt again.
    pub reruns: SessionCounter,
    /// Runs of attempts, including re-runs.
    pub runs: SessionCounter,
    /// Commits whose reply was lost.
    pub ambiguous_commits: SessionCounter,
    /// Rows whose expiry was moved without a write.
    pub touches: SessionCounter,
    /// Sessions that were not stored because their `secure` cookie could not be sent.
    pub undeliverable_cookies: SessionCounter,
}

/// A total that only grows.
#[derive(Debug, Default)]
pub struct SessionCounter(AtomicU64);

impl SessionCounter {
    /// Returns the total so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add_one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

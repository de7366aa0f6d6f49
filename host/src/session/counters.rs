//! The session manager's counters, for tests and for metrics. They contain no ids and no session data.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the manager was created.
#[derive(Debug, Default)]
pub struct Counters {
    /// Visits whose cookie was signed by none of our secrets.
    pub bad_cookies: Counter,
    /// Visits with valid cookies of several sessions that exist, or of more sessions than the store is asked for.
    pub ambiguous_cookies: Counter,
    /// Visits with valid cookies of several sessions, exactly one of which exists.
    pub stray_cookies: Counter,
    /// Visits with valid cookies of several sessions that were refused because their guest wrote.
    pub several_refused: Counter,
    /// Visits whose cookie was valid but whose session no longer exists.
    pub dead_cookies: Counter,
    /// Rows that could not be read as a session.
    pub corrupt_rows: Counter,
    /// Reads of rows from the store.
    pub loads: Counter,
    /// Visits that started from a snapshot instead of waiting for the store.
    pub snapshots: Counter,
    /// Snapshots for which the store had a newer row.
    pub stale_snapshots: Counter,
    /// Rows created, changed, moved or deleted.
    pub commits: Counter,
    /// Commits among these that were written by another request's row write, because the requests waited for the same session.
    pub folded_commits: Counter,
    /// Times that another commit had come first.
    pub conflicts: Counter,
    /// Conflicts resolved by applying the log to the newer row.
    pub reapplies: Counter,
    /// Conflicts resolved by running the attempt again.
    pub reruns: Counter,
    /// Runs of attempts, including re-runs.
    pub runs: Counter,
    /// Commits whose reply was lost.
    pub ambiguous_commits: Counter,
    /// Rows whose expiry was moved without a write.
    pub touches: Counter,
    /// Sessions that were not stored because their `secure` cookie could not be sent.
    pub undeliverable_cookies: Counter,
}

/// A total that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Returns the total so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

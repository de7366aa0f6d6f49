//! What the session manager counts, for tests and for metrics. Knows no ids and no data.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the manager was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Visits whose cookie no secret of ours had signed.
    pub bad_cookies: Counter,
    /// Visits with valid cookies of several sessions that exist, or of more sessions than the store is asked for.
    pub ambiguous_cookies: Counter,
    /// Visits with valid cookies of several sessions of which one exists.
    pub stray_cookies: Counter,
    /// Visits with valid cookies of several sessions that were refused because their guest wrote.
    pub several_refused: Counter,
    /// Visits whose cookie was good and whose session was gone.
    pub dead_cookies: Counter,
    /// Rows that could not be read as a session.
    pub corrupt_rows: Counter,
    /// Rows asked for.
    pub loads: Counter,
    /// Visits that began on a snapshot instead of waiting for the store.
    pub snapshots: Counter,
    /// Snapshots that the store had a newer row for.
    pub stale_snapshots: Counter,
    /// Rows created, changed, moved or deleted.
    pub commits: Counter,
    /// Commits among these that another's row write carried: they waited for the same session.
    pub folded_commits: Counter,
    /// Times another's commit was found to have come first.
    pub conflicts: Counter,
    /// Conflicts answered by applying the log to the newer row.
    pub reapplies: Counter,
    /// Conflicts answered by running the attempt again.
    pub reruns: Counter,
    /// Runs of attempts, re-runs included.
    pub runs: Counter,
    /// Commits whose reply was lost.
    pub ambiguous_commits: Counter,
    /// Rows whose expiry was moved without a write.
    pub touches: Counter,
    /// Sessions that were not stored because their `secure` cookie could not be sent.
    pub undeliverable_cookies: Counter,
}

/// One total.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The total so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

//! A property test on random concurrent requests: the transactions of one session are serializable.
//!
//! Each case runs two to four guests with random scripts on one session, with one or two managers on one store. Meanwhile
//! there are blind writers (such as Express), a clock that jumps, and a store that answers late, loses replies and fails.
//! Afterwards the test searches for an order in which a naive model gives every guest the same answers and leaves the same
//! rows.

mod faults;
mod model;
mod round;
mod script;
mod serial;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::record::SessionId;
use crate::store::{SessionStore, StoreFuture};
use script::Rng;

/// A program that writes rows without checking their content.
pub trait BlindWriter: Send + Sync {
    /// Inserts the row, or replaces only its data and expiry, as express-mysql-session's `set` does.
    fn upsert<'a>(
        &'a self,
        id: &'a SessionId,
        data: Bytes,
        expires_at_s: i64,
    ) -> StoreFuture<'a, ()>;
}

/// The settings of a test run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The seed of the first case. Each further case adds 1.
    pub seed: u64,
    /// The number of cases.
    pub cases: usize,
    /// The number of concurrent cases.
    pub at_once: usize,
}

impl Settings {
    /// Reads the settings from the environment. The seed is random unless `CLOAKROOM_TEST_SEED` sets the first case's seed;
    /// one case is run then. `CLOAKROOM_TEST_CASES` sets the number of cases.
    pub fn from_env(cases: usize, at_once: usize) -> Self {
        let number = |name| read_env(name).and_then(|text| text.parse().ok());
        let seed = number("CLOAKROOM_TEST_SEED");
        let cases_asked = number("CLOAKROOM_TEST_CASES").map(|n| n as usize);
        let cases_default = if seed.is_some() { 1 } else { cases };
        Self {
            seed: seed.unwrap_or_else(random_seed),
            cases: cases_asked.unwrap_or(cases_default),
            at_once,
        }
    }

    /// Returns whether there are enough cases for their percentages to be meaningful.
    pub fn is_whole(&self) -> bool {
        self.cases >= 1_000
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test has no configuration to take its seed from"
)]
fn read_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn random_seed() -> u64 {
    getrandom::u64().expect("the operating system gives random numbers")
}

/// The totals of all cases.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Cases run.
    pub cases: usize,
    /// Rounds of requests in these cases.
    pub rounds: usize,
    /// Requests in these cases.
    pub requests: usize,
    /// Times that another commit came first.
    pub conflicts: u64,
    /// Conflicts resolved by applying the log to the newer row.
    pub reapplies: u64,
    /// Commits that were folded into another request's row write.
    pub folded_commits: u64,
    /// Conflicts resolved by another run.
    pub reruns: u64,
    /// Requests that started from a snapshot.
    pub snapshots: u64,
    /// Snapshots that were old.
    pub stale_snapshots: u64,
    /// Requests refused because they could not be run again.
    pub refused: u64,
    /// Lost replies.
    pub lost_replies: usize,
    /// Failures of the store.
    pub failures: usize,
    /// Cases with a conflict.
    pub cases_with_conflict: usize,
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.rounds += other.rounds;
        self.requests += other.requests;
        self.conflicts += other.conflicts;
        self.reapplies += other.reapplies;
        self.folded_commits += other.folded_commits;
        self.reruns += other.reruns;
        self.snapshots += other.snapshots;
        self.stale_snapshots += other.stale_snapshots;
        self.refused += other.refused;
        self.lost_replies += other.lost_replies;
        self.failures += other.failures;
        self.cases_with_conflict += other.cases_with_conflict;
    }

    /// Checks that the cases exercised conflicts, faults and snapshots often enough.
    ///
    /// # Panics
    /// If they did not.
    pub fn assert_not_vacuous(&self) {
        let percent = |of: usize, all: usize| of * 100 / all.max(1);
        let in_requests = |of: u64| percent(of as usize, self.requests);
        assert!(
            percent(self.cases_with_conflict, self.cases) >= 30,
            "{self:?}"
        );
        assert!(in_requests(self.conflicts) >= 15, "{self:?}");
        assert!(in_requests(self.reapplies) >= 3, "{self:?}");
        assert!(in_requests(self.reruns) >= 10, "{self:?}");
        assert!(
            self.folded_commits * 200 >= self.requests as u64,
            "{self:?}"
        );
        assert!(in_requests(self.refused) >= 1, "{self:?}");
        assert!(in_requests(self.snapshots) >= 10, "{self:?}");
        assert!(in_requests(self.stale_snapshots) >= 2, "{self:?}");
        assert!(percent(self.lost_replies, self.cases) >= 10, "{self:?}");
    }
}

/// Runs the cases on `store`. Call it on a current-thread runtime: a case's clock must not move between two steps of a task.
///
/// # Errors
/// A description, including the seed, of the first case that no order explains.
pub async fn check(
    store: Arc<dyn SessionStore>,
    express: Arc<dyn BlindWriter>,
    settings: Settings,
) -> Result<Report, String> {
    let case = |seed: u64| {
        let (store, express) = (Arc::clone(&store), Arc::clone(&express));
        async move {
            let told = round::case(store, express, Rng::new(seed)).await;
            told.map_err(|told| format!("case seed {seed}: {told}"))
        }
    };
    let seeds = (0..settings.cases as u64).map(|n| settings.seed.wrapping_add(n));
    let mut results =
        futures_util::stream::iter(seeds.map(case)).buffer_unordered(settings.at_once);
    let mut report = Report::default();
    while let Some(result) = results.next().await {
        report.add(&result?);
    }
    Ok(report)
}

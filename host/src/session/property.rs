//! The property that the transactions of one session are serial, tried on random requests that run at once.
//!
//! Each case runs two to four guests with random scripts on one session, on one or two managers over one store, beside
//! blind writers (as Express is one), a clock that jumps, and a store that answers late, loses replies and fails. Then it
//! looks for an order in which a naive model gives every guest what it was given, and leaves the rows that were left.

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

/// Somebody who writes rows without asking what they hold.
pub trait BlindWriter: Send + Sync {
    /// Inserts the row or replaces its data and expiry, and nothing else of it: what express-mysql-session's `set` does.
    fn upsert<'a>(
        &'a self,
        id: &'a SessionId,
        data: Bytes,
        expires_at_s: i64,
    ) -> StoreFuture<'a, ()>;
}

/// Which cases are run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The first case's seed; each next one has the next.
    pub seed: u64,
    /// How many.
    pub cases: usize,
    /// How many at a time.
    pub at_once: usize,
}

impl Settings {
    /// Random ones, unless `CLOAKROOM_TEST_SEED` names the first case's seed (then one case is run) or
    /// `CLOAKROOM_TEST_CASES` says how many are run.
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

    /// Whether there are so many cases that their shares mean something.
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

/// What the cases came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Cases run.
    pub cases: usize,
    /// Rounds of requests in them.
    pub rounds: usize,
    /// Requests in them.
    pub requests: usize,
    /// Times another's commit came first.
    pub conflicts: u64,
    /// Conflicts answered by applying the log to the newer row.
    pub reapplies: u64,
    /// Commits that another's row write carried.
    pub folded_commits: u64,
    /// Conflicts answered by another run.
    pub reruns: u64,
    /// Requests that began on a snapshot.
    pub snapshots: u64,
    /// Snapshots that were old.
    pub stale_snapshots: u64,
    /// Requests refused because they could not be run again.
    pub refused: u64,
    /// Replies lost.
    pub lost_replies: usize,
    /// Times the store failed.
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

    /// Checks that the cases met what they are about.
    ///
    /// # Panics
    /// When they did not.
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
/// The first case that no order explains, told at length, with its seed.
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

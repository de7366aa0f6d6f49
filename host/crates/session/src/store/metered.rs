//! A wrapper that measures a store: how long its calls take, how they fail, and whether the last call got an answer. It
//! logs when the store starts to fail and when it answers again. It does not change the behavior of the wrapped store.

mod outage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::layer;
use super::{Commit, CommitVerdict, SessionStore, StoreError, StoreErrorKind, StoreFuture, Touch};
use crate::record::{SessionId, SessionRecord};
use cloakroom_base::telemetry::metrics::{Counter, Histogram, Scrape, counter, store_seconds};
use outage::{Outage, OutageChange, StoreSide};

/// A store that counts and times the calls to another store.
#[derive(Debug)]
pub struct MeteredStore {
    store: Arc<dyn SessionStore>,
    load: CallMetrics,
    commit: CallMetrics,
    touch: CallMetrics,
    reap: CallMetrics,
    is_down: AtomicBool,
    outage: Outage,
}

/// The metrics of one kind of call.
#[derive(Debug)]
struct CallMetrics {
    side: StoreSide,
    took: Histogram,
    unavailable: Counter,
    too_large: Counter,
    broken: Counter,
    refused: Counter,
    /// Commits whose reply was lost.
    ambiguous: Counter,
}

/// Whether the store answered the last call. No call is made only to find this out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// The store answered, or has not been called yet.
    Up,
    /// The store was unreachable, overloaded or too slow.
    Down,
}

impl MeteredStore {
    /// Wraps `store`.
    pub fn new(store: Arc<dyn SessionStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            load: CallMetrics::new("load", StoreSide::Read),
            commit: CallMetrics::new("commit", StoreSide::Write),
            touch: CallMetrics::new("touch", StoreSide::Write),
            reap: CallMetrics::new("reap", StoreSide::Write),
            is_down: AtomicBool::new(false),
            outage: Outage::default(),
        })
    }

    /// Returns whether the store answered the last call.
    pub fn standing(&self) -> StoreHealth {
        match self.is_down.load(Ordering::Relaxed) {
            true => StoreHealth::Down,
            false => StoreHealth::Up,
        }
    }

    /// Adds the metrics to `scrape`.
    pub fn collect_into(&self, scrape: &Scrape) {
        for call in [&self.load, &self.commit, &self.touch, &self.reap] {
            scrape.add(&call.took);
            for errors in [
                &call.unavailable,
                &call.too_large,
                &call.broken,
                &call.refused,
            ] {
                scrape.add(errors);
            }
        }
        scrape.add(&self.commit.ambiguous);
        scrape.gauge(
            "cloakroom_store_up",
            "1 if the session store answered the last call, 0 if it did not.",
            &[],
            i64::from(self.standing() == StoreHealth::Up),
        );
        scrape.gauge(
            "cloakroom_store_halted",
            "1 if the session store refuses all writes until the host is restarted.",
            &[],
            i64::from(self.store.halted().is_some()),
        );
        self.store.collect_into(scrape);
    }

    fn note<'a>(
        &self,
        call: &CallMetrics,
        started_at: Instant,
        errors: impl Iterator<Item = (&'a StoreError, CallCertainty)>,
    ) {
        call.took.observe(started_at.elapsed().as_secs_f64());
        let mut outage = None;
        for (error, sent) in errors {
            if error.kind == StoreErrorKind::Unavailable {
                outage.get_or_insert(error);
            }
            match (sent, error.kind) {
                (CallCertainty::MaybeApplied, _) => call.ambiguous.inc(),
                (CallCertainty::NotApplied, StoreErrorKind::Unavailable) => call.unavailable.inc(),
                (CallCertainty::NotApplied, StoreErrorKind::TooLarge) => call.too_large.inc(),
                (CallCertainty::NotApplied, StoreErrorKind::Broken) => call.broken.inc(),
                (CallCertainty::NotApplied, StoreErrorKind::Refused) => call.refused.inc(),
            }
        }
        self.is_down.store(outage.is_some(), Ordering::Relaxed);
        self.tell_change(call.side, outage);
    }

    /// Logs a change of the store's state. A line for each failed call would be a line for each request.
    fn tell_change(&self, side: StoreSide, error: Option<&StoreError>) {
        if error.is_none() && !self.outage.is_failing() {
            return;
        }
        let now = Instant::now();
        let news = match error {
            Some(_) => self.outage.failed(side, now),
            None => self.outage.answered(side, now),
        };
        match (news, error) {
            (Some(OutageChange::Fails), Some(error)) => {
                tracing::warn!(
                    %error,
                    "the session store fails; requests that need it are answered 503 until it answers again"
                );
            }
            (
                Some(OutageChange::AnswersAgain {
                    failed_calls,
                    lasted,
                }),
                _,
            ) => {
                let lasted_s = lasted.as_secs_f64();
                tracing::info!(failed_calls, lasted_s, "the session store answers again");
            }
            _ => {}
        }
    }
}

/// Whether a failed call may have been applied.
#[derive(Clone, Copy)]
enum CallCertainty {
    NotApplied,
    MaybeApplied,
}

impl CallMetrics {
    fn new(name: &'static str, side: StoreSide) -> Self {
        let errors = |kind| {
            counter(
                "cloakroom_store_errors_total",
                "Failed calls to the session store; for commits, failed rows.",
                &[("call", name), ("kind", kind)],
            )
        };
        Self {
            side,
            took: store_seconds(name),
            unavailable: errors("unavailable"),
            too_large: errors("too-large"),
            broken: errors("broken"),
            refused: errors("refused"),
            ambiguous: errors("ambiguous"),
        }
    }
}

fn error_of<T>(
    result: &Result<T, StoreError>,
) -> impl Iterator<Item = (&StoreError, CallCertainty)> {
    result
        .as_ref()
        .err()
        .map(|error| (error, CallCertainty::NotApplied))
        .into_iter()
}

impl layer::StoreLayer for MeteredStore {
    fn inner(&self) -> &dyn SessionStore {
        &*self.store
    }

    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            let started_at = Instant::now();
            let rows = self.store.load_many(ids, now_s).await;
            self.note(&self.load, started_at, error_of(&rows));
            rows
        })
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let started_at = Instant::now();
            let verdicts = self.store.commit_many(commits, now_s).await;
            let errors = verdicts.iter().filter_map(|verdict| match verdict {
                CommitVerdict::Committed
                | CommitVerdict::Conflict
                | CommitVerdict::RolledBack(_) => None,
                CommitVerdict::Ambiguous(error) => Some((error, CallCertainty::MaybeApplied)),
                CommitVerdict::Failed(error) => Some((error, CallCertainty::NotApplied)),
            });
            self.note(&self.commit, started_at, errors);
            verdicts
        })
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let started_at = Instant::now();
            let touched = self.store.touch_many(touches, now_s).await;
            self.note(&self.touch, started_at, error_of(&touched));
            touched
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let started_at = Instant::now();
            let reaped = self.store.reap(now_s, rows_max).await;
            self.note(&self.reap, started_at, error_of(&reaped));
            reaped
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;
    use crate::store::memory::MemoryStore;

    /// A store whose reads fail on demand, in front of a working store.
    #[derive(Debug)]
    struct Failing {
        store: MemoryStore,
        is_failing: AtomicBool,
    }

    impl layer::StoreLayer for Failing {
        fn inner(&self) -> &dyn SessionStore {
            &self.store
        }

        fn load_many<'a>(
            &'a self,
            ids: &'a [SessionId],
            now_s: i64,
        ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
            if !self.is_failing.load(Ordering::Relaxed) {
                return self.store.load_many(ids, now_s);
            }
            let error = StoreError {
                kind: StoreErrorKind::Unavailable,
                detail: "told to fail".to_owned(),
            };
            Box::pin(async { Err(error) })
        }
    }

    fn told(store: &MeteredStore) -> String {
        let scrape = Scrape::default();
        store.collect_into(&scrape);
        scrape.text()
    }

    #[tokio::test]
    async fn the_store_is_down_from_a_failed_call_to_the_next_answered_one() {
        let failing = Arc::new(Failing {
            store: MemoryStore::new(),
            is_failing: AtomicBool::new(true),
        });
        let store = MeteredStore::new(Arc::clone(&failing) as _);
        assert_eq!(store.standing(), StoreHealth::Up);

        store.load_many(&[], 0).await.unwrap_err();

        assert_eq!(store.standing(), StoreHealth::Down);
        let text = told(&store);
        for line in [
            "cloakroom_store_errors_total{call=\"load\",kind=\"unavailable\"} 1",
            "cloakroom_store_duration_seconds_count{call=\"load\"} 1",
            "cloakroom_store_up 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        failing.is_failing.store(false, Ordering::Relaxed);
        store.load_many(&[], 0).await.unwrap();
        assert!(told(&store).contains("cloakroom_store_up 1\n"));
    }

    #[tokio::test]
    async fn the_metered_store_keeps_the_store_contract() {
        let make =
            async || MeteredStore::new(Arc::new(MemoryStore::new())) as Arc<dyn SessionStore>;
        contract::check_all(make).await;
    }
}

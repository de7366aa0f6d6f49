//! How a version of a guest fares: its runs and failures over a sliding window, and the moment they become too many.
//!
//! Knows counts and thresholds; what is done about a sick version is for the registry to know.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::telemetry::metrics::VersionMetrics;

/// Into how many parts the window is cut: what is older than it goes a part at a time.
const BUCKETS: usize = 10;

/// How a request ended, as far as its guest is to blame or to thank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// An answer below 500.
    Served,
    /// An answer of 500 and above of its own, an error code in place of one, or none.
    Errored,
    /// A trap, an exit, memory refused; before or after the release.
    Trapped,
    /// It was not done by its deadline.
    Late,
}

/// When a version has failed too often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// What is looked at: the last so much.
    pub window: Duration,
    /// Fewer requests than this within the window prove nothing.
    pub requests_min: u32,
    /// Largest share of [`Conduct::Errored`], from 0 to 1.
    pub errors_max: f64,
    /// Largest share of [`Conduct::Trapped`], from 0 to 1.
    pub traps_max: f64,
    /// Largest share of [`Conduct::Late`], from 0 to 1.
    pub deadline_misses_max: f64,
}

/// What a version did within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All requests.
    pub requests: u32,
    /// Those that [`Conduct::Errored`].
    pub errors: u32,
    /// Those that [`Conduct::Trapped`].
    pub traps: u32,
    /// Those that were [`Conduct::Late`].
    pub deadline_misses: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of its last {} requests {} trapped, {} missed the deadline, {} answered 5xx",
            self.requests, self.traps, self.deadline_misses, self.errors
        )
    }
}

/// The window of one version. Noting costs two atomic additions; the sum is made after failures alone.
pub(super) struct Health {
    started_at: Instant,
    thresholds: Option<Thresholds>,
    bucket_width: Duration,
    buckets: [Bucket; BUCKETS],
    has_tripped: AtomicBool,
    tripped: Notify,
    /// Where failures are counted for good.
    metrics: Option<Arc<VersionMetrics>>,
}

#[derive(Default)]
struct Bucket {
    /// Which part of time this bucket holds, counted in widths since the start.
    part: AtomicU64,
    requests: AtomicU32,
    errors: AtomicU32,
    traps: AtomicU32,
    deadline_misses: AtomicU32,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("thresholds", &self.thresholds)
            .field("has_tripped", &self.has_tripped)
            .finish_non_exhaustive()
    }
}

impl Health {
    /// A version that is watched for `thresholds`, or only counted without.
    pub(super) fn new(thresholds: Option<Thresholds>) -> Self {
        let window = thresholds.map_or(Duration::from_secs(10), |thresholds| thresholds.window);
        let least = Duration::from_millis(1);
        Self {
            started_at: Instant::now(),
            thresholds,
            bucket_width: (window / BUCKETS as u32).max(least),
            buckets: Default::default(),
            has_tripped: AtomicBool::new(false),
            tripped: Notify::new(),
            metrics: None,
        }
    }

    /// The same, whose failures are counted in these metrics, too.
    pub(super) fn counted_in(self, metrics: Arc<VersionMetrics>) -> Self {
        let metrics = Some(metrics);
        Self { metrics, ..self }
    }

    /// Counts a request that ended.
    pub(super) fn note(&self, conduct: Conduct) {
        if let Some(metrics) = &self.metrics {
            match conduct {
                Conduct::Trapped => metrics.trapped(),
                Conduct::Late => metrics.late(),
                Conduct::Served | Conduct::Errored => {}
            }
        }
        let part = self.part(Instant::now());
        let bucket = &self.buckets[(part % BUCKETS as u64) as usize];
        bucket.turn_to(part);
        bucket.requests.fetch_add(1, Ordering::Relaxed);
        let failures = match conduct {
            Conduct::Served => return,
            Conduct::Errored => &bucket.errors,
            Conduct::Trapped => &bucket.traps,
            Conduct::Late => &bucket.deadline_misses,
        };
        failures.fetch_add(1, Ordering::Relaxed);
        if self.is_sick() && !self.has_tripped.swap(true, Ordering::Relaxed) {
            self.tripped.notify_one();
        }
    }

    /// What was noted within the window.
    pub(super) fn tally(&self) -> Tally {
        let part = self.part(Instant::now());
        let mut tally = Tally::default();
        for bucket in &self.buckets {
            let age = part.saturating_sub(bucket.part.load(Ordering::Relaxed));
            if age < BUCKETS as u64 {
                tally.requests += bucket.requests.load(Ordering::Relaxed);
                tally.errors += bucket.errors.load(Ordering::Relaxed);
                tally.traps += bucket.traps.load(Ordering::Relaxed);
                tally.deadline_misses += bucket.deadline_misses.load(Ordering::Relaxed);
            }
        }
        tally
    }

    /// Returns when a threshold was passed for the first time; at once if it was before. For one waiter.
    pub(super) async fn tripped(&self) {
        while !self.has_tripped.load(Ordering::Relaxed) {
            self.tripped.notified().await;
        }
    }

    fn is_sick(&self) -> bool {
        let Some(thresholds) = &self.thresholds else {
            return false;
        };
        let tally = self.tally();
        let is_above =
            |count: u32, share_max: f64| f64::from(count) > share_max * f64::from(tally.requests);
        tally.requests >= thresholds.requests_min
            && (is_above(tally.errors, thresholds.errors_max)
                || is_above(tally.traps, thresholds.traps_max)
                || is_above(tally.deadline_misses, thresholds.deadline_misses_max))
    }

    fn part(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started_at);
        // From 1: a bucket that was never used holds part 0 and nothing else.
        1 + (since.as_nanos() / self.bucket_width.as_nanos()) as u64
    }
}

impl Bucket {
    /// Empties the bucket when it holds an older part of time. Of requests that end at the same instant one may be
    /// lost to the emptying: the window is a gauge, no ledger.
    fn turn_to(&self, part: u64) {
        let held = self.part.load(Ordering::Relaxed);
        if held >= part {
            return;
        }
        let turned = self
            .part
            .compare_exchange(held, part, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() {
            for count in [
                &self.requests,
                &self.errors,
                &self.traps,
                &self.deadline_misses,
            ] {
                count.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        window: Duration::from_secs(60),
        requests_min: 4,
        errors_max: 0.5,
        traps_max: 0.25,
        deadline_misses_max: 0.25,
    };

    fn is_tripped(health: &Health) -> bool {
        health.has_tripped.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn too_large_a_share_of_failures_trips_and_too_few_requests_prove_nothing() {
        let health = Health::new(Some(THRESHOLDS));
        health.note(Conduct::Trapped);
        health.note(Conduct::Trapped);
        health.note(Conduct::Served);
        assert!(!is_tripped(&health), "three requests are too few");

        health.note(Conduct::Trapped);

        health.tripped().await;
        let tally = health.tally();
        assert_eq!((tally.requests, tally.traps), (4, 3));
    }

    #[test]
    fn a_share_at_its_threshold_is_allowed() {
        let health = Health::new(Some(THRESHOLDS));
        for _ in 0..3 {
            health.note(Conduct::Served);
        }
        health.note(Conduct::Late);
        assert!(!is_tripped(&health), "one of four is a quarter");
        health.note(Conduct::Late);
        assert!(is_tripped(&health));
    }

    #[test]
    fn each_kind_has_its_threshold() {
        for (conduct, allowed) in [
            (Conduct::Errored, 4),
            (Conduct::Trapped, 1),
            (Conduct::Late, 1),
        ] {
            let health = Health::new(Some(THRESHOLDS));
            for _ in 0..4 {
                health.note(Conduct::Served);
            }
            for _ in 0..allowed {
                health.note(conduct);
            }
            assert!(!is_tripped(&health), "{conduct:?}");
            health.note(conduct);
            assert!(is_tripped(&health), "{conduct:?}");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let health = Health::new(Some(Thresholds {
            window: Duration::from_millis(20),
            ..THRESHOLDS
        }));
        for _ in 0..3 {
            health.note(Conduct::Trapped);
        }
        std::thread::sleep(Duration::from_millis(40));
        health.note(Conduct::Trapped);
        assert_eq!(health.tally().requests, 1);
        assert!(!is_tripped(&health));
    }

    #[test]
    fn without_thresholds_nothing_trips() {
        let health = Health::new(None);
        for _ in 0..100 {
            health.note(Conduct::Trapped);
        }
        assert!(!is_tripped(&health));
        assert_eq!(health.tally().traps, 100);
    }
}

//! How a version of a guest fares: its runs and failures over a sliding window, and the moment they become too many.
//!
//! Knows counts and thresholds; what is done about a sick version is for the registry to know.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::quota::PeerKey;
use crate::telemetry::counted;
use crate::telemetry::metrics::VersionMetrics;

/// Into how many parts the window is cut: what is older than it goes a part at a time.
const BUCKETS: usize = 10;

/// The most clients that failures may have to come from: so many are told apart in each part of the window.
pub const CLIENTS_MAX: usize = 16;

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
    /// Failures of fewer clients than this prove nothing where the good requests come from as many; at most [`CLIENTS_MAX`].
    pub clients_min: usize,
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
            "of its last {} {} trapped, {} missed the deadline, {} answered 5xx",
            counted(self.requests, "request"),
            self.traps,
            self.deadline_misses,
            self.errors
        )
    }
}

/// The window of one version. Noting costs an atomic addition and some loads; the sum is made after failures alone.
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
    /// Those of [`Conduct::Served`], [`Conduct::Errored`], [`Conduct::Trapped`] and [`Conduct::Late`].
    clients: [Clients; 4],
}

/// Some clients, as hashes: all of them, or as many as can matter. 0 is a free place.
#[derive(Default)]
struct Clients([AtomicU64; CLIENTS_MAX]);

impl Clients {
    fn add(&self, client: u64, max: usize) {
        for place in &self.0[..max] {
            let held = match place.load(Ordering::Relaxed) {
                0 => place.compare_exchange(0, client, Ordering::Relaxed, Ordering::Relaxed),
                held => Err(held),
            };
            if held.map_or_else(|held| held == client, |_| true) {
                return;
            }
        }
    }

    fn clear(&self) {
        for place in &self.0 {
            place.store(0, Ordering::Relaxed);
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let held = self.0.iter().map(|place| place.load(Ordering::Relaxed));
        held.take_while(|client| *client != 0)
    }
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

    /// Counts a request of a client that ended. Without a client it is nobody's.
    pub(super) fn note(&self, conduct: Conduct, client: Option<PeerKey>) {
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
        if let Some((client, thresholds)) = client.zip(self.thresholds.as_ref()) {
            let max = thresholds.clients_min.min(CLIENTS_MAX);
            bucket.clients[conduct as usize].add(hash(client), max);
        }
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
        for bucket in self.within(part) {
            tally.requests += bucket.requests.load(Ordering::Relaxed);
            tally.errors += bucket.errors.load(Ordering::Relaxed);
            tally.traps += bucket.traps.load(Ordering::Relaxed);
            tally.deadline_misses += bucket.deadline_misses.load(Ordering::Relaxed);
        }
        tally
    }

    fn within(&self, part: u64) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().filter(move |bucket| {
            part.saturating_sub(bucket.part.load(Ordering::Relaxed)) < BUCKETS as u64
        })
    }

    /// How many clients had requests that ended so within the window, or [`Thresholds::clients_min`] if there were more.
    fn clients(&self, conduct: Conduct) -> usize {
        let buckets = self.within(self.part(Instant::now()));
        let clients = buckets.flat_map(|bucket| bucket.clients[conduct as usize].iter());
        clients.collect::<HashSet<_>>().len()
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
        // One client that knows how to make a request fail cannot have a version taken back that is good for all others.
        let is_proof = |conduct| {
            self.clients(Conduct::Served) < thresholds.clients_min
                || self.clients(conduct) >= thresholds.clients_min
        };
        let kinds = [
            (Conduct::Errored, tally.errors, thresholds.errors_max),
            (Conduct::Trapped, tally.traps, thresholds.traps_max),
            (
                Conduct::Late,
                tally.deadline_misses,
                thresholds.deadline_misses_max,
            ),
        ];
        tally.requests >= thresholds.requests_min
            && kinds
                .into_iter()
                .any(|(conduct, count, max)| is_above(count, max) && is_proof(conduct))
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
            self.clients.iter().for_each(Clients::clear);
        }
    }
}

/// Never 0.
fn hash(client: PeerKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    hasher.finish() | 1
}

#[cfg(test)]
mod tests;

//! The health of one version of a guest: counts its requests and failures over a sliding window, and signals when there are too many
//! failures.
//!
//! This module knows counts and thresholds. The registry decides how to handle a version that fails too often.
//!
//! Failures count only if several clients meet them, as long as good requests come from as many. Otherwise one client could have
//! a good version rolled back. A site behind one proxy, or with one tester, is judged without this rule.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use cloakroom_base::quota::PeerKey;
use cloakroom_base::telemetry::counted;
use cloakroom_base::telemetry::metrics::VersionMetrics;

/// Number of parts of the window. Counts that are older than the window are dropped one part at a time.
const BUCKETS: usize = 10;

/// Largest value of [`FailureThresholds::clients_min`]. Each part of the window distinguishes this many clients.
pub const CLIENTS_MAX: usize = 16;

/// The outcome of a request, as far as its guest is responsible for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// A response below 500.
    Served,
    /// A response of 500 or above from the guest, an error code instead of a response, or no response.
    Errored,
    /// A trap, an exit or refused memory, before or after the release.
    Trapped,
    /// The guest was not done by its deadline.
    Late,
}

/// The thresholds above which a version fails too often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureThresholds {
    /// Length of the window.
    pub window: Duration,
    /// Fewer requests than this within the window prove nothing.
    pub requests_min: u32,
    /// Failures of fewer clients than this prove nothing if at least this many clients have good requests. At most [`CLIENTS_MAX`].
    pub clients_min: usize,
    /// Largest share of [`RequestOutcome::Errored`], from 0 to 1.
    pub errors_max: f64,
    /// Largest share of [`RequestOutcome::Trapped`], from 0 to 1.
    pub traps_max: f64,
    /// Largest share of [`RequestOutcome::Late`], from 0 to 1.
    pub deadline_misses_max: f64,
}

/// The requests and failures of a version within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    /// All requests.
    pub requests: u32,
    /// Requests that ended as [`RequestOutcome::Errored`].
    pub errors: u32,
    /// Requests that ended as [`RequestOutcome::Trapped`].
    pub traps: u32,
    /// Requests that ended as [`RequestOutcome::Late`].
    pub deadline_misses: u32,
}

impl fmt::Display for WindowCounts {
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

/// The window of one version. Recording an outcome costs an atomic addition and some loads. The sum is computed only after failures.
pub(crate) struct VersionHealth {
    started_at: Instant,
    thresholds: Option<FailureThresholds>,
    bucket_width: Duration,
    buckets: [WindowBucket; BUCKETS],
    has_tripped: AtomicBool,
    tripped: Notify,
    /// Metrics that also count the failures, beyond the window.
    metrics: Option<Arc<VersionMetrics>>,
}

#[derive(Default)]
struct WindowBucket {
    /// The part of time that this bucket holds, counted in bucket widths since the start.
    part: AtomicU64,
    requests: AtomicU32,
    errors: AtomicU32,
    traps: AtomicU32,
    deadline_misses: AtomicU32,
    /// Clients with requests that ended as [`RequestOutcome::Served`], [`RequestOutcome::Errored`], [`RequestOutcome::Trapped`] and
    /// [`RequestOutcome::Late`].
    clients: [SeenClients; 4],
}

/// Hashes of clients: of all of them, or of as many as can matter. 0 marks a free entry.
#[derive(Default)]
struct SeenClients([AtomicU64; CLIENTS_MAX]);

impl SeenClients {
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

impl fmt::Debug for VersionHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionHealth")
            .field("thresholds", &self.thresholds)
            .field("has_tripped", &self.has_tripped)
            .finish_non_exhaustive()
    }
}

impl VersionHealth {
    /// Creates the window of a version that is checked against `thresholds`. Without thresholds, requests are only counted.
    pub(crate) fn new(thresholds: Option<FailureThresholds>) -> Self {
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

    /// Adds metrics in which failures are counted as well.
    pub(crate) fn with_metrics(self, metrics: Arc<VersionMetrics>) -> Self {
        let metrics = Some(metrics);
        Self { metrics, ..self }
    }

    /// Counts a request that has ended. A request without a client is attributed to no client.
    pub(crate) fn note(&self, outcome: RequestOutcome, client: Option<PeerKey>) {
        if let Some(metrics) = &self.metrics {
            match outcome {
                RequestOutcome::Trapped => metrics.trapped(),
                RequestOutcome::Late => metrics.late(),
                RequestOutcome::Served | RequestOutcome::Errored => {}
            }
        }
        let part = self.part(Instant::now());
        let bucket = &self.buckets[(part % BUCKETS as u64) as usize];
        bucket.advance_to(part);
        bucket.requests.fetch_add(1, Ordering::Relaxed);
        if let Some((client, thresholds)) = client.zip(self.thresholds.as_ref()) {
            let max = thresholds.clients_min.min(CLIENTS_MAX);
            bucket.clients[outcome as usize].add(hash(client), max);
        }
        let failures = match outcome {
            RequestOutcome::Served => return,
            RequestOutcome::Errored => &bucket.errors,
            RequestOutcome::Trapped => &bucket.traps,
            RequestOutcome::Late => &bucket.deadline_misses,
        };
        failures.fetch_add(1, Ordering::Relaxed);
        if self.exceeds_thresholds() && !self.has_tripped.swap(true, Ordering::Relaxed) {
            self.tripped.notify_one();
        }
    }

    /// Returns the counts within the window.
    pub(crate) fn window_counts(&self) -> WindowCounts {
        let part = self.part(Instant::now());
        let mut counts = WindowCounts::default();
        for bucket in self.within(part) {
            counts.requests += bucket.requests.load(Ordering::Relaxed);
            counts.errors += bucket.errors.load(Ordering::Relaxed);
            counts.traps += bucket.traps.load(Ordering::Relaxed);
            counts.deadline_misses += bucket.deadline_misses.load(Ordering::Relaxed);
        }
        counts
    }

    fn within(&self, part: u64) -> impl Iterator<Item = &WindowBucket> {
        self.buckets.iter().filter(move |bucket| {
            part.saturating_sub(bucket.part.load(Ordering::Relaxed)) < BUCKETS as u64
        })
    }

    /// Returns how many clients had requests with this outcome within the window. Each part of the window counts at most
    /// [`FailureThresholds::clients_min`] clients, so a result above that may be too low.
    fn clients(&self, outcome: RequestOutcome) -> usize {
        let buckets = self.within(self.part(Instant::now()));
        let clients = buckets.flat_map(|bucket| bucket.clients[outcome as usize].iter());
        clients.collect::<HashSet<_>>().len()
    }

    /// Waits until a threshold is exceeded for the first time. Returns at once if that has happened before. For one waiter.
    pub(crate) async fn tripped(&self) {
        while !self.has_tripped.load(Ordering::Relaxed) {
            self.tripped.notified().await;
        }
    }

    fn exceeds_thresholds(&self) -> bool {
        let Some(thresholds) = &self.thresholds else {
            return false;
        };
        let counts = self.window_counts();
        let is_above =
            |count: u32, share_max: f64| f64::from(count) > share_max * f64::from(counts.requests);
        // One client that knows how to make a request fail must not cause the rollback of a version that is good for all others.
        let is_proof = |outcome| {
            self.clients(RequestOutcome::Served) < thresholds.clients_min
                || self.clients(outcome) >= thresholds.clients_min
        };
        let kinds = [
            (
                RequestOutcome::Errored,
                counts.errors,
                thresholds.errors_max,
            ),
            (RequestOutcome::Trapped, counts.traps, thresholds.traps_max),
            (
                RequestOutcome::Late,
                counts.deadline_misses,
                thresholds.deadline_misses_max,
            ),
        ];
        counts.requests >= thresholds.requests_min
            && kinds
                .into_iter()
                .any(|(outcome, count, max)| is_above(count, max) && is_proof(outcome))
    }

    fn part(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started_at);
        // Starts at 1, so part 0 marks a bucket that was never used.
        1 + (since.as_nanos() / self.bucket_width.as_nanos()) as u64
    }
}

impl WindowBucket {
    /// Empties the bucket if it holds an older part of time. A request that ends at the same instant may be lost: the window is an
    /// estimate, not an exact count.
    fn advance_to(&self, part: u64) {
        let held = self.part.load(Ordering::Relaxed);
        if held >= part {
            return;
        }
        let advanced = self
            .part
            .compare_exchange(held, part, Ordering::Relaxed, Ordering::Relaxed);
        if advanced.is_ok() {
            for count in [
                &self.requests,
                &self.errors,
                &self.traps,
                &self.deadline_misses,
            ] {
                count.store(0, Ordering::Relaxed);
            }
            self.clients.iter().for_each(SeenClients::clear);
        }
    }
}

/// Returns a hash that is never 0.
fn hash(client: PeerKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    hasher.finish() | 1
}

#[cfg(test)]
mod tests;

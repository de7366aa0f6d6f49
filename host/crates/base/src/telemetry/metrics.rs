//! The host's metrics and their export to Prometheus.
//!
//! The code that counts holds its counters, so counting is an atomic addition without a lock or a lookup. A scrape exports the
//! metrics that exist, so the series of a guest's version end with the version. This module knows names and labels. Ids, paths
//! and data are never labels.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{HistogramOpts, IntGauge, Opts, Registry, TextEncoder};

/// A distribution of durations, in seconds.
pub use prometheus::Histogram;
/// A total that only increases.
pub use prometheus::IntCounter as Counter;

/// The content type of [`Scrape::text`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// The bucket bounds for requests and waits, in seconds: from the shortest request on a warm guest to beyond the usual deadline.
const REQUEST_SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];
/// The bucket bounds for calls to the store, in seconds: from a store in memory to the timeout of a statement.
const STORE_SECONDS: [f64; 12] = [
    0.000_025, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0,
];

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// The classes of a status. The index is the status's first digit minus one.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Creates a counter that starts at 0.
///
/// # Panics
/// If Prometheus does not accept a name. Names must be constants of the host.
pub fn counter(name: &str, help: &str, labels: &[Label<'_>]) -> Counter {
    Counter::with_opts(opts(name, help, labels)).expect("a name that Prometheus takes")
}

fn histogram(name: &str, help: &str, bounds: &[f64], labels: &[Label<'_>]) -> Histogram {
    let opts = HistogramOpts::from(opts(name, help, labels)).buckets(bounds.to_vec());
    Histogram::with_opts(opts).expect("a name that Prometheus takes, and rising bounds")
}

/// Returns the distribution of the durations of one kind of call to the store.
pub fn store_seconds(call: &'static str) -> Histogram {
    histogram(
        "cloakroom_store_duration_seconds",
        "Duration of calls to the session store.",
        &STORE_SECONDS,
        &[("call", call)],
    )
}

fn opts(name: &str, help: &str, labels: &[Label<'_>]) -> Opts {
    let with_label = |opts: Opts, (label, value): &Label<'_>| opts.const_label(*label, *value);
    labels.iter().fold(Opts::new(name, help), with_label)
}

/// The metrics of one guest, over all its versions.
#[derive(Debug)]
pub struct GuestMetrics {
    name: String,
    /// The time from a request's head to the head of its response.
    duration: Histogram,
    wait: Histogram,
    turned_away: Counter,
    reused: Counter,
    swaps: Counter,
    rollbacks: [Counter; 2],
    refusals: Counter,
    /// The denied calls, by the name of the missing grant.
    denials: Vec<(&'static str, Counter)>,
    dropped_lines: Counter,
    without_connection: Counter,
    /// The versions whose metrics are still in use.
    versions: Mutex<Vec<Weak<VersionMetrics>>>,
}

/// The cause of a guest's rollback to an earlier version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackCause {
    /// An operator requested it.
    Asked,
    /// The version failed too often.
    Failures,
}

impl GuestMetrics {
    /// Creates the metrics of the guest of this name. An empty name is for requests that reach no guest. `grants` are the names of
    /// the grants that calls may lack.
    pub fn new(name: &str, grants: impl IntoIterator<Item = &'static str>) -> Arc<Self> {
        let guest = [("guest", name)];
        let rollbacks = |cause| {
            counter(
                "cloakroom_guest_rollbacks_total",
                "Rollbacks of a guest to an earlier version, and canaries that were dropped.",
                &[("guest", name), ("cause", cause)],
            )
        };
        let denials = |grant| {
            let total = counter(
                "cloakroom_guest_denials_total",
                "Calls of a guest that were denied because it has no grant for them.",
                &[("guest", name), ("grant", grant)],
            );
            (grant, total)
        };
        Arc::new(Self {
            name: name.to_owned(),
            duration: histogram(
                "cloakroom_request_duration_seconds",
                "Time from a request's head to the head of its response.",
                &REQUEST_SECONDS,
                &guest,
            ),
            wait: histogram(
                "cloakroom_instance_wait_seconds",
                "How long runs waited for an instance.",
                &REQUEST_SECONDS,
                &guest,
            ),
            turned_away: counter(
                "cloakroom_instance_refusals_total",
                "Runs that got no instance in time.",
                &guest,
            ),
            reused: counter(
                "cloakroom_guest_instances_reused_total",
                "Runs on an instance that had served an earlier request.",
                &guest,
            ),
            swaps: counter(
                "cloakroom_guest_swaps_total",
                "New versions that replaced another version.",
                &guest,
            ),
            rollbacks: [rollbacks("asked"), rollbacks("failures")],
            refusals: counter(
                "cloakroom_guest_refusals_total",
                "New versions that were refused before they served.",
                &guest,
            ),
            denials: grants.into_iter().map(denials).collect(),
            dropped_lines: counter(
                "cloakroom_guest_log_lines_dropped_total",
                "Lines of a guest that were dropped because it wrote more than its limits allow.",
                &guest,
            ),
            without_connection: counter(
                "cloakroom_guest_outbound_refusals_total",
                "Calls of a guest that got no outgoing connection in time.",
                &guest,
            ),
            versions: Mutex::default(),
        })
    }

    /// Returns the metrics of one version. While they are in use, every call returns the same ones.
    pub fn version(self: &Arc<Self>, number: u64) -> Arc<VersionMetrics> {
        let mut versions = self.versions.lock();
        versions.retain(|version| version.strong_count() > 0);
        let held = versions.iter().filter_map(Weak::upgrade);
        let known = held.into_iter().find(|version| version.number == number);
        known.unwrap_or_else(|| {
            let version = VersionMetrics::new(self, number);
            versions.push(Arc::downgrade(&version));
            version
        })
    }

    /// Records how long a run waited for its instance, and whether it got one.
    pub fn waited<T, E>(&self, waited: Duration, entered: &Result<T, E>) {
        self.wait.observe(waited.as_secs_f64());
        if entered.is_err() {
            self.turned_away.inc();
        }
    }

    /// Returns the number of requests answered so far, over all versions.
    pub fn requests(&self) -> u64 {
        self.duration.get_sample_count()
    }

    /// Returns the number of runs that got an instance so far.
    pub fn runs(&self) -> u64 {
        let asked = self.wait.get_sample_count();
        asked.saturating_sub(self.turned_away.get())
    }

    /// Counts a run on an instance that had served an earlier request.
    pub fn reused(&self) {
        self.reused.inc();
    }

    /// Counts a version that replaced another.
    pub fn swapped(&self) {
        self.swaps.inc();
    }

    /// Counts a rollback.
    pub fn rolled_back(&self, cause: RollbackCause) {
        self.rollbacks[cause as usize].inc();
    }

    /// Counts a candidate that was refused.
    pub fn refused(&self) {
        self.refusals.inc();
    }

    /// Counts a call that the guest has no grant for. Only the grants that [`GuestMetrics::new`] was given are counted.
    pub fn denied(&self, grant: &str) {
        let mut denials = self.denials.iter();
        if let Some((_, total)) = denials.find(|(known, _)| *known == grant) {
            total.inc();
        }
    }

    /// Counts lines of the guest that were dropped.
    pub fn dropped_lines(&self, lines: u64) {
        self.dropped_lines.inc_by(lines);
    }

    /// Counts a call that got no outgoing connection in time.
    pub fn found_no_connection(&self) {
        self.without_connection.inc();
    }

    /// Exports these metrics and those of the versions that are in use.
    pub fn collect_into(&self, scrape: &Scrape) {
        scrape.add(&self.duration);
        if !self.name.is_empty() {
            scrape.add(&self.wait);
            let totals = [
                &self.turned_away,
                &self.reused,
                &self.swaps,
                &self.refusals,
                &self.dropped_lines,
            ];
            totals.into_iter().for_each(|total| scrape.add(total));
            self.rollbacks.iter().for_each(|total| scrape.add(total));
            let denials = self.denials.iter();
            denials.for_each(|(_, total)| scrape.add(total));
            scrape.add(&self.without_connection);
        }
        let versions = self.versions.lock();
        for version in versions.iter().filter_map(Weak::upgrade) {
            version.collect_into(scrape);
        }
    }
}

/// The metrics of one version of a guest. Its series end when the metrics are no longer in use.
#[derive(Debug)]
pub struct VersionMetrics {
    guest: Arc<GuestMetrics>,
    number: u64,
    requests: [Counter; STATUS_CLASSES.len()],
    traps: Counter,
    deadline_misses: Counter,
}

impl VersionMetrics {
    fn new(guest: &Arc<GuestMetrics>, number: u64) -> Arc<Self> {
        let text = if guest.name.is_empty() {
            String::new()
        } else {
            number.to_string()
        };
        let labels = [("guest", guest.name.as_str()), ("version", text.as_str())];
        let requests = STATUS_CLASSES.map(|class| {
            counter(
                "cloakroom_requests_total",
                "Requests answered. Those that did not reach a guest have empty labels.",
                &[labels[0], labels[1], ("status", class)],
            )
        });
        Arc::new(Self {
            guest: Arc::clone(guest),
            number,
            requests,
            traps: counter(
                "cloakroom_guest_traps_total",
                "Requests whose guest trapped, exited or was refused memory.",
                &labels,
            ),
            deadline_misses: counter(
                "cloakroom_guest_deadline_misses_total",
                "Requests whose guest missed its deadline.",
                &labels,
            ),
        })
    }

    /// Returns the metrics of the version's guest.
    pub fn guest(&self) -> &Arc<GuestMetrics> {
        &self.guest
    }

    /// Records an answered request: its status, and the time from its head to the response's head.
    pub fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, STATUS_CLASSES.len()) - 1;
        self.requests[class].inc();
        self.guest.duration.observe(took.as_secs_f64());
    }

    /// Counts a trap, an exit, or a memory allocation that was refused.
    pub fn trapped(&self) {
        self.traps.inc();
    }

    /// Counts a missed deadline.
    pub fn late(&self) {
        self.deadline_misses.inc();
    }

    fn collect_into(&self, scrape: &Scrape) {
        // Guests do not send 1xx, so this class is left out while it is 0.
        let series = self.requests.iter().enumerate();
        let series = series.filter(|(class, total)| *class > 0 || total.get() > 0);
        series.for_each(|(_, total)| scrape.add(total));
        if !self.guest.name.is_empty() {
            scrape.add(&self.traps);
            scrape.add(&self.deadline_misses);
        }
    }
}

/// One response to Prometheus while it is assembled.
#[derive(Debug, Default)]
pub struct Scrape(Registry);

impl Scrape {
    /// Exports a counter or a histogram.
    pub fn add<C: Collector + Clone + 'static>(&self, collector: &C) {
        // If two have the same name and labels, the first one is kept. A scrape must not fail because of one series.
        if let Err(error) = self.0.register(Box::new(collector.clone())) {
            tracing::warn!(%error, "a metric was left out");
        }
    }

    /// Exports a total that is counted elsewhere.
    pub fn total(&self, name: &str, help: &str, labels: &[Label<'_>], total: u64) {
        let series = counter(name, help, labels);
        series.inc_by(total);
        self.add(&series);
    }

    /// Exports a value that can decrease.
    pub fn gauge(&self, name: &str, help: &str, labels: &[Label<'_>], value: i64) {
        let series = IntGauge::with_opts(opts(name, help, labels));
        let series = series.expect("a name that Prometheus takes");
        series.set(value);
        self.add(&series);
    }

    /// Returns the text for Prometheus (format 0.0.4), with the families in the order of their names.
    pub fn text(&self) -> String {
        let encoded = TextEncoder::new().encode_to_string(&self.0.gather());
        encoded.unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics could not be written");
            String::new()
        })
    }
}

#[cfg(test)]
mod tests;

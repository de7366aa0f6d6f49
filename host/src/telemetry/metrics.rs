//! What is counted while the host serves, and how it is told to Prometheus.
//!
//! Whoever counts holds its counters: counting is an atomic addition, with no lock and no look-up. A scrape walks what is there, so
//! the series of a version of a guest end with the version. Knows names and labels; ids, paths and data are never labels.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, IntGauge, Opts, Registry, TextEncoder};

/// How durations are spread, in seconds.
pub use prometheus::Histogram;
/// A total that only grows.
pub use prometheus::IntCounter as Counter;

/// The content type of [`Scrape::text`].
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// Bounds of the buckets for requests and waits, in seconds: from a warm guest alone to the usual deadline and beyond.
const REQUEST_SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];
/// Bounds of the buckets for calls on the store, in seconds: from memory to the timeout of a statement.
const STORE_SECONDS: [f64; 12] = [
    0.000_025, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0,
];

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// The classes of a status, by its first digit less one.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A total named `name`, from 0.
///
/// # Panics
/// When a name is none that Prometheus takes: names are constants of ours.
pub fn counter(name: &str, help: &str, labels: &[Label<'_>]) -> Counter {
    Counter::with_opts(opts(name, help, labels)).expect("a name that Prometheus takes")
}

fn histogram(name: &str, help: &str, bounds: &[f64], labels: &[Label<'_>]) -> Histogram {
    let opts = HistogramOpts::from(opts(name, help, labels)).buckets(bounds.to_vec());
    Histogram::with_opts(opts).expect("a name that Prometheus takes, and rising bounds")
}

/// The spread of the durations of one kind of call on the store.
pub fn store_seconds(call: &'static str) -> Histogram {
    histogram(
        "cloakroom_store_duration_seconds",
        "How long calls on the session store took.",
        &STORE_SECONDS,
        &[("call", call)],
    )
}

fn opts(name: &str, help: &str, labels: &[Label<'_>]) -> Opts {
    let with_label = |opts: Opts, (label, value): &Label<'_>| opts.const_label(*label, *value);
    labels.iter().fold(Opts::new(name, help), with_label)
}

/// What is counted of one guest over all its versions.
#[derive(Debug)]
pub struct GuestMetrics {
    name: String,
    /// From a request's head to the head of its answer.
    duration: Histogram,
    wait: Histogram,
    turned_away: Counter,
    reused: Counter,
    swaps: Counter,
    rollbacks: [Counter; 2],
    refusals: Counter,
    denials: [Counter; GRANTS.len()],
    dropped_lines: Counter,
    without_connection: Counter,
    /// Those that somebody still holds.
    versions: Mutex<Vec<Weak<VersionMetrics>>>,
}

/// What a guest is granted, or denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrantKind {
    /// The session as a whole.
    Session,
    /// Keys to read.
    ReadKeys,
    /// Keys to write.
    WriteKeys,
    /// Requests to other hosts.
    Outbound,
    /// Cookies of its own.
    Cookies,
}

/// Every kind of grant, in the order of their numbers.
pub const GRANTS: [GrantKind; 5] = [
    GrantKind::Session,
    GrantKind::ReadKeys,
    GrantKind::WriteKeys,
    GrantKind::Outbound,
    GrantKind::Cookies,
];

impl GrantKind {
    /// Its name, in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::ReadKeys => "read_keys",
            Self::WriteKeys => "write_keys",
            Self::Outbound => "outbound",
            Self::Cookies => "cookies",
        }
    }
}

/// Why a guest went back to an earlier version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollbackCause {
    /// Somebody asked for it.
    Asked,
    /// The version failed too often.
    Failures,
}

impl GuestMetrics {
    /// The metrics of the guest of this name; an empty one stands for requests that reach no guest.
    pub fn new(name: &str) -> Arc<Self> {
        let guest = [("guest", name)];
        let rollbacks = |cause| {
            counter(
                "cloakroom_guest_rollbacks_total",
                "Times a guest went back to an earlier version, or dropped its canary.",
                &[("guest", name), ("cause", cause)],
            )
        };
        Arc::new(Self {
            name: name.to_owned(),
            duration: histogram(
                "cloakroom_request_duration_seconds",
                "From a request's head to the head of its answer.",
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
                "Runs for which no instance was free in time.",
                &guest,
            ),
            reused: counter(
                "cloakroom_guest_instances_reused_total",
                "Runs on an instance that had served an earlier request.",
                &guest,
            ),
            swaps: counter(
                "cloakroom_guest_swaps_total",
                "Times a new version took over from another.",
                &guest,
            ),
            rollbacks: [rollbacks("asked"), rollbacks("failures")],
            refusals: counter(
                "cloakroom_guest_refusals_total",
                "New versions that were refused before they served.",
                &guest,
            ),
            denials: GRANTS.map(|grant| {
                counter(
                    "cloakroom_guest_denials_total",
                    "Calls of a guest that were refused because it is not granted them.",
                    &[("guest", name), ("grant", grant.as_str())],
                )
            }),
            dropped_lines: counter(
                "cloakroom_guest_log_lines_dropped_total",
                "Lines of a guest that were dropped because it wrote more than its limits allow.",
                &guest,
            ),
            without_connection: counter(
                "cloakroom_guest_outbound_refusals_total",
                "Calls of a guest for which no outgoing connection became free in time.",
                &guest,
            ),
            versions: Mutex::default(),
        })
    }

    /// The metrics of one version; the same ones while anybody holds them.
    pub fn version(self: &Arc<Self>, number: u64) -> Arc<VersionMetrics> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.retain(|version| version.strong_count() > 0);
        let held = versions.iter().filter_map(Weak::upgrade);
        let known = held.into_iter().find(|version| version.number == number);
        known.unwrap_or_else(|| {
            let version = VersionMetrics::new(self, number);
            versions.push(Arc::downgrade(&version));
            version
        })
    }

    /// Notes how long a run waited for its instance, and whether it got one.
    pub fn waited<T, E>(&self, waited: Duration, entered: &Result<T, E>) {
        self.wait.observe(waited.as_secs_f64());
        if entered.is_err() {
            self.turned_away.inc();
        }
    }

    /// Requests answered so far, over all versions.
    pub fn requests(&self) -> u64 {
        self.duration.get_sample_count()
    }

    /// Runs that got an instance so far.
    pub fn runs(&self) -> u64 {
        let asked = self.wait.get_sample_count();
        asked.saturating_sub(self.turned_away.get())
    }

    /// Notes a run on an instance that had served before.
    pub fn reused(&self) {
        self.reused.inc();
    }

    /// Notes that a version took over.
    pub fn swapped(&self) {
        self.swaps.inc();
    }

    /// Notes that the guest went back.
    pub fn rolled_back(&self, cause: RollbackCause) {
        self.rollbacks[cause as usize].inc();
    }

    /// Notes that a candidate was refused.
    pub fn refused(&self) {
        self.refusals.inc();
    }

    /// Notes a call that the guest is not granted.
    pub fn denied(&self, grant: GrantKind) {
        self.denials[grant as usize].inc();
    }

    /// Notes lines of the guest that were dropped.
    pub fn dropped_lines(&self, lines: u64) {
        self.dropped_lines.inc_by(lines);
    }

    /// Notes a call for which no outgoing connection became free in time.
    pub fn found_no_connection(&self) {
        self.without_connection.inc();
    }

    /// Tells all of them, and those of the versions that are held.
    pub fn tell(&self, scrape: &Scrape) {
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
            self.denials.iter().for_each(|total| scrape.add(total));
            scrape.add(&self.without_connection);
        }
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        for version in versions.iter().filter_map(Weak::upgrade) {
            version.tell(scrape);
        }
    }
}

/// What is counted of one version of a guest. Its series end when nobody holds it any more.
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
                "Requests answered; those that reached no guest have empty labels.",
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
                "Requests whose guest was not done by its deadline.",
                &labels,
            ),
        })
    }

    /// Those of its guest.
    pub fn guest(&self) -> &Arc<GuestMetrics> {
        &self.guest
    }

    /// Notes an answered request: its status and the time from its head to the answer's.
    pub fn answered(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, STATUS_CLASSES.len()) - 1;
        self.requests[class].inc();
        self.guest.duration.observe(took.as_secs_f64());
    }

    /// Notes a trap, an exit, or memory refused.
    pub fn trapped(&self) {
        self.traps.inc();
    }

    /// Notes a deadline that was missed.
    pub fn late(&self) {
        self.deadline_misses.inc();
    }

    fn tell(&self, scrape: &Scrape) {
        // No guest sends 1xx: a class that has counted nothing and never will is left out.
        let told = self.requests.iter().enumerate();
        let told = told.filter(|(class, total)| *class > 0 || total.get() > 0);
        told.for_each(|(_, total)| scrape.add(total));
        if !self.guest.name.is_empty() {
            scrape.add(&self.traps);
            scrape.add(&self.deadline_misses);
        }
    }
}

/// One answer to Prometheus while it is gathered.
#[derive(Debug, Default)]
pub struct Scrape(Registry);

impl Scrape {
    /// Tells a counter or a histogram.
    pub fn add<C: Collector + Clone + 'static>(&self, collector: &C) {
        // Two of one name and labels: the first one stands. A scrape must not fail over one series.
        if let Err(error) = self.0.register(Box::new(collector.clone())) {
            tracing::warn!(%error, "a metric was left out");
        }
    }

    /// Tells a total that is counted elsewhere.
    pub fn total(&self, name: &str, help: &str, labels: &[Label<'_>], total: u64) {
        let told = counter(name, help, labels);
        told.inc_by(total);
        self.add(&told);
    }

    /// Tells a value that goes up and down.
    pub fn gauge(&self, name: &str, help: &str, labels: &[Label<'_>], value: i64) {
        let told = IntGauge::with_opts(opts(name, help, labels));
        let told = told.expect("a name that Prometheus takes");
        told.set(value);
        self.add(&told);
    }

    /// The text for Prometheus (format 0.0.4), families in the order of their names.
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

//! What can be set: for the runtime as a whole ([`Options`]) and for one guest ([`GuestSettings`], [`Limits`]). Knows no
//! configuration file; `app` fills these in.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use super::compiler::Compiler;
use super::digest::Digest;
use super::health::Thresholds;
use super::outbound::OutboundHost;
use crate::limits;
use crate::session::{Grant, Start};

/// What holds for all guests of a [`super::Runtime`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Instances at once, for each of the two engines.
    pub instances_max: usize,
    /// Requests that may wait for an instance; more are refused at once.
    pub instance_waiters_max: usize,
    /// Longest wait for an instance.
    pub instance_wait_max: Duration,
    /// Instances that may wait for another request, for each of the two engines: the pool has slots for them besides.
    pub parked_instances_max: usize,
    /// Longest time that one of them waits.
    pub parked_idle_max: Duration,
    /// The largest [`Limits::memory_bytes_max`] of any guest: the slots of the pool are cut to it. In bytes.
    pub memory_bytes_max: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// Longest time for compiling one component in a child process.
    pub compile_timeout: Duration,
    /// The folder in which compiled code is kept; `None`: nowhere.
    pub code_cache: Option<PathBuf>,
    /// Outgoing connections at once, over all guests.
    pub outbound_connections_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            instances_max: limits::INSTANCES_MAX,
            instance_waiters_max: limits::INSTANCE_WAITERS_MAX,
            instance_wait_max: limits::INSTANCE_WAIT_MAX,
            parked_instances_max: limits::PARKED_INSTANCES_MAX,
            parked_idle_max: limits::PARKED_IDLE_MAX,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            compiler: Compiler::InProcess,
            compile_timeout: limits::COMPILE_TIMEOUT,
            code_cache: None,
            outbound_connections_max: limits::OUTBOUND_CONNECTIONS_MAX,
        }
    }
}

/// What bounds one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest time to the release of an answer; after it, longest time a guest may compute between two pieces of a body.
    pub deadline: Duration,
    /// Longest time that all runs for one request may compute, its released body included; `None`: no limit but the
    /// deadline's.
    pub cpu_time: Option<Duration>,
    /// Largest memory of an instance, all its linear memories together, in bytes.
    pub memory_bytes_max: usize,
    /// Instances at once.
    pub instances_max: usize,
    /// Requests that may wait for one of them; more are refused at once.
    pub waiters_max: usize,
    /// Longest wait for one of them.
    pub wait_max: Duration,
    /// Largest request head, in bytes, where it is less than the host's own limit.
    pub request_head_bytes_max: Option<usize>,
    /// Most header fields of a request, where that is less than the host's own limit.
    pub request_headers_max: Option<usize>,
    /// Largest request body, in bytes; enforced while it is read.
    pub request_body_bytes_max: u64,
    /// Largest response body, in bytes; `None`: unlimited.
    pub response_body_bytes_max: Option<u64>,
    /// How much of a request body is kept for another run, in bytes; a longer body makes the request run once only.
    pub replay_bytes_max: usize,
    /// Requests that it may send to other servers for one of its own; further ones are an error in the guest.
    pub outbound_calls_max: u32,
    /// Outgoing connections at once, over all its requests; a call beyond them waits for a moment and is an error then.
    pub outbound_connections_max: usize,
    /// Longest silence of a released body before it is cut: an event stream sends a comment line more often than this.
    pub stream_silence_max: Duration,
    /// Log lines kept of one run, stdout and stderr together; of a released stream, lines a minute.
    pub log_lines_max: usize,
    /// Longest log line, in bytes; longer ones are cut.
    pub log_line_bytes_max: usize,
    /// Bytes of log lines kept of one run; of a released stream, a minute.
    pub log_bytes_max: usize,
    /// Bytes that all its runs together may log in a second.
    pub log_bytes_per_s_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: limits::DEADLINE,
            cpu_time: None,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            instances_max: limits::GUEST_INSTANCES_MAX,
            waiters_max: limits::GUEST_WAITERS_MAX,
            wait_max: limits::INSTANCE_WAIT_MAX,
            request_head_bytes_max: None,
            request_headers_max: None,
            request_body_bytes_max: limits::REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: None,
            replay_bytes_max: limits::REPLAY_BYTES_MAX,
            outbound_calls_max: limits::OUTBOUND_CALLS_MAX,
            outbound_connections_max: limits::GUEST_OUTBOUND_CONNECTIONS_MAX,
            stream_silence_max: limits::STREAM_SILENCE_MAX,
            log_lines_max: limits::LOG_LINES_MAX,
            log_line_bytes_max: limits::LOG_LINE_BYTES_MAX,
            log_bytes_max: limits::LOG_BYTES_MAX,
            log_bytes_per_s_max: limits::LOG_BYTES_PER_S_MAX,
        }
    }
}

/// When an answer leaves before its guest is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamPolicy {
    /// When its body passes [`limits::RELEASE_BYTES`], or with the first bytes of an event stream.
    #[default]
    Buffered,
    /// With the first bytes of any body.
    Streamed,
}

/// One guest, as configured. `Debug` shows no environment.
#[derive(Clone, PartialEq)]
pub struct GuestSettings {
    /// What routes, logs and metrics call it.
    pub name: String,
    /// The file of the component.
    pub component: PathBuf,
    /// What it may do with the session.
    pub grant: Grant,
    /// Whether its requests wait for their turn before they start.
    pub start: Start,
    /// When its answers leave.
    pub stream: StreamPolicy,
    /// Requests that one instance may serve, one after the other. With 1 each has a fresh one, and sees nothing of another's.
    pub reuse: u32,
    /// The hosts it may send HTTP requests to; none by default.
    pub outbound_hosts: Vec<OutboundHost>,
    /// Its environment variables; it sees no others.
    pub environment: Vec<(String, String)>,
    /// What bounds it.
    pub limits: Limits,
    /// How its versions follow each other.
    pub rollout: Rollout,
}

impl std::fmt::Debug for GuestSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestSettings")
            .field("name", &self.name)
            .field("component", &self.component)
            .field("grant", &self.grant)
            .field("limits", &self.limits)
            .field("rollout", &self.rollout)
            .finish_non_exhaustive()
    }
}

/// How one version of a guest follows another.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// A path that a new version must answer below 500 before it serves.
    pub probe: Option<String>,
    /// Whether a new version serves some of the visitors first.
    pub canary: Option<Canary>,
    /// Whether a version that fails too often is taken back.
    pub rollback: Option<Rollback>,
    /// Longest time for the requests of an old version to end before they are cut. Only streams last as long: before
    /// its release a request ends by its deadline.
    pub drain_max: Duration,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            probe: None,
            canary: None,
            rollback: Some(Rollback::default()),
            drain_max: limits::DRAIN_MAX,
        }
    }
}

/// When a version is taken back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollback {
    /// How long a new version is watched: one that has served well for so long is not to blame for a failure of something
    /// else.
    pub probation: Duration,
    /// What is too often.
    pub thresholds: Thresholds,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            probation: limits::ROLLBACK_PROBATION,
            thresholds: Thresholds {
                window: limits::ROLLBACK_WINDOW,
                requests_min: limits::ROLLBACK_REQUESTS_MIN,
                clients_min: limits::ROLLBACK_CLIENTS_MIN,
                errors_max: limits::ROLLBACK_SHARE_MAX,
                traps_max: limits::ROLLBACK_SHARE_MAX,
                deadline_misses_max: limits::ROLLBACK_SHARE_MAX,
            },
        }
    }
}

/// How a new version serves some of the visitors before it serves all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canary {
    /// The share of the visitors, above 0 and below 1.
    pub share: f64,
    /// For how long, if nothing trips.
    pub duration: Duration,
}

impl Canary {
    /// Whether this visitor is among the share. The same ones are throughout, on every host that has the same component.
    pub(super) fn takes(&self, visitor: u64, digest: &Digest) -> bool {
        let mut hasher = DefaultHasher::new();
        (visitor, digest.as_bytes()).hash(&mut hasher);
        // The upper 53 bits fill a double's fraction.
        let place = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        place < self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_takes_its_share_of_the_visitors_and_the_same_ones_always() {
        let canary = Canary {
            share: 0.1,
            duration: Duration::ZERO,
        };
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let taken: Vec<u64> = (0..10_000).filter(|n| canary.takes(*n, &one)).collect();
        assert!((800..1_200).contains(&taken.len()), "{}", taken.len());
        assert!(taken.iter().all(|n| canary.takes(*n, &one)));
        let again = taken.iter().filter(|n| canary.takes(**n, &other)).count();
        assert!(again < 300, "another component has other canaries: {again}");
    }
}

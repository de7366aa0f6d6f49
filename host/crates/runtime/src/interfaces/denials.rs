//! Counts and logs the calls that a guest was denied. A log line names the setting that would allow the call. It contains no session key,
//! no value, and no part of an address other than the host.
//!
//! Each denied call is counted. It is logged once for each request and grant, in at most ten lines a minute for each guest and
//! grant; the next line reports how many requests were left out. The line names the configuration's key. A forged cookie, which
//! any visitor can send, is not a denial.

use std::sync::Arc;
use std::time::Instant;

use cloakroom_base::limits::DENIAL_LINES_MAX;
use cloakroom_base::telemetry::RateLimitedLines;
use cloakroom_base::telemetry::metrics::GuestMetrics;

/// A call that was refused because a grant is missing.
pub(crate) trait GrantDenial {
    /// Returns the name of the missing grant, one of [`Interface::grants`](super::Interface::grants).
    fn grant(&self) -> &'static str;

    /// Describes the denied call for the log.
    fn call(&self) -> String;

    /// Returns the setting, of the guest or of the host, that would allow the call.
    fn remedy(&self, guest: &str) -> String;
}

/// The denials of one version of a guest.
#[derive(Debug)]
pub(crate) struct DenialCounters {
    guest: Arc<str>,
    metrics: Arc<GuestMetrics>,
    lines: RateLimitedLines<&'static str>,
}

impl DenialCounters {
    pub(crate) fn new(guest: Arc<str>, metrics: Arc<GuestMetrics>) -> Arc<Self> {
        Arc::new(Self {
            guest,
            metrics,
            lines: RateLimitedLines::new(DENIAL_LINES_MAX),
        })
    }

    /// Counts a call for which no outgoing connection became free in time.
    pub(crate) fn found_no_connection(&self) {
        self.metrics.found_no_connection();
    }

    pub(crate) fn count(&self, denial: &dyn GrantDenial) {
        self.metrics.denied(denial.grant());
    }

    /// Logs a denial, unless many were logged recently. The next logged line then reports how many were suppressed.
    pub(crate) fn report(&self, denial: &dyn GrantDenial, request_id: &str) {
        let grant = denial.grant();
        let Some(line) = self.lines.take_line(grant, Instant::now()) else {
            return;
        };
        tracing::warn!(
            guest = %self.guest, request_id, grant, untold = line.untold,
            "a guest was denied {}; {} would allow it", denial.call(), denial.remedy(&self.guest),
        );
    }
}

/// Asserts the grant and the remedy of a denial for the guest `a`, and that the log line has no key of a session.
#[cfg(test)]
pub(crate) fn assert_denial(denial: &dyn GrantDenial, grant: &str, remedy: &str) {
    assert_eq!(denial.grant(), grant);
    assert!(super::grants().any(|known| known == grant), "{grant}");
    let remedy_text = denial.remedy("a");
    assert!(remedy_text.contains(remedy), "{remedy_text}");
    let text = format!("{} {remedy_text}", denial.call());
    assert!(!text.contains("hunter2"), "{text}");
}

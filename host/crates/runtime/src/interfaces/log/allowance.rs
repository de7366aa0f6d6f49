//! The rate at which one version of a guest may log over all its runs. All guests share the log, so a guest that floods
//! it loses only its own lines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use cloakroom_base::telemetry::metrics::GuestMetrics;

/// The window of the byte limit.
const WINDOW: Duration = Duration::from_secs(1);
/// The charge for a line in addition to its text, for the time, the guest and the request.
const LINE_OVERHEAD_BYTES: usize = 128;

/// The log allowance that all runs of a guest's version share.
#[derive(Debug)]
pub(crate) struct LineAllowance {
    bytes_max: usize,
    metrics: Arc<GuestMetrics>,
    window: Mutex<AllowanceWindow>,
}

#[derive(Debug, Default)]
struct AllowanceWindow {
    since: Option<Instant>,
    bytes: usize,
    /// Lines that were dropped since the last report.
    untold: u64,
}

/// Whether a line is logged or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineDecision {
    /// The line is logged. The caller must also log how many lines before it were dropped.
    Logged {
        /// Lines that were dropped before it and not yet reported.
        dropped: u64,
    },
    /// The line is dropped.
    Dropped,
}

impl LineAllowance {
    /// Creates an allowance of `bytes_max` bytes per second.
    pub(crate) fn new(bytes_max: usize, metrics: Arc<GuestMetrics>) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            metrics,
            window: Mutex::default(),
        })
    }

    pub(crate) fn take(&self, line: &str, now: Instant) -> LineDecision {
        let mut window = self.window.lock();
        let is_over = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if window.since.is_none_or(is_over) {
            window.since = Some(now);
            window.bytes = 0;
        }
        window.bytes = window
            .bytes
            .saturating_add(line.len() + LINE_OVERHEAD_BYTES);
        if window.bytes > self.bytes_max {
            window.untold += 1;
            drop(window);
            self.count_dropped(1);
            return LineDecision::Dropped;
        }
        LineDecision::Logged {
            dropped: std::mem::take(&mut window.untold),
        }
    }

    /// Counts lines that were dropped for any reason.
    pub(crate) fn count_dropped(&self, lines: u64) {
        self.metrics.dropped_lines(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_above_the_rate_are_dropped_and_counted_in_the_next_second() {
        let line = "x".repeat(1000 - LINE_OVERHEAD_BYTES);
        let allowance = LineAllowance::new(10_000, GuestMetrics::new("g", []));
        let start = Instant::now();
        let taken = |now| (0..50).map(move |_| now);
        let logged = |now| {
            let verdicts = taken(now).map(|now| allowance.take(&line, now));
            verdicts
                .filter(|verdict| *verdict != LineDecision::Dropped)
                .count()
        };
        assert_eq!(logged(start), 10);
        assert_eq!(logged(start + WINDOW / 2), 0);
        let later = start + WINDOW;
        assert_eq!(
            allowance.take("", later),
            LineDecision::Logged { dropped: 90 }
        );
        assert_eq!(
            allowance.take("", later),
            LineDecision::Logged { dropped: 0 }
        );
    }
}

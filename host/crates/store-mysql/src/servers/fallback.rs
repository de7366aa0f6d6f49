//! Tracks which server is the fallback: another member of the cluster that gives connections while the server in use
//! gives none. Metrics and logs say that it helps out. Reports each period once when it begins and once when it ends.
//! Knows no clock other than the `Instant`s that are passed in.

use std::time::{Duration, Instant};

/// Time without a connection from the fallback after which the period is over. A full server gives a connection now and
/// then, so a short pause does not end the period.
const QUIET: Duration = Duration::from_secs(30);

/// The current fallback period, if there is one.
#[derive(Debug, Default)]
pub(crate) struct FallbackPeriod {
    /// The fallback and the time when it gave its last connection.
    last: Option<(usize, Instant)>,
}

impl FallbackPeriod {
    /// Records that this server gave a connection in place of the server in use. Returns true if the operator must be
    /// notified.
    pub(crate) fn record(&mut self, server: usize, now: Instant) -> bool {
        let is_new = self.server(now) != Some(server);
        self.last = Some((server, now));
        is_new
    }

    /// Returns the fallback.
    pub(crate) fn server(&self, now: Instant) -> Option<usize> {
        let (server, at) = self.last?;
        (now.saturating_duration_since(at) < QUIET).then_some(server)
    }

    /// Returns true once when the period is over.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.last.is_some() && self.server(now).is_none();
        if is_over {
            self.last = None;
        }
        is_over
    }

    /// Ends the period because another server is in use.
    pub(crate) fn end(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_reported_once_when_it_begins_and_once_when_it_is_over() {
        let (mut period, start) = (FallbackPeriod::default(), Instant::now());
        assert!(!period.is_over(start));
        assert!(period.record(1, start));
        for s in 1..100 {
            let now = start + Duration::from_secs(s);
            assert!(!period.record(1, now) && !period.is_over(now));
        }
        let last = start + Duration::from_secs(99);
        assert!(period.record(2, last), "another server");
        assert_eq!(period.server(last), Some(2));
        assert!(period.is_over(last + QUIET) && !period.is_over(last + QUIET));
        assert_eq!(period.server(last + QUIET), None);

        assert!(period.record(2, last));
        period.end();
        assert!(!period.is_over(last + QUIET));
    }
}

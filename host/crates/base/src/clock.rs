//! The only source of wall-clock time. No other part of the host reads the system clock.
//!
//! Session validity uses wall-clock time, because rows outlive processes and are shared between machines. Deadlines are
//! monotonic (`std::time::Instant`) and do not use this module.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time. Cheap to clone. Clones of a manual clock advance together.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self(ClockSource::System)
    }

    /// Returns a clock that shows `now_ms` (milliseconds since the epoch) until [`Clock::advance`] moves it.
    pub fn manual(now_ms: i64) -> Self {
        Self(ClockSource::Manual(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Returns the milliseconds since the epoch.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            ClockSource::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
                since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
            }
            ClockSource::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }

    /// Returns the seconds since the epoch, rounded half up. A row's `expires` column is compared with this value
    /// (express-mysql-session computes `Math.round(Date.now() / 1000)`).
    pub fn now_s(&self) -> i64 {
        round_to_seconds(self.now_ms())
    }

    /// Advances a manual clock by `by_ms` milliseconds. Does nothing to the system clock.
    pub fn advance(&self, by_ms: i64) {
        if let ClockSource::Manual(now_ms) = &self.0 {
            now_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

/// Converts milliseconds to seconds, rounded half up as by JavaScript's `Math.round`.
pub fn round_to_seconds(ms: i64) -> i64 {
    ms.saturating_add(500).div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_second_rounds_up() {
        assert_eq!(round_to_seconds(1_499), 1);
        assert_eq!(round_to_seconds(1_500), 2);
        assert_eq!(round_to_seconds(-1_500), -1);
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_advanced() {
        let clock = Clock::manual(10_000);
        let same = clock.clone();
        clock.advance(500);
        assert_eq!((same.now_ms(), same.now_s()), (10_500, 11));
    }
}

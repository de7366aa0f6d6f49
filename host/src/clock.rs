//! The one source of wall-clock time: nothing else in the host reads the system clock.
//!
//! Session validity is wall-clock time because rows outlive processes and are shared between machines; deadlines are
//! monotonic (`std::time::Instant`) and do not pass through here.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the host's wall-clock time comes from. Cheap to clone; clones of a manual clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `now_ms` (milliseconds since the epoch) until [`Clock::advance`] moves it.
    pub fn manual(now_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Milliseconds since the epoch.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
                since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }

    /// Seconds since the epoch, rounded half up: what a row's `expires` column is compared with
    /// (express-mysql-session computes `Math.round(Date.now() / 1000)`).
    pub fn now_s(&self) -> i64 {
        round_to_seconds(self.now_ms())
    }

    /// Moves a manual clock by `by_ms` milliseconds; the system clock is left alone.
    pub fn advance(&self, by_ms: i64) {
        if let Source::Manual(now_ms) = &self.0 {
            now_ms.fetch_add(by_ms, Ordering::SeqCst);
        }
    }
}

/// Milliseconds to seconds, rounded half up as JavaScript's `Math.round` does.
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
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(10_000);
        let same = clock.clone();
        clock.advance(500);
        assert_eq!((same.now_ms(), same.now_s()), (10_500, 11));
    }
}

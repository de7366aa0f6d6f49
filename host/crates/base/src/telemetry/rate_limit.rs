//! A rate limit for log lines that every request repeats while a fault lasts. A few lines per minute are logged, and the next
//! line reports how many were omitted. Without the limit, a client could write one line per request. This module does not know
//! the texts of the lines.
//!
//! Warnings outrank access lines in the log queue, so without the limit a client that is refused could displace those.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The interval of the rate limit.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// A rate limit for each key. Keys are never removed, so clients must not be able to choose them.
#[derive(Debug)]
pub struct RateLimitedLines<K> {
    lines_max: u32,
    windows: Mutex<HashMap<K, RecurringWindow>>,
}

/// Permission to log one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePermit {
    /// The number of lines omitted since the last one. `None` instead of 0, so that the field is omitted from the line.
    pub untold: Option<u64>,
}

/// The lines of one key in the current interval.
#[derive(Debug)]
struct RecurringWindow {
    since: Instant,
    lines: u32,
    untold: u64,
}

impl<K: Eq + Hash> RateLimitedLines<K> {
    /// Permits `lines_max` lines per minute for each key.
    pub fn new(lines_max: u32) -> Self {
        Self {
            lines_max,
            windows: Mutex::default(),
        }
    }

    /// Returns permission to log a line under this key. Returns `None` if the limit is reached, and counts the line as omitted.
    pub fn take_line(&self, key: K, now: Instant) -> Option<LinePermit> {
        // No code panics in the middle of a change, so the map stays consistent.
        let mut windows = self.windows.lock();
        let window = windows.entry(key).or_insert(RecurringWindow {
            since: now,
            lines: 0,
            untold: 0,
        });
        if now.saturating_duration_since(window.since) >= LINE_INTERVAL {
            window.since = now;
            window.lines = 0;
        }
        if window.lines >= self.lines_max {
            window.untold += 1;
            return None;
        }
        window.lines += 1;
        let untold = std::mem::take(&mut window.untold);
        Some(LinePermit {
            untold: (untold > 0).then_some(untold),
        })
    }
}

/// Permits one line in each interval.
impl<K: Eq + Hash> Default for RateLimitedLines<K> {
    fn default() -> Self {
        Self::new(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Option<LinePermit> = Some(LinePermit { untold: None });

    fn after(untold: u64) -> Option<LinePermit> {
        let untold = Some(untold);
        Some(LinePermit { untold })
    }

    #[test]
    fn a_repeated_line_is_logged_once_per_interval_with_the_suppressed_count() {
        let lines = RateLimitedLines::default();
        let start = Instant::now();
        assert_eq!(lines.take_line("a", start), FIRST, "at once");
        for _ in 1..1000 {
            assert_eq!(lines.take_line("a", start), None);
        }
        let next = start + LINE_INTERVAL;
        assert_eq!(lines.take_line("a", next), after(999));
        assert_eq!(lines.take_line("a", next), None);
        let next = next + LINE_INTERVAL * 100;
        assert_eq!(lines.take_line("a", next), after(1));
        let next = next + LINE_INTERVAL;
        assert_eq!(lines.take_line("a", next), FIRST);
    }

    #[test]
    fn an_allowance_of_several_lines_is_used_before_lines_are_suppressed() {
        let lines = RateLimitedLines::new(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(lines.take_line("a", start), FIRST);
        }
        for _ in 0..1000 {
            assert_eq!(lines.take_line("a", start), None);
        }
        let next = start + LINE_INTERVAL;
        assert_eq!(lines.take_line("a", next), after(1000));
        assert_eq!(lines.take_line("a", next), FIRST);
    }

    #[test]
    fn each_key_has_its_own_rate_limit() {
        let lines = RateLimitedLines::default();
        let now = Instant::now();
        assert_eq!(lines.take_line(("a", 1), now), FIRST);
        assert_eq!(lines.take_line(("a", 2), now), FIRST);
        assert_eq!(lines.take_line(("b", 1), now), FIRST);
        assert_eq!(lines.take_line(("a", 1), now), None);
    }
}

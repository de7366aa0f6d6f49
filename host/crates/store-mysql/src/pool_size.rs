//! The number of connections that a server is allowed: the configured maximum, fewer after the server refused one, and
//! slowly more again. Knows no driver, and no clock other than the `Instant`s that are passed in.

use std::time::{Duration, Instant};

/// The wait before one more connection is tried after the server refused one. It doubles with each further refusal.
const GROW_AFTER_MIN: Duration = Duration::from_secs(1);
/// The longest such wait.
const GROW_AFTER_MAX: Duration = Duration::from_secs(60);

/// The current size of a pool.
#[derive(Debug)]
pub(crate) struct PoolSize {
    most: usize,
    now: usize,
    wait: Duration,
    /// When one more connection is tried. `None` while the configured maximum is allowed.
    grow_at: Option<Instant>,
    /// Whether one more connection is being tried and the server has neither given nor refused it yet.
    is_trying: bool,
}

impl PoolSize {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            now: most,
            wait: GROW_AFTER_MIN,
            grow_at: None,
            is_trying: false,
        }
    }

    pub(crate) fn now(&self) -> usize {
        self.now
    }

    /// Returns whether the configured maximum is allowed.
    pub(crate) fn is_whole(&self) -> bool {
        self.now == self.most
    }

    /// Records that the server refused a connection and that this many slots are given up. At least one slot is kept.
    /// Returns whether the configured maximum was allowed before.
    pub(crate) fn shrink(&mut self, slots: usize, now: Instant) -> bool {
        let was_whole = self.is_whole();
        self.now = self.now.saturating_sub(slots).max(1);
        // Concurrent attempts that are refused count as one refusal.
        if self.is_trying {
            self.wait = GROW_AFTER_MAX.min(self.wait * 2);
        }
        if self.is_trying || self.grow_at.is_none_or(|at| now >= at) {
            self.grow_at = Some(now + self.wait);
        }
        self.is_trying = false;
        was_whole
    }

    /// Adds one slot if it is time to. The next one is not added until the server has given or refused this one.
    pub(crate) fn grow(&mut self, now: Instant) -> bool {
        let is_time = self.grow_at.is_some_and(|at| now >= at);
        let grows = self.now < self.most && is_time && !self.is_trying;
        if grows {
            self.now += 1;
            self.is_trying = true;
        }
        grows
    }

    /// Records that the server gave a connection. Returns true if the configured maximum is allowed again.
    pub(crate) fn granted(&mut self, now: Instant) -> bool {
        if self.grow_at.is_none() {
            return false;
        }
        self.is_trying = false;
        self.wait = GROW_AFTER_MIN;
        self.grow_at = (self.now < self.most).then(|| now + self.wait);
        self.grow_at.is_none()
    }

    /// Starts over because all connections are gone. Returns the number of slots that come back.
    pub(crate) fn reset(&mut self) -> usize {
        let missing = self.most - self.now;
        *self = Self::new(self.most);
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shrinks_the_pool_and_it_grows_back_one_by_one() {
        let (mut size, start) = (PoolSize::new(10), Instant::now());
        assert!(!size.grow(start), "it is whole");
        assert!(size.shrink(6, start), "it was whole");
        assert_eq!(size.now(), 4);
        assert!(!size.is_whole() && !size.grow(start));
        let mut now = start;
        for expected in 5..=10 {
            now += GROW_AFTER_MIN;
            assert!(size.grow(now));
            assert_eq!(size.now(), expected);
            assert!(!size.grow(now), "one at a time");
            assert_eq!(size.granted(now), expected == 10);
        }
        assert!(!size.grow(now + GROW_AFTER_MAX));
    }

    #[test]
    fn each_refusal_of_one_more_doubles_the_wait_up_to_the_most() {
        let (mut size, mut now) = (PoolSize::new(3), Instant::now());
        size.shrink(2, now);
        size.shrink(1, now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let due = now + Duration::from_secs(seconds);
            assert!(!size.grow(due - Duration::from_millis(1)), "{seconds}");
            assert!(size.grow(due), "{seconds}");
            now = due;
            assert!(!size.shrink(1, now));
            assert_eq!(size.now(), 1);
        }
        assert_eq!(size.reset(), 2);
        assert_eq!(size.now(), 3);
    }

    #[test]
    fn the_pool_size_stays_between_one_and_the_configured_maximum() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let most = random.usize(1..12);
            let (mut size, mut now) = (PoolSize::new(most), Instant::now());
            for _ in 0..300 {
                now += Duration::from_millis(random.u64(0..3_000));
                let before = size.now();
                match random.u8(0..8) {
                    0 => {
                        size.shrink(random.usize(1..4), now);
                        assert!(!size.grow(now), "it waits first");
                    }
                    1 => assert_eq!(size.reset(), most - before),
                    2 => {
                        size.granted(now);
                    }
                    _ => {
                        let grew = size.grow(now);
                        assert_eq!(size.now(), before + usize::from(grew));
                    }
                }
                assert!((1..=most).contains(&size.now()));
            }
        }
    }
}

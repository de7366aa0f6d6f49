//! The numbers in the responses of one session. Each number must occur exactly once. Does not know HTTP.

use std::collections::BTreeSet;

use anyhow::ensure;

/// The numbers that a session's responses have contained so far.
///
/// Concurrent requests may be answered in any order. Without them only one number is correct: the last number plus one.
#[derive(Debug, Default)]
pub struct Counts {
    /// All numbers from 1 to this one have occurred.
    whole_until: u64,
    /// The larger numbers that have occurred.
    ahead: BTreeSet<u64>,
}

impl Counts {
    /// Records the number of a response, after `n_sent` requests of the session.
    ///
    /// # Errors
    /// If the number has already occurred, which is a lost update, or if it is larger than `n_sent`.
    pub fn take(&mut self, number: u64, n_sent: u64) -> anyhow::Result<()> {
        ensure!(
            number > self.whole_until && !self.ahead.contains(&number),
            "the same number twice"
        );
        ensure!(number <= n_sent, "more than was asked for");
        self.ahead.insert(number);
        while self.ahead.remove(&(self.whole_until + 1)) {
            self.whole_until += 1;
        }
        Ok(())
    }

    /// Returns the largest number, or 0 before the first.
    pub fn largest(&self) -> u64 {
        self.ahead.last().copied().unwrap_or(self.whole_until)
    }

    /// Returns how many numbers below the largest are missing.
    pub fn n_missing(&self) -> u64 {
        self.largest() - self.whole_until - self.ahead.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_visits_may_return_their_counts_in_any_order() {
        let mut counts = Counts::default();
        counts.take(3, 3).unwrap();
        assert_eq!((counts.largest(), counts.n_missing()), (3, 2));
        counts.take(1, 3).unwrap();
        counts.take(2, 3).unwrap();
        assert_eq!((counts.largest(), counts.n_missing()), (3, 0));
    }

    #[test]
    fn sequential_visits_must_return_consecutive_counts() {
        let mut counts = Counts::default();
        counts.take(1, 1).unwrap();
        assert!(counts.take(1, 2).is_err());
        assert!(counts.take(3, 2).is_err());
        counts.take(2, 2).unwrap();
    }

    #[test]
    fn a_repeated_count_is_a_lost_update_however_late() {
        let mut counts = Counts::default();
        counts.take(2, 3).unwrap();
        assert!(counts.take(2, 3).is_err());
        counts.take(1, 3).unwrap();
        assert!(counts.take(2, 3).is_err());
    }
}

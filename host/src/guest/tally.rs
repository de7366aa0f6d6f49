//! What one instance costs the host, in bytes: its linear memories, and what the host keeps for it. One sum, held to the
//! guest's memory limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The sum of one instance. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Tally(Arc<Sum>);

#[derive(Debug)]
struct Sum {
    bytes: AtomicUsize,
    bytes_max: usize,
    has_refused: AtomicBool,
}

impl Tally {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Sum {
            bytes: AtomicUsize::new(0),
            bytes_max,
            has_refused: AtomicBool::new(false),
        }))
    }

    /// Adds, unless the sum would pass the limit.
    pub(super) fn add(&self, bytes: usize) -> bool {
        let sum = |sum: usize| {
            sum.checked_add(bytes)
                .filter(|sum| *sum <= self.0.bytes_max)
        };
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.bytes.fetch_update(set, fetch, sum).is_ok()
    }

    /// Takes away what was added.
    pub(super) fn sub(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Notes that the guest was refused what it asked for.
    pub(super) fn refuse(&self) {
        self.0.has_refused.store(true, Ordering::Relaxed);
    }

    /// Whether anything was refused. A guest that copes and fails later for another reason is blamed for memory too.
    pub(super) fn has_refused(&self) -> bool {
        self.0.has_refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_stops_at_its_limit_and_goes_on_when_bytes_are_given_back() {
        let tally = Tally::new(100);
        assert!(tally.add(60) && tally.clone().add(40));
        assert!(!tally.add(1) && !tally.add(usize::MAX));
        tally.sub(1);
        assert!(tally.add(1));
        assert!(!tally.has_refused());
    }
}

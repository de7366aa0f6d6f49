//! The memory that one instance costs the host, in bytes: its linear memories and the data the host keeps for it. Their
//! sum is held below the guest's memory limit.
//!
//! Linear memories and kept data share one limit, so a guest cannot double its memory by letting the host hold it. Data that this
//! sum does not contain is bounded by count: resources and handles take at most a quarter of the limit each (`resource_charges`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The memory sum of one instance. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryTally(Arc<MemorySum>);

#[derive(Debug)]
struct MemorySum {
    bytes: AtomicUsize,
    bytes_max: usize,
    has_refused: AtomicBool,
}

impl MemoryTally {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(MemorySum {
            bytes: AtomicUsize::new(0),
            bytes_max,
            has_refused: AtomicBool::new(false),
        }))
    }

    /// Adds bytes and returns true, unless the sum would exceed the limit.
    pub(crate) fn add(&self, bytes: usize) -> bool {
        let sum = |sum: usize| {
            sum.checked_add(bytes)
                .filter(|sum| *sum <= self.0.bytes_max)
        };
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.bytes.fetch_update(set, fetch, sum).is_ok()
    }

    /// Subtracts bytes that were added.
    pub(crate) fn sub(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds bytes until the returned charge is dropped.
    ///
    /// # Errors
    /// Returns [`MemoryRefused`] if the sum would exceed the limit.
    pub(crate) fn charge(&self, bytes: usize) -> Result<MemoryCharge, MemoryRefused> {
        if !self.add(bytes) {
            return Err(self.refuse());
        }
        Ok(MemoryCharge {
            tally: self.clone(),
            bytes,
        })
    }

    /// Returns whether more than half of the limit is used.
    pub(crate) fn is_half_used(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) > self.0.bytes_max / 2
    }

    /// Notes that the guest was refused memory.
    pub(crate) fn refuse(&self) -> MemoryRefused {
        self.0.has_refused.store(true, Ordering::Relaxed);
        MemoryRefused {
            bytes_max: self.0.bytes_max,
        }
    }

    /// Returns whether any memory was refused. If the guest handles the refusal and later fails for another reason,
    /// memory is still blamed.
    pub(crate) fn has_refused(&self) -> bool {
        self.0.has_refused.load(Ordering::Relaxed)
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct MemoryCharge {
    tally: MemoryTally,
    bytes: usize,
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        self.tally.sub(self.bytes);
    }
}

/// Error returned when the sum of the instance would exceed its limit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the guest's memory and the data that the host keeps for it (header fields, bodies, log lines) would exceed its limit of \
     {bytes_max} bytes"
)]
pub(crate) struct MemoryRefused {
    bytes_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_refuses_bytes_above_its_limit_until_bytes_are_returned() {
        let tally = MemoryTally::new(100);
        assert!(tally.add(60) && tally.clone().add(40));
        assert!(!tally.add(1) && !tally.add(usize::MAX));
        tally.sub(1);
        assert!(tally.add(1));
        assert!(!tally.has_refused());
    }

    #[test]
    fn a_charge_counts_until_it_is_dropped() {
        let tally = MemoryTally::new(100);
        let charge = tally.charge(60).unwrap();
        assert!(tally.is_half_used());
        assert!(tally.charge(41).is_err());
        assert!(tally.has_refused());
        drop(charge);
        assert!(!tally.is_half_used());
        assert!(tally.charge(100).is_ok());
    }
}

//! How far a copy is: figures that one task sets and another one shows. Knows no store.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How far a copy has got, for the task that shows it.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<Reading>);

/// What a [`Gauge`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The present pass: `examining`, `copying`, `removing`, `verifying`; empty before the first one.
    pub phase: &'static str,
    /// Sessions that the pass is done with.
    pub done: u64,
    /// Sessions that there were when the pass began; none where that is unknown.
    pub total: Option<u64>,
}

impl Gauge {
    /// The present reading.
    pub fn read(&self) -> Reading {
        *self.lock()
    }

    pub(super) fn begin(&self, phase: &'static str, total: Option<u64>) {
        *self.lock() = Reading {
            phase,
            done: 0,
            total,
        };
    }

    pub(super) fn advance(&self, by: u64) {
        self.lock().done += by;
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        // Nothing panics half way through a change of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

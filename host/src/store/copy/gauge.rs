//! The progress of a copy: figures that one task sets and another task shows. Knows no store.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The progress of a copy, for the task that shows it.
#[derive(Debug, Default)]
pub struct Gauge(Mutex<Reading>);

/// The figures that a [`Gauge`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The current pass: `examining`, `copying`, `removing` or `verifying`. Empty before the first pass.
    pub phase: &'static str,
    /// Number of sessions that the pass has completed.
    pub done: u64,
    /// Number of sessions at the beginning of the pass; `None` if unknown.
    pub total: Option<u64>,
}

impl Gauge {
    /// Returns the current figures.
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
        // No code panics in the middle of a change of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The progress of a copy: figures that one task sets and another task shows. Knows no store.

use parking_lot::Mutex;

/// The progress of a copy, for the task that shows it.
#[derive(Debug, Default)]
pub struct CopyProgress(Mutex<CopyProgressReading>);

/// The figures that a [`CopyProgress`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyProgressReading {
    /// The current pass: `examining`, `copying`, `removing` or `verifying`. Empty before the first pass.
    pub phase: &'static str,
    /// Number of sessions that the pass has completed.
    pub done: u64,
    /// Number of sessions at the beginning of the pass; `None` if unknown.
    pub total: Option<u64>,
}

impl CopyProgress {
    /// Returns the current figures.
    pub fn read(&self) -> CopyProgressReading {
        *self.0.lock()
    }

    pub(crate) fn begin(&self, phase: &'static str, total: Option<u64>) {
        *self.0.lock() = CopyProgressReading {
            phase,
            done: 0,
            total,
        };
    }

    pub(crate) fn advance(&self, by: u64) {
        self.0.lock().done += by;
    }
}

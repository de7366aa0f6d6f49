//! A flag for the head of a response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that is set when the guest has set its response's head. Part of the body may have been written since.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadSet(Arc<AtomicBool>);

impl HeadSet {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

//! Whether a reader waits for its client's next bytes at this moment: from a read that found none until the source wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Stands between a reader and the source that it waits for. A guest that was woken and reads nothing waits for its client
/// no longer: it cannot stop its deadline with a read that it has forgotten.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    is_awaited: AtomicBool,
    reader: AtomicWaker,
}

impl Awaited {
    /// Says that the reader waits from now on; the waker is to be given to the source.
    pub(super) fn begin(self: &Arc<Self>, cx: &Context<'_>) -> Waker {
        self.reader.register(cx.waker());
        self.is_awaited.store(true, Ordering::Release);
        Waker::from(Arc::clone(self))
    }

    pub(super) fn end(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire)
    }
}

impl Wake for Awaited {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.end();
        self.reader.wake();
    }
}

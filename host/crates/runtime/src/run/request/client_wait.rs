//! Tracks whether a reader currently waits for its client's next bytes: from a read that found none until the source
//! wakes the reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A waker between a reader and the source that it waits for. Once a guest is woken, it no longer counts as waiting for
/// its client, even if it reads nothing: an abandoned read must not stop its deadline.
#[derive(Debug, Default)]
pub(crate) struct ClientWaitBody {
    is_awaited: AtomicBool,
    reader: AtomicWaker,
}

impl ClientWaitBody {
    /// Notes that the reader waits from now on. The returned waker must be given to the source.
    pub(crate) fn begin(self: &Arc<Self>, cx: &Context<'_>) -> Waker {
        self.reader.register(cx.waker());
        self.is_awaited.store(true, Ordering::Release);
        Waker::from(Arc::clone(self))
    }

    pub(crate) fn end(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire)
    }
}

impl Wake for ClientWaitBody {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.end();
        self.reader.wake();
    }
}

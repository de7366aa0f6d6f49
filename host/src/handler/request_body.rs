//! The client's body on its way to the guest, watched: when it breaks off, what the guest makes of that is not the guest's fault.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a request's body has broken off. Clones tell of the same body.
#[derive(Clone, Debug, Default)]
pub(super) struct BrokeOff(Arc<AtomicBool>);

impl BrokeOff {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// `body`, watched.
    pub(super) fn watch<B: Body>(&self, body: B) -> Watched<B> {
        Watched {
            body: Box::pin(body),
            broke_off: self.clone(),
        }
    }
}

/// A body that tells when it breaks off.
#[derive(Debug)]
pub(super) struct Watched<B> {
    body: Pin<Box<B>>,
    broke_off: BrokeOff,
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        if matches!(frame, Some(Err(_))) {
            self.broke_off.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

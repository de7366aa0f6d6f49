//! The client's body on its way to the guest. Bytes that the guest does not read are read and discarded for a limited time, so
//! that the client receives the response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::EXPECT;
use http::{Version, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::trailers;
use cloakroom_base::limits::{REQUEST_DISCARD_BYTES_MAX, REQUEST_DISCARD_TIMEOUT};

/// A body that reads and discards its remaining bytes for a limited time when it is dropped. If a connection is closed while
/// received bytes are unread, the system resets it and the response is lost (RFC 9112, section 9.6).
#[derive(Debug)]
pub(crate) struct DiscardedBody<B: Body<Data = Bytes> + Send + 'static> {
    /// `Some` until the body is dropped.
    body: Option<Pin<Box<B>>>,
    is_discarded: bool,
}

impl<B: Body<Data = Bytes> + Send + 'static> DiscardedBody<B> {
    /// Wraps the body of the request with this head.
    pub(crate) fn new(body: B, head: &request::Parts) -> Self {
        // HTTP/2 can end one stream without the others. A client that sent `Expect` has not sent a body that the host does not
        // want.
        let is_on_its_way = head.version < Version::HTTP_2 && !head.headers.contains_key(EXPECT);
        Self {
            is_discarded: is_on_its_way && !body.is_end_stream(),
            body: Some(Box::pin(body)),
        }
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Drop for DiscardedBody<B> {
    fn drop(&mut self) {
        let body = self.body.take().filter(|_| self.is_discarded);
        if let (Some(body), Ok(runtime)) = (body, Handle::try_current()) {
            runtime.spawn(timeout(REQUEST_DISCARD_TIMEOUT, discard(body)));
        }
    }
}

async fn discard<B: Body<Data = Bytes>>(mut body: Pin<Box<B>>) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > REQUEST_DISCARD_BYTES_MAX {
            return;
        }
    }
}

impl<B: Body<Data = Bytes> + Send + 'static> Body for DiscardedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let mut frame = ready!(body.as_mut().poll_frame(cx));
        // Trailers must not carry fields that the validation of the head would have removed or refused.
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers::screen(trailers);
        }
        self.is_discarded &= matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(|body| body.size_hint());
        hint.unwrap_or_default()
    }
}

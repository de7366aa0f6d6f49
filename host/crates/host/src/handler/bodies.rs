//! The handler's wrappers of bodies: [`DiscardedBody`] of a request's body, [`ResponseBody`] of a response's body.
//!
//! A body has one wrapper in each crate that it passes through, for what only this crate knows. On its way in, `IncomingBody` in
//! `server` knows the connection, [`DiscardedBody`] the head, and `ReplayBody` in `runtime` the runs of the guest. On its way out,
//! `GuestBody` in `runtime` knows the guest, [`ResponseBody`] the client's quota, and `OutgoingBody` in `server` the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::EXPECT;
use http::{HeaderMap, Version, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::trailers;
use cloakroom_base::limits::{
    HTTP1_UNCOUNTED_BYTES_MAX, HTTP2_PIECE_BYTES_MAX, REQUEST_DISCARD_BYTES_MAX,
    REQUEST_DISCARD_TIMEOUT,
};
use cloakroom_base::quota::{BodyCharge, ConnectionOutbox, QuotaFull, QuotaPeer, UntakenBody};
use cloakroom_runtime::{FaultParty, GuestBody, GuestFailure};
use cloakroom_server::RequestBody;

/// The client's body on its way to the guest. Screens the trailers. When it is dropped, it reads and discards its remaining bytes
/// for a limited time: if a connection is closed while received bytes are unread, the system resets it and the response is lost
/// (RFC 9112, section 9.6).
#[derive(Debug)]
pub(crate) struct DiscardedBody<B: RequestBody + 'static> {
    /// `Some` until the body is dropped.
    body: Option<B>,
    is_discarded: bool,
}

impl<B: RequestBody + 'static> DiscardedBody<B> {
    /// Wraps the body of the request with this head.
    pub(crate) fn new(body: B, head: &request::Parts) -> Self {
        // HTTP/2 can end one stream without the others. A client that sent `Expect` has not sent a body that the host does not
        // want.
        let is_on_its_way = head.version < Version::HTTP_2 && !head.headers.contains_key(EXPECT);
        Self {
            is_discarded: is_on_its_way && !body.is_end_stream(),
            body: Some(body),
        }
    }
}

impl<B: RequestBody + 'static> Drop for DiscardedBody<B> {
    fn drop(&mut self) {
        let body = self.body.take().filter(|_| self.is_discarded);
        if let (Some(body), Ok(runtime)) = (body, Handle::try_current()) {
            runtime.spawn(timeout(REQUEST_DISCARD_TIMEOUT, discard(body)));
        }
    }
}

async fn discard<B: RequestBody>(mut body: B) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > REQUEST_DISCARD_BYTES_MAX {
            return;
        }
    }
}

impl<B: RequestBody + 'static> Body for DiscardedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let mut frame = ready!(Pin::new(body).poll_frame(cx));
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
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(B::size_hint);
        hint.unwrap_or_default()
    }
}

/// The body of a response. Screens the trailers, charges the client for the bytes that it has not taken, and logs a response that
/// was cut after its release.
#[derive(Debug)]
pub struct ResponseBody {
    source: ResponseSource,
    request_id: Arc<str>,
    /// The charge for the bytes of the body that the client has not taken.
    charge: Option<BodyCharge>,
    /// The rest of a piece that was too large to send at once, or a piece that the quota had no room for.
    rest: Bytes,
    wait: DrainWait,
    /// Counts the request as being processed until the body is dropped.
    token: Option<TaskTrackerToken>,
}

/// The reason why a body waits until the client has taken all bytes that the body has handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrainWait {
    Nothing,
    /// The quota had no room for the next piece in addition to those handed over.
    Room,
    /// All pieces are handed over, and the stream must not end before they have left.
    End,
}

#[derive(Debug)]
enum ResponseSource {
    Empty,
    Text(Bytes),
    Guest(GuestBody),
}

impl ResponseBody {
    /// Returns the length in bytes, if it is known.
    pub(crate) fn len(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Wraps the body of a guest's response.
    pub(crate) fn of_guest(body: GuestBody, request_id: Arc<str>) -> Self {
        Self::new(ResponseSource::Guest(body), request_id)
    }

    /// Creates the body of a response that is not a guest's.
    pub(crate) fn of_text(text: Bytes, request_id: Arc<str>) -> Self {
        Self::new(ResponseSource::Text(text), request_id)
    }

    fn new(source: ResponseSource, request_id: Arc<str>) -> Self {
        Self {
            source,
            request_id,
            charge: None,
            rest: Bytes::new(),
            wait: DrainWait::Nothing,
            token: None,
        }
    }

    /// Charges the client for the bytes that the body holds. The head is charged to its connection. `outbox` is only given for
    /// HTTP/2.
    ///
    /// # Errors
    /// [`QuotaFull`]
    pub(crate) fn charge_to(
        &mut self,
        client: &QuotaPeer,
        outbox: Option<&Arc<ConnectionOutbox>>,
    ) -> Result<(), QuotaFull> {
        let is_finished = self.is_finished();
        let in_memory = match &self.source {
            ResponseSource::Empty => 0,
            ResponseSource::Text(text) => text.len() as u64,
            ResponseSource::Guest(body) => body.held_bytes(),
        };
        let is_small = outbox.is_none() && in_memory <= HTTP1_UNCOUNTED_BYTES_MAX;
        if self.is_at_end() || is_finished && is_small {
            return Ok(());
        }
        self.charge = Some(BodyCharge::new(client, in_memory, outbox)?);
        Ok(())
    }

    /// Whether the body is charged for.
    pub(crate) fn is_charged(&self) -> bool {
        self.charge.is_some()
    }

    /// Keeps the request counted as being processed until the body is dropped. The guest behind the body keeps the request's
    /// reservation itself.
    pub(crate) fn tracked_by(mut self, token: TaskTrackerToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Returns the body without its bytes.
    pub(crate) fn emptied(self) -> Self {
        Self {
            source: ResponseSource::Empty,
            ..self
        }
    }

    fn is_finished(&self) -> bool {
        !matches!(&self.source, ResponseSource::Guest(body) if !body.is_complete())
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
            && match &self.source {
                ResponseSource::Empty => true,
                ResponseSource::Text(text) => text.is_empty(),
                ResponseSource::Guest(body) => body.is_end_stream(),
            }
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GuestFailure>>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        Poll::Ready(match &mut self.source {
            ResponseSource::Empty => None,
            ResponseSource::Text(text) => {
                let text = std::mem::take(text);
                self.source = ResponseSource::Empty;
                (!text.is_empty()).then(|| Ok(Frame::data(text)))
            }
            ResponseSource::Guest(body) => ready!(Pin::new(body).poll_frame(cx)),
        })
    }

    /// Prepares a frame for the client and moves its part of the charge to it. Returns `None` if the quota has no room for it.
    fn hand_over(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let Some(charge) = self.charge.clone() else {
            return Some(frame);
        };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Some(frame),
        };
        self.rest = data.clone();
        if charge.is_multiplexed() {
            data.truncate(HTTP2_PIECE_BYTES_MAX);
        }
        let paid = match &self.source {
            ResponseSource::Guest(body) => body.paid_ahead(),
            ResponseSource::Empty | ResponseSource::Text(_) => None,
        };
        let bytes = data.len();
        let handed = charge.hand_over(data, paid.as_ref()).ok()?;
        self.rest.advance(bytes);
        if self.is_at_end() && !charge.may_let_go() {
            self.wait = DrainWait::End;
        }
        Some(Frame::data(handed))
    }

    /// Called when the quota had no room for a piece: waits until the pieces that were handed over have left. If none are left to
    /// wait for, the response is cut.
    fn wait_for_room(&mut self, cx: &mut Context<'_>) {
        if let Some(charge) = &self.charge {
            match charge.poll_left(cx) {
                Poll::Pending => self.wait = DrainWait::Room,
                // The task that sends the body is notified and cuts the response.
                Poll::Ready(()) => charge.revoke(),
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = GuestFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GuestFailure>>> {
        let this = self.get_mut();
        if this.wait != DrainWait::Nothing {
            if let Some(charge) = &this.charge {
                ready!(charge.poll_left(cx));
            }
            if std::mem::replace(&mut this.wait, DrainWait::Nothing) == DrainWait::End {
                return Poll::Ready(None);
            }
        }
        let mut frame = ready!(this.poll_source(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            drop_unfit_trailers(trailers, &this.request_id);
        }
        // Without this check, clients that abort their own responses could fill the log.
        if let Some(Err(failure)) = &frame
            && failure.fault() != FaultParty::Client
        {
            tracing::warn!(
                request_id = %this.request_id, error = failure.kind(), detail = %failure,
                "an answer was cut after its release",
            );
        }
        match frame {
            Some(Ok(frame)) => match this.hand_over(frame) {
                Some(frame) => Poll::Ready(Some(Ok(frame))),
                None => {
                    this.wait_for_room(cx);
                    Poll::Pending
                }
            },
            end => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_at_end() && self.wait != DrainWait::End
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = match &self.source {
            ResponseSource::Empty => SizeHint::with_exact(0),
            ResponseSource::Text(text) => SizeHint::with_exact(text.len() as u64),
            ResponseSource::Guest(body) => body.size_hint(),
        };
        let mut with_rest = SizeHint::new();
        if let Some(upper) = hint.upper() {
            with_rest.set_upper(upper + rest);
        }
        with_rest.set_lower(hint.lower() + rest);
        with_rest
    }
}

impl UntakenBody for ResponseBody {
    fn charge(&self) -> Option<&BodyCharge> {
        self.charge.as_ref()
    }

    fn waits_to_leave(&self) -> bool {
        self.wait != DrainWait::Nothing
    }
}

/// Removes trailer fields that are only allowed in the head, above all a cookie with the session cookie's name.
fn drop_unfit_trailers(trailers: &mut HeaderMap, request_id: &str) {
    let fields = trailers::screen(trailers);
    if fields > 0 {
        tracing::warn!(
            request_id,
            fields,
            "the guest's trailers held fields that belong in a head, or too many; these were dropped"
        );
    }
}

//! The body of a released response: first the part that was held until the commit, then the part that the guest goes on to write. If the
//! guest fails on the way, the body ends with an error, never cleanly.

mod read_ahead;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use self::read_ahead::ReadAhead;
use super::blame::{Blame, RunEnd, blame};
use super::driver::{GuestRun, RunEvent};
use super::error::GuestFailure;
use super::meter::BodyMeter;
use super::request::ReplayBody;
use crate::run::concurrency::RunClient;
use crate::run::guest::Guest;
use crate::run::health::VersionHealth;
use cloakroom_base::limits::{TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX};
use cloakroom_base::quota::{PeerKey, Reservation, fields_bytes};

/// Pieces smaller than this, in bytes, are joined while they are held.
const JOIN_BYTES: usize = 4 << 10;

/// The body of a released response.
///
/// Dropping it drops the guest's run. The guest does not run until the body is started or polled. From then on it runs by itself, a bounded
/// number of bytes ahead of the client.
pub struct GuestBody {
    held: HeldBytes,
    rest: BodySource,
}

/// The source of the rest of a body.
enum BodySource {
    Complete,
    NotStarted(Box<BodyRemainder>),
    Ahead(ReadAhead),
}

impl std::fmt::Debug for GuestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestBody")
            .field("held_bytes", &self.held.bytes)
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

impl GuestBody {
    pub(crate) fn complete(held: HeldBytes) -> Self {
        Self {
            held,
            rest: BodySource::Complete,
        }
    }

    pub(crate) fn streaming(held: HeldBytes, rest: BodyRemainder) -> Self {
        rest.run.log().pass_through();
        Self {
            held,
            rest: BodySource::NotStarted(Box::new(rest)),
        }
    }

    /// Lets the guest run on. Must be called within a tokio runtime.
    pub(crate) fn start(&mut self) {
        match std::mem::replace(&mut self.rest, BodySource::Complete) {
            BodySource::NotStarted(rest) => self.rest = BodySource::Ahead(ReadAhead::start(*rest)),
            other => self.rest = other,
        }
    }

    /// Returns the bytes of this body in memory, trailers included. Bytes that the guest has written since it was started are not counted.
    pub fn held_bytes(&self) -> u64 {
        self.held.cost()
    }

    /// Returns the reservation that pays for the bytes that were read from the guest ahead of the client, including the latest frame.
    pub fn paid_ahead(&self) -> Option<Reservation> {
        match &self.rest {
            BodySource::Complete | BodySource::NotStarted(_) => None,
            BodySource::Ahead(ahead) => ahead.paid(),
        }
    }

    /// Returns whether the guest is done and the rest of the body is in memory.
    pub fn is_complete(&self) -> bool {
        match &self.rest {
            BodySource::Complete => true,
            BodySource::NotStarted(_) => false,
            BodySource::Ahead(ahead) => ahead.is_done(),
        }
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = GuestFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GuestFailure>>> {
        let body = self.get_mut();
        if let Some(frame) = body.held.pop() {
            return Poll::Ready(Some(Ok(frame)));
        }
        body.start();
        match &mut body.rest {
            BodySource::Ahead(ahead) => ahead.poll_frame(cx),
            BodySource::Complete | BodySource::NotStarted(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_end = match &self.rest {
            BodySource::Complete => true,
            BodySource::NotStarted(_) => false,
            BodySource::Ahead(ahead) => ahead.is_end(),
        };
        is_end && self.held.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            BodySource::Complete => SizeHint::with_exact(self.held.bytes as u64),
            BodySource::NotStarted(_) | BodySource::Ahead(_) => SizeHint::new(),
        }
    }
}

/// The part of a body that is held before its release.
#[derive(Default)]
pub(crate) struct HeldBytes {
    pieces: VecDeque<Bytes>,
    /// Small pieces that are being joined into a larger one.
    tail: BytesMut,
    trailers: Option<HeaderMap>,
    /// The length of the body without the trailers.
    bytes: usize,
}

impl HeldBytes {
    pub(crate) fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        if data.len() < JOIN_BYTES && !(self.pieces.is_empty() && self.tail.is_empty()) {
            self.tail.extend_from_slice(&data);
            return;
        }
        self.close_tail();
        if !data.is_empty() {
            self.pieces.push_back(data);
        }
    }

    /// Stores the trailers, or drops them if they exceed their limits: they would stay in memory as long as the body before them.
    pub(crate) fn set_trailers(&mut self, trailers: HeaderMap) {
        let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let fields = trailers.len();
        if fields <= TRAILER_FIELDS_MAX
            && trailers.iter().map(bytes).sum::<usize>() <= TRAILER_BYTES_MAX
        {
            self.trailers = Some(trailers);
            return;
        }
        tracing::warn!(
            fields,
            fields_max = TRAILER_FIELDS_MAX,
            bytes_max = TRAILER_BYTES_MAX,
            "a guest's trailers were too many or too long and were dropped"
        );
    }

    /// Returns the bytes that this body is charged for.
    fn cost(&self) -> u64 {
        self.bytes as u64 + self.trailers.as_ref().map_or(0, fields_bytes)
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty() && self.trailers.is_none()
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        if self.pieces.is_empty() {
            self.close_tail();
        }
        if let Some(data) = self.pieces.pop_front() {
            self.bytes -= data.len();
            return Some(Frame::data(data));
        }
        self.trailers.take().map(Frame::trailers)
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

/// The part of a released body that its guest has not written yet.
pub(crate) struct BodyRemainder {
    run: GuestRun,
    /// The run's busy time when it was last polled.
    busy: Duration,
    meter: BodyMeter,
    patience: BodyPatience,
    health: Arc<VersionHealth>,
    /// The request body. The guest may be waiting for more of it.
    request_body: ReplayBody,
    client: RunClient,
    /// The peer that failures are attributed to.
    peer: Option<PeerKey>,
    /// Ready when the drain limit of the guest's version has passed.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl BodyRemainder {
    pub(crate) fn new(
        run: GuestRun,
        meter: BodyMeter,
        guest: &Guest,
        request_body: ReplayBody,
        client: RunClient,
        peer: Option<PeerKey>,
    ) -> Self {
        let limits = guest.limits();
        Self {
            busy: run.busy(),
            run,
            meter,
            patience: BodyPatience::new(limits.deadline, limits.stream_silence_max),
            health: guest.health(),
            request_body,
            client,
            peer,
            cut: Box::pin(guest.cut().cancelled_owned()),
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, GuestFailure>> {
        self.patience.ask();
        self.check_cut(cx)?;
        loop {
            let event = self.run.poll_event(cx);
            let busy = self.run.busy();
            let since = busy.saturating_sub(std::mem::replace(&mut self.busy, busy));
            self.patience.spend(since)?;
            let frame = match event {
                Poll::Ready(event) => match event? {
                    RunEvent::Head(_) => continue,
                    RunEvent::Frame(frame) => frame,
                    RunEvent::End => {
                        self.meter.end()?;
                        return Poll::Ready(Ok(None));
                    }
                },
                Poll::Pending if self.is_waiting_for_client() => {
                    self.patience.reset_silence();
                    return self
                        .client
                        .poll_wait(self.request_body.bytes(), cx)
                        .map(Err);
                }
                Poll::Pending => {
                    ready!(self.patience.poll_silence(cx));
                    return Poll::Ready(Err(GuestFailure::Stalled));
                }
            };
            if let Some(data) = frame.data_ref() {
                self.meter.count(data.len())?;
                if !self.meter.is_sent() || data.is_empty() {
                    continue;
                }
            }
            self.patience.rest();
            return Poll::Ready(Ok(Some(frame)));
        }
    }

    fn is_waiting_for_client(&self) -> bool {
        self.request_body.is_awaited() && !self.run.is_runnable()
    }

    /// Checks whether the guest's version must end.
    ///
    /// # Errors
    /// [`GuestFailure::DrainTimeout`] if it must.
    fn check_cut(&mut self, cx: &mut Context<'_>) -> Result<(), GuestFailure> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(GuestFailure::DrainTimeout),
            Poll::Pending => Ok(()),
        }
    }

    /// Counts a failure, or keeps the instance idle if it may serve again. Returns the error that the client receives, if any.
    fn finish(self, end: Result<(), GuestFailure>) -> Result<(), GuestFailure> {
        match end {
            Ok(()) => {
                // The run ends before its instance serves another request.
                if let Some(instance) = self.run.into_instance() {
                    instance.make_idle();
                }
                Ok(())
            }
            Err(failure) => match blame(RunEnd::Failed(&failure), self.request_body.state()) {
                Blame::Guest(outcome) => {
                    self.health.note(outcome, self.peer);
                    Err(failure)
                }
                Blame::Client(of_client) => Err(of_client),
                Blame::None => Err(failure),
            },
        }
    }
}

/// The time limits for the next piece of a released body.
///
/// The body as a whole has no time limit: an event stream runs for hours. Between two pieces, the guest may compute for as long as its
/// deadline allows and be silent for `silence_max`. A slow client costs the guest nothing, because both limits count only while there is
/// room for the next piece.
pub(crate) struct BodyPatience {
    computing_max: Duration,
    silence_max: Duration,
    computed: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    is_asked: bool,
}

impl BodyPatience {
    pub(crate) fn new(computing_max: Duration, silence_max: Duration) -> Self {
        Self {
            computing_max,
            silence_max,
            computed: Duration::ZERO,
            silence: None,
            is_asked: false,
        }
    }

    fn ask(&mut self) {
        if !self.is_asked {
            self.is_asked = true;
            self.computed = Duration::ZERO;
            self.silence = None;
        }
    }

    fn rest(&mut self) {
        self.is_asked = false;
    }

    /// Restarts the silence limit, because the guest was silent while it waited for its client.
    fn reset_silence(&mut self) {
        self.silence = None;
    }

    fn spend(&mut self, computed: Duration) -> Result<(), GuestFailure> {
        self.computed += computed;
        if self.computed > self.computing_max {
            Err(GuestFailure::Stalled)
        } else {
            Ok(())
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence_max = self.silence_max;
        self.silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(silence_max)))
            .as_mut()
            .poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn small_pieces_are_joined_and_all_bytes_stay_in_order() {
        let mut held = HeldBytes::default();
        for piece in ["a", "", "b", "c"] {
            held.push(Bytes::from_static(piece.as_bytes()));
        }
        held.push(Bytes::from(vec![b'd'; JOIN_BYTES]));
        held.push(Bytes::from_static(b"e"));
        let body = GuestBody::complete(held);
        assert_eq!(body.size_hint().exact(), Some(4 + JOIN_BYTES as u64));

        let bytes = body.collect().await.unwrap().to_bytes();

        assert_eq!(bytes.len(), 4 + JOIN_BYTES);
        assert!(bytes.starts_with(b"abcd") && bytes.ends_with(b"de"));
    }

    #[tokio::test]
    async fn held_trailers_are_charged_and_overlong_ones_are_dropped() {
        for (value, passes) in [
            (TRAILER_BYTES_MAX - 5, true),
            (TRAILER_BYTES_MAX - 4, false),
        ] {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "v".repeat(value).parse().unwrap());
            let mut held = HeldBytes::default();
            held.push(Bytes::from_static(b"a"));
            held.set_trailers(trailers.clone());
            let body = GuestBody::complete(held);
            assert_eq!(body.size_hint().exact(), Some(1));
            let expected = if passes { fields_bytes(&trailers) } else { 0 };
            assert_eq!(body.held_bytes(), 1 + expected);
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers(), passes.then_some(&trailers));
        }
    }

    #[test]
    fn an_empty_body_is_at_its_end_from_the_start() {
        let body = GuestBody::complete(HeldBytes::default());
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }

    #[test]
    fn computing_counts_only_between_two_pieces() {
        let mut patience = BodyPatience::new(Duration::from_secs(1), Duration::from_secs(1));
        patience.ask();
        assert!(patience.spend(Duration::from_millis(900)).is_ok());
        patience.rest();
        patience.ask();
        assert!(patience.spend(Duration::from_millis(900)).is_ok());
        assert_eq!(
            patience.spend(Duration::from_millis(900)),
            Err(GuestFailure::Stalled)
        );
    }
}

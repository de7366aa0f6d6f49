//! The minimum speed at which a client has to send a request's body and take a response's body, on both HTTP/1.1 and HTTP/2.
//! Without it, a byte now and then would keep a connection alive forever, along with a guest and its memory.
//!
//! This module also cuts responses whose memory other clients need. It does not interpret bodies.

use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::Sleep;

use super::activity::{ClientTurn, ClientTurns, InFlightRequest, RequestSide};
use cloakroom_base::limits::TRANSFER_BYTES_PER_S_MIN;
use cloakroom_base::quota::{BodyCharge, UntakenBody, WeakBodyCharge};

/// The client exceeded its time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is too slow")]
pub(crate) struct TooSlow;

/// The time that one body may still wait for its client. Waiting uses it up, and transferred bytes restore it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyPatienceTimer {
    /// The upper limit of `left`.
    grace: Duration,
    left: Duration,
    since: Option<Instant>,
}

impl BodyPatienceTimer {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            left: grace,
            since: None,
        }
    }

    /// Starts to wait for the client.
    fn wait(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Ends the wait for the client, if there was one.
    ///
    /// # Errors
    /// [`TooSlow`] if the client has used up its time.
    fn resume(&mut self, now: Instant) -> Result<(), TooSlow> {
        let Some(since) = self.since.take() else {
            return Ok(());
        };
        let waited = now.saturating_duration_since(since);
        self.left = self.left.checked_sub(waited).ok_or(TooSlow)?;
        Ok(())
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        let bought = Duration::from_millis(bytes.saturating_mul(1000) / TRANSFER_BYTES_PER_S_MIN);
        self.left = self.left.saturating_add(bought).min(self.grace);
    }

    /// Returns the time at which the current wait becomes too long, if there is one.
    fn ends_at(&self) -> Option<Instant> {
        self.since.map(|since| since + self.left)
    }
}

thread_local! {
    /// The time at which the client of the task running on this thread is too slow. The body that the task sends sets it, and the
    /// task reads it.
    static TOO_SLOW_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The response that the task running on this thread has begun to send. The body sets it, and the task takes it.
    static BEGUN: Cell<Option<BegunResponse>> = const { Cell::new(None) };
}

/// A response that has begun to be sent.
#[derive(Debug)]
struct BegunResponse {
    turns: ClientTurns,
    charge: Option<WeakBodyCharge>,
}

/// The parts of a response that the sending task needs to cut it.
#[derive(Debug, Default)]
pub(crate) struct SendingResponse {
    turn: Option<ClientTurn>,
    charge: Option<WeakBodyCharge>,
}

impl SendingResponse {
    /// Updates the state after a poll of the sending future. `is_clients_turn` says whether the future waits for its client.
    /// Ready when the response must be cut.
    pub(crate) fn poll_cut(&mut self, is_clients_turn: bool, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(begun) = BEGUN.take() {
            self.turn = Some(ClientTurn::new(begun.turns, RequestSide::Leaving));
            self.charge = begun.charge;
        }
        if let Some(turn) = &mut self.turn {
            turn.set(is_clients_turn);
        }
        match &self.charge {
            Some(charge) => charge.poll_revoked(cx),
            None => Poll::Pending,
        }
    }
}

/// A response's body. It fails when the client takes it too slowly, and its request stays in flight until the body is dropped.
#[derive(Debug)]
pub(crate) struct OutgoingBody<B> {
    body: Pin<Box<B>>,
    pace: BodyPatienceTimer,
    in_flight: InFlightRequest,
}

impl<B: Body + UntakenBody> OutgoingBody<B> {
    /// Wraps a body. The caller must be the task that sends it.
    pub(crate) fn new(body: B, mut pace: BodyPatienceTimer, in_flight: InFlightRequest) -> Self {
        // The wait starts here, because the body is never polled if the client has no room for the first byte.
        if !body.is_end_stream() {
            pace.wait(Instant::now());
            TOO_SLOW_AT.set(pace.ends_at());
            BEGUN.set(Some(BegunResponse {
                turns: in_flight.turns().clone(),
                charge: body.charge().map(BodyCharge::downgrade),
            }));
        }
        Self {
            body: Box::pin(body),
            pace,
            in_flight,
        }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + UntakenBody> Body
    for OutgoingBody<B>
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let waits_to_leave = self.body.waits_to_leave();
        let frame = self.body.as_mut().poll_frame(cx);
        if waits_to_leave && frame.is_pending() {
            // The body still waits for the client.
            return Poll::Pending;
        }
        if self.pace.since.is_some() {
            TOO_SLOW_AT.set(None);
            self.pace.resume(Instant::now())?;
        }
        let frame = ready!(frame);
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.in_flight.count_head(trailers);
        }
        // Most responses are a single piece, after which the body is not polled again.
        if let Some(Ok(frame)) = &frame
            && !self.body.is_end_stream()
        {
            self.pace.count(frame);
            self.pace.wait(Instant::now());
            TOO_SLOW_AT.set(self.pace.ends_at());
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the streams of HTTP/2 connections, and drops a stream whose client takes no bytes. The other streams of the connection
/// may belong to other clients behind a proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamRunner;

impl<F> Executor<F> for StreamRunner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let stream = RunningStream {
            inner: Box::pin(stream),
            sending: SendingResponse::default(),
            too_slow_at: None,
            timer: None,
        };
        tokio::spawn(stream);
    }
}

struct RunningStream<F> {
    inner: Pin<Box<F>>,
    sending: SendingResponse,
    too_slow_at: Option<Instant>,
    /// Created when the stream first waits for its client, and only moved when it fires.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for RunningStream<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        TOO_SLOW_AT.set(self.too_slow_at);
        let polled = self.inner.as_mut().poll(cx);
        self.too_slow_at = TOO_SLOW_AT.take();
        let is_clients_turn = polled.is_pending() && self.too_slow_at.is_some();
        let cut = self.sending.poll_cut(is_clients_turn, cx);
        if polled.is_ready() {
            return Poll::Ready(());
        }
        if cut.is_ready() {
            tracing::debug!(
                "an HTTP/2 stream was reset: other clients need the memory of its response"
            );
            return Poll::Ready(());
        }
        let Some(at) = self.too_slow_at else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        while timer.as_mut().poll(cx).is_ready() {
            if at <= Instant::now() {
                tracing::debug!("an HTTP/2 stream was reset: its client was too slow");
                return Poll::Ready(());
            }
            timer.as_mut().reset(at.into());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn piece(bytes: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![0; bytes]))
    }

    #[test]
    fn the_grace_of_a_client_is_restored_by_the_bytes_that_it_takes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = BodyPatienceTimer::new(GRACE);
        pace.wait(at(0));
        assert_eq!(pace.ends_at(), Some(at(10)));
        assert_eq!(pace.resume(at(8)), Ok(()));
        assert_eq!(pace.ends_at(), None, "the guest's time is not the client's");
        pace.count(&piece(720));
        pace.wait(at(1000));
        assert_eq!(pace.ends_at(), Some(at(1005)));
        assert_eq!(pace.resume(at(1006)), Err(TooSlow));
    }

    #[test]
    fn a_large_piece_restores_at_most_the_full_grace() {
        let start = Instant::now();
        let mut pace = BodyPatienceTimer::new(GRACE);
        pace.count(&piece(1 << 20));
        pace.wait(start);
        assert_eq!(pace.ends_at(), Some(start + GRACE));
    }

    #[test]
    fn an_occasional_byte_does_not_extend_the_grace() {
        let start = Instant::now();
        let mut pace = BodyPatienceTimer::new(GRACE);
        let is_too_slow = |second: u64| {
            pace.wait(start + Duration::from_secs(second));
            let went_on = pace.resume(start + Duration::from_secs(second + 1));
            pace.count(&piece(1));
            went_on.is_err()
        };
        assert_eq!((0..100).position(is_too_slow), Some(10));
    }
}

//! A request body that is recorded while it is read, so that another run can read it again. Its beginning is read
//! before the guest has an instance. Any body type works. The kept bytes are charged to the client.
//!
//! A body is read before its guest is taken, so that a slow client keeps no old version alive: the version is chosen after the
//! reading. The host charges up to three times the bytes of a body that arrives in small pieces. The total `waiting_bodies` must
//! have room for one such body; the configuration is refused otherwise.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use wasmtime_wasi_http::Error;

use super::client_wait::ClientWaitBody;
use crate::run::blame::RequestBodyState;
use crate::run::error::GuestFailure;
use cloakroom_base::deadline::BodyTooSlow;
use cloakroom_base::limits::{BODY_PIECE_BYTES_MIN, BODY_PIECES_FREE};
use cloakroom_base::quota::{QuotaResource, Reservation, RevocablePhase};

/// The charge for a kept piece in addition to its bytes, in bytes. It covers the bookkeeping of bodies in tiny pieces.
const PIECE_COST: u64 = 64;

/// Returns the charge for a number of bytes in a number of pieces, in bytes.
fn cost(bytes: u64, pieces: u64) -> u64 {
    bytes.saturating_add(pieces.saturating_mul(PIECE_COST))
}

/// Returns the largest charge for the part of one body that is read ahead, in bytes. It assumes pieces of the smallest
/// average size that is permitted. It ignores the smaller pieces that are permitted each second, because their charge
/// matters only after minutes.
pub fn read_ahead_cost_max(
    body_bytes_max: u64,
    replay_bytes_max: usize,
    piece_bytes_max: usize,
) -> u64 {
    if replay_bytes_max == 0 {
        return 0;
    }
    // The piece that exceeds the bound is kept whole.
    let bytes = replay_bytes_max.saturating_add(piece_bytes_max) as u64;
    let bytes = bytes.min(body_bytes_max);
    cost(bytes, bytes / BODY_PIECE_BYTES_MIN + BODY_PIECES_FREE)
}

/// A request body that can be read more than once while it stays within its bounds.
pub struct ReplayBody(Arc<Mutex<ReplayRecord>>);

struct ReplayRecord {
    source: Option<UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>>,
    bytes_max: u64,
    replay_bytes_max: usize,
    /// Bytes that have arrived so far.
    bytes: u64,
    /// All pieces that have arrived, unless `is_gone`.
    kept: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    is_gone: bool,
    state: RequestBodyState,
    /// The number of runs so far. Only the latest run may read on.
    run: u32,
    /// The number of pieces in `kept` that the latest run has read.
    next: usize,
    /// The reservation that `kept` is charged to.
    room: Option<Reservation>,
    /// Present once a reader has waited.
    awaited: Option<Arc<ClientWaitBody>>,
}

impl ReplayBody {
    /// Wraps the client's body. Reading more than `bytes_max` bytes is an error. The bytes that were read are kept
    /// while there are at most `replay_bytes_max` of them.
    pub fn new<B>(source: B, bytes_max: u64, replay_bytes_max: usize) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let source = (!source.is_end_stream()).then(|| source.map_err(Into::into).boxed_unsync());
        Self(Arc::new(Mutex::new(ReplayRecord {
            source,
            bytes_max,
            replay_bytes_max,
            bytes: 0,
            kept: VecDeque::new(),
            trailers: None,
            is_gone: false,
            state: RequestBodyState::Intact,
            run: 0,
            next: 0,
            room: None,
            awaited: None,
        })))
    }

    /// Charges the kept bytes to the client of the request that holds this reservation, as [`QuotaResource::RequestBytes`].
    /// While the request is queued, its kept bytes can be revoked together with it. Once a run has read all of them,
    /// they can be revoked alone, and then the request cannot be run again.
    pub fn charged_to(self, reservation: &Reservation) -> Self {
        // There is always room for zero bytes.
        let room = reservation
            .peer()
            .reserve(QuotaResource::RequestBytes, 0)
            .ok();
        if let Some(room) = &room {
            room.part_of(reservation);
        }
        self.0.lock().room = room;
        self
    }

    /// Returns whether no more of the body will arrive.
    pub fn has_come(&self) -> bool {
        self.0.lock().source.is_none()
    }

    /// Reads the part of the body that can be kept for another run, before the first run. Also ends when the
    /// reservation for the kept bytes is revoked.
    ///
    /// # Errors
    /// Returns an error if the client fails, or if there is no room to keep the bytes that it sends.
    ///
    /// Cancel safety: the bytes that were read stay recorded.
    pub async fn read_ahead(&self) -> Result<(), GuestFailure> {
        poll_fn(|cx| self.0.lock().poll_read_ahead(cx)).await
    }

    /// Returns whether a part of the body was read and is not kept, so that no other run can read it. If all of it is
    /// kept, it can no longer be revoked without the request.
    pub(crate) fn is_gone(&self) -> bool {
        let mut record = self.0.lock();
        record.stay();
        record.is_gone
    }

    /// Returns the state of the body, which shows whether the client is to blame for a failure.
    pub(crate) fn state(&self) -> RequestBodyState {
        let record = self.0.lock();
        match record.state {
            RequestBodyState::Intact if record.is_awaited() => RequestBodyState::Awaited,
            state => state,
        }
    }

    /// Returns whether a run currently waits for bytes that the client has not sent.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.lock().is_awaited()
    }

    /// Returns the number of bytes that have arrived.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().bytes
    }

    /// Returns a reader that starts at the beginning of the body, for a new run. Readers of earlier runs fail from now
    /// on.
    pub(crate) fn reader(&self) -> BodyReader {
        let mut record = self.0.lock();
        record.run += 1;
        record.next = 0;
        record.end_wait();
        record.stay();
        record.watch_room(&self.0);
        let is_broken = record.is_gone;
        BodyReader {
            record: Arc::clone(&self.0),
            run: record.run,
            is_broken,
            is_ended: false,
        }
    }

    /// Returns another handle to the same body, for queries.
    pub(crate) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Returns a handle that ends the body when its request is over.
    pub(crate) fn end(&self) -> BodyEnder {
        BodyEnder(Arc::downgrade(&self.0))
    }
}

/// A handle that ends a request's body, even if a guest still holds a reader.
pub(crate) struct BodyEnder(Weak<Mutex<ReplayRecord>>);

impl BodyEnder {
    /// Drops the client's body. A reader that reads on gets an error, as if the client had broken off.
    pub(crate) fn close(&self) {
        if let Some(record) = self.0.upgrade() {
            let mut record = record.lock();
            record.run += 1;
            record.let_go();
            record.source = None;
        }
    }
}

impl fmt::Debug for ReplayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

/// Whether a piece that was read is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeepPiece {
    /// It must be kept, because the next run needs it.
    Ahead,
    /// It is kept while the whole body can be kept. The run that reads it already has it.
    IfItFits,
}

impl ReplayRecord {
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        while self.source.is_some() && self.bytes < self.replay_bytes_max as u64 {
            if let Some(room) = &self.room
                && room.poll_revoked(cx).is_ready()
            {
                self.fail(RequestBodyState::Intact);
                return Poll::Ready(Err(GuestFailure::NoRoomForBody));
            }
            match ready!(self.poll_source(cx, KeepPiece::Ahead)) {
                None | Some(Ok(_)) => {}
                Some(Err(_)) => {
                    let failure = self.state.failure();
                    return Poll::Ready(Err(failure.unwrap_or(GuestFailure::NoRoomForBody)));
                }
            }
        }
        // From here on, the request no longer waits for its client because of this body.
        self.stay();
        Poll::Ready(match self.is_gone {
            true => Err(GuestFailure::NoRoomForBody),
            false => Ok(()),
        })
    }

    /// Notes that the next run needs the kept pieces.
    fn stay(&mut self) {
        self.set_phase(RevocablePhase::AsRequest);
    }

    /// Notes that the latest run has read all kept pieces, so that they are needed only if the request is run again.
    fn note_read(&mut self) {
        if self.next >= self.kept.len() {
            self.set_phase(RevocablePhase::WaitsForClient);
        }
    }

    fn set_phase(&mut self, phase: RevocablePhase) {
        let is_revoked = |room: &Reservation| room.set_phase(phase).is_err();
        if self.room.as_ref().is_some_and(is_revoked) {
            self.let_go();
        }
    }

    /// Releases the kept pieces as soon as their reservation is revoked.
    fn watch_room(&self, record: &Arc<Mutex<Self>>) {
        let (Some(room), Ok(runtime)) = (&self.room, Handle::try_current()) else {
            return;
        };
        let let_go = ReleaseOnRevoke {
            record: Arc::downgrade(record),
            runtime,
        };
        let waker = Waker::from(Arc::new(let_go));
        // If it is already revoked, an earlier check has found that.
        let _ = room.poll_revoked(&mut Context::from_waker(&waker));
    }

    /// Reads on from the point that any reader has reached so far.
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        keep: KeepPiece,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(source).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(self.record(frame, keep))),
            Some(Err(error)) => {
                let (state, seen) = match is_too_slow(&*error) {
                    true => (RequestBodyState::TooSlow, Error::ConnectionReadTimeout),
                    false => (RequestBodyState::BrokeOff, Error::ConnectionTerminated),
                };
                self.fail(state);
                Poll::Ready(Some(Err(seen)))
            }
            None => {
                self.source = None;
                Poll::Ready(None)
            }
        }
    }

    fn record(&mut self, frame: Frame<Bytes>, keep: KeepPiece) -> Result<Frame<Bytes>, Error> {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.source = None;
        }
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len() as u64);
            if self.bytes > self.bytes_max {
                self.fail(RequestBodyState::TooLarge {
                    bytes_max: self.bytes_max,
                });
                return Err(Error::HttpRequestBodySize(Some(self.bytes_max)));
            }
            let fits = !self.is_gone && self.bytes <= self.replay_bytes_max as u64;
            let is_kept = (keep == KeepPiece::Ahead || fits) && self.pay_for(data, keep);
            match (is_kept, keep) {
                (true, _) => self.kept.push_back(data.clone()),
                (false, KeepPiece::IfItFits) => self.let_go(),
                (false, KeepPiece::Ahead) => {
                    self.fail(RequestBodyState::Intact);
                    return Err(Error::ConnectionTerminated);
                }
            }
        }
        Ok(frame)
    }

    /// Charges another piece. Returns whether there is room for it.
    fn pay_for(&mut self, data: &Bytes, keep: KeepPiece) -> bool {
        let Some(room) = &self.room else {
            return true;
        };
        let has_room = room.grow(cost(data.len() as u64, 1)).is_ok();
        // This restarts the wait for the client. Of the bodies that wait, the one that was silent longest is revoked
        // first.
        has_room
            && (keep == KeepPiece::IfItFits
                || room.set_phase(RevocablePhase::WaitsForClient).is_ok())
    }

    /// Ends the body after a failure. The rest cannot be read, so the kept part is released: a run must not mistake it
    /// for the whole body.
    fn fail(&mut self, state: RequestBodyState) {
        self.state = state;
        self.source = None;
        self.let_go();
    }

    fn let_go(&mut self) {
        self.is_gone = true;
        self.kept.clear();
        self.room = None;
    }

    fn is_awaited(&self) -> bool {
        self.source.is_some()
            && self
                .awaited
                .as_ref()
                .is_some_and(|awaited| awaited.is_set())
    }

    fn end_wait(&self) {
        if let Some(awaited) = &self.awaited {
            awaited.end();
        }
    }
}

/// Returns whether an error, or one of its causes, says that the client was too slow.
fn is_too_slow(error: &(dyn StdError + 'static)) -> bool {
    error.is::<BodyTooSlow>() || error.source().is_some_and(is_too_slow)
}

/// Releases the kept pieces of a body whose reservation was revoked. This happens in a task, because the code that
/// revokes holds locks, and so may the code that reads the body.
struct ReleaseOnRevoke {
    record: Weak<Mutex<ReplayRecord>>,
    runtime: Handle,
}

impl Wake for ReleaseOnRevoke {
    fn wake(self: Arc<Self>) {
        let record = Weak::clone(&self.record);
        self.runtime.spawn(async move {
            let Some(record) = record.upgrade() else {
                return;
            };
            let mut record = record.lock();
            if record.room.as_ref().is_some_and(Reservation::is_revoked) {
                record.let_go();
            }
        });
    }
}

/// A request body as one run reads it.
pub(crate) struct BodyReader {
    record: Arc<Mutex<ReplayRecord>>,
    run: u32,
    /// Set if the part that it would read is no longer kept.
    is_broken: bool,
    is_ended: bool,
}

impl Body for BodyReader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let reader = self.get_mut();
        let mut record = reader.record.lock();
        if reader.is_ended {
            return Poll::Ready(None);
        }
        if reader.run != record.run || reader.is_broken {
            reader.is_ended = true;
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        if let Some(data) = record.kept.get(record.next).cloned() {
            record.next += 1;
            record.note_read();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if record.source.is_none() {
            reader.is_ended = true;
            let trailers = record.trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let awaited = Arc::clone(record.awaited.get_or_insert_default());
        let waker = awaited.begin(cx);
        let frame =
            ready!(record.poll_source(&mut Context::from_waker(&waker), KeepPiece::IfItFits));
        awaited.end();
        record.next = record.kept.len();
        record.note_read();
        reader.is_ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let record = self.record.lock();
        let is_read = record.source.is_none() && record.next >= record.kept.len();
        self.is_ended || (is_read && record.trailers.is_none() && !record.is_gone)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let record = self.record.lock();
        if self.run == record.run {
            record.end_wait();
        }
    }
}

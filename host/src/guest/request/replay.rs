//! A request's body, recorded while it is read, so that another run can read it again. Its beginning is read before the guest
//! has an instance. Knows any body, and who pays for what is kept of it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::Error;

use super::awaited::Awaited;
use crate::guest::blame::BodyState;
use crate::guest::error::GuestFailure;
use crate::quota::{Peer, Phase, Reservation, Resource};

/// What a kept piece costs besides its bytes, in bytes: bodies in tiny pieces cost their bookkeeping.
const PIECE_COST: u64 = 64;

/// The client sends its body more slowly than it may. A body ends with this error when its source finds that out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's body comes too slowly")]
pub struct BodyTooSlow;

/// A request body that can be read more than once, as long as it stays within its bounds.
pub struct ReplayBody(Arc<Mutex<Record>>);

struct Record {
    source: Option<UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>>,
    bytes_max: u64,
    replay_bytes_max: usize,
    /// What has come so far.
    bytes: u64,
    /// All that has come, unless `is_gone`.
    kept: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    is_gone: bool,
    state: BodyState,
    /// Counts the runs: only the latest one may read on.
    run: u32,
    /// Who pays for `kept`.
    peer: Option<Peer>,
    room: Option<Reservation>,
    /// There once a reader has waited.
    awaited: Option<Arc<Awaited>>,
}

impl ReplayBody {
    /// Takes the client's body. It is an error of the reading guest to pass `bytes_max`; what is read is kept while it is
    /// no more than `replay_bytes_max`.
    pub fn new<B>(source: B, bytes_max: u64, replay_bytes_max: usize) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let source = (!source.is_end_stream()).then(|| source.map_err(Into::into).boxed_unsync());
        Self(Arc::new(Mutex::new(Record {
            source,
            bytes_max,
            replay_bytes_max,
            bytes: 0,
            kept: VecDeque::new(),
            trailers: None,
            is_gone: false,
            state: BodyState::Sound,
            run: 0,
            peer: None,
            room: None,
            awaited: None,
        })))
    }

    /// The same body; its client pays for what is kept of it, as [`Resource::RequestBytes`].
    pub fn charged_to(self, peer: &Peer) -> Self {
        self.lock().peer = Some(peer.clone());
        self
    }

    /// Whether nothing of it is still to come.
    pub fn has_come(&self) -> bool {
        self.lock().source.is_none()
    }

    /// Reads what can be kept for another run, before any run. Ends also where that was revoked which it is kept in.
    ///
    /// # Errors
    /// When the client fails, or there is no room to keep what it sends.
    ///
    /// Cancel safety: what was read stays recorded.
    pub async fn read_ahead(&self) -> Result<(), GuestFailure> {
        poll_fn(|cx| self.lock().poll_read_ahead(cx)).await
    }

    /// Whether a part of it was read and not kept: then no other run can read it.
    pub(in crate::guest) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// What is to be said of the client, as the giver of this body.
    pub(in crate::guest) fn state(&self) -> BodyState {
        let record = self.lock();
        match record.state {
            BodyState::Sound if record.is_awaited() => BodyState::Awaited,
            state => state,
        }
    }

    /// Whether a run waits at this moment for bytes that its client has not sent.
    pub(in crate::guest) fn is_awaited(&self) -> bool {
        self.lock().is_awaited()
    }

    /// How many bytes have come.
    pub(in crate::guest) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// The body from its start, for a new run. Readers of earlier runs end with an error.
    pub(in crate::guest) fn reader(&self) -> BodyReader {
        let mut record = self.lock();
        record.run += 1;
        record.end_wait();
        let is_broken = record.is_gone;
        BodyReader {
            record: Arc::clone(&self.0),
            run: record.run,
            next: 0,
            is_broken,
            is_ended: false,
        }
    }

    /// The same body, to ask after it.
    pub(in crate::guest) fn handle(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// What ends it for good, for when its request is over.
    pub(in crate::guest) fn end(&self) -> BodyEnd {
        BodyEnd(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.0)
    }
}

/// Ends a request's body whoever may hold it still.
pub(in crate::guest) struct BodyEnd(Weak<Mutex<Record>>);

impl BodyEnd {
    /// Lets go of the client's body. Who reads on finds it broken off.
    pub(in crate::guest) fn close(&self) {
        if let Some(record) = self.0.upgrade() {
            let mut record = lock(&record);
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

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // A body that panicked is polled no more usefully than one that did not; the record itself stays consistent.
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a piece that was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// It is there for the run that comes.
    Ahead,
    /// While all of the body can be kept: the run that reads it has it already.
    IfItFits,
}

impl Record {
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        while self.source.is_some() && self.bytes < self.replay_bytes_max as u64 {
            if let Some(room) = &self.room
                && room.poll_revoked(cx).is_ready()
            {
                self.fail(BodyState::Sound);
                return Poll::Ready(Err(GuestFailure::NoRoomForBody));
            }
            match ready!(self.poll_source(cx, Keep::Ahead)) {
                None | Some(Ok(_)) => {}
                Some(Err(_)) => {
                    let failure = self.state.failure();
                    return Poll::Ready(Err(failure.unwrap_or(GuestFailure::NoRoomForBody)));
                }
            }
        }
        // From here on the request does not wait for its client with this.
        let settled = self
            .room
            .as_ref()
            .map(|room| room.set_phase(Phase::Working));
        Poll::Ready(match settled {
            Some(Err(_revoked)) => Err(GuestFailure::NoRoomForBody),
            Some(Ok(())) | None => Ok(()),
        })
    }

    /// Reads on where all earlier reading ended.
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        keep: Keep,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(source).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(self.record(frame, keep))),
            Some(Err(error)) => {
                let (state, seen) = match is_too_slow(&*error) {
                    true => (BodyState::TooSlow, Error::ConnectionReadTimeout),
                    false => (BodyState::BrokeOff, Error::ConnectionTerminated),
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

    fn record(&mut self, frame: Frame<Bytes>, keep: Keep) -> Result<Frame<Bytes>, Error> {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.source = None;
        }
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len() as u64);
            if self.bytes > self.bytes_max {
                self.fail(BodyState::TooLarge {
                    bytes_max: self.bytes_max,
                });
                return Err(Error::HttpRequestBodySize(Some(self.bytes_max)));
            }
            let fits = !self.is_gone && self.bytes <= self.replay_bytes_max as u64;
            let is_kept = (keep == Keep::Ahead || fits) && self.pay_for(data, keep);
            match (is_kept, keep) {
                (true, _) => self.kept.push_back(data.clone()),
                (false, Keep::IfItFits) => self.let_go(),
                (false, Keep::Ahead) => {
                    self.fail(BodyState::Sound);
                    return Err(Error::ConnectionTerminated);
                }
            }
        }
        Ok(frame)
    }

    /// Whether there is room for another piece.
    fn pay_for(&mut self, data: &Bytes, keep: Keep) -> bool {
        let Some(peer) = &self.peer else {
            return true;
        };
        let cost = data.len() as u64 + PIECE_COST;
        // It makes room for itself by what others hold, not by what it holds.
        if let (Some(room), Keep::Ahead) = (&self.room, keep)
            && room.set_phase(Phase::Working).is_err()
        {
            return false;
        }
        let has_room = match &self.room {
            Some(room) => room.grow(cost).is_ok(),
            None => match peer.reserve(Resource::RequestBytes, cost) {
                Ok(room) => {
                    self.room = Some(room);
                    true
                }
                Err(_full) => false,
            },
        };
        // Of bodies that are waited for, the one that has been silent for longest gives way.
        let waits = || match (&self.room, keep) {
            (Some(room), Keep::Ahead) => room.set_phase(Phase::WaitsForClient).is_ok(),
            _ => true,
        };
        has_room && waits()
    }

    /// Nobody can read the rest, so nobody may take what was kept for the whole.
    fn fail(&mut self, state: BodyState) {
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

/// Whether an error, or what caused it, says that the client was too slow.
fn is_too_slow(error: &(dyn StdError + 'static)) -> bool {
    error.is::<BodyTooSlow>() || error.source().is_some_and(is_too_slow)
}

/// A request body as one run reads it.
pub(in crate::guest) struct BodyReader {
    record: Arc<Mutex<Record>>,
    run: u32,
    next: usize,
    /// What it would read is gone.
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
        let mut record = lock(&reader.record);
        if reader.is_ended {
            return Poll::Ready(None);
        }
        if reader.run != record.run || reader.is_broken {
            reader.is_ended = true;
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        if let Some(data) = record.kept.get(reader.next).filter(|_| !record.is_gone) {
            reader.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if record.source.is_none() {
            reader.is_ended = true;
            let trailers = record.trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let awaited = Arc::clone(record.awaited.get_or_insert_default());
        let waker = awaited.begin(cx);
        let frame = ready!(record.poll_source(&mut Context::from_waker(&waker), Keep::IfItFits));
        awaited.end();
        reader.next = record.kept.len();
        reader.is_ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let record = lock(&self.record);
        let is_read = record.source.is_none() && self.next >= record.kept.len();
        self.is_ended || (is_read && record.trailers.is_none() && !record.is_gone)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let record = lock(&self.record);
        if self.run == record.run {
            record.end_wait();
        }
    }
}

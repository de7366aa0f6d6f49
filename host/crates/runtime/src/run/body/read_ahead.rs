//! Reads the part of a released body that its guest has not written yet, in a separate task. The task reads up to a bound ahead of the
//! client, so most guests are done, and their instances free, before a slow client has read anything.
//!
//! The task starts when the response leaves, which is after the commit. The held bytes are charged to the peer as untaken bytes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{BodyRemainder, HeldBytes};
use crate::run::error::GuestFailure;
use cloakroom_base::limits::READ_AHEAD_BYTES;
use cloakroom_base::quota::{QuotaResource, Reservation, RevocablePhase};

/// The frames that the task has read from the guest. Dropping this ends the task, and with it the guest.
pub(crate) struct ReadAhead {
    pipe: Arc<ReadAheadPipe>,
    task: AbortHandle,
}

/// The state that the task and the body share.
struct ReadAheadPipe(Mutex<PipeFlow>);

#[derive(Default)]
struct PipeFlow {
    held: HeldBytes,
    /// Number of body bytes that the client has been given.
    taken: u64,
    /// The result of the guest, once it is done or has failed.
    end: Option<Result<(), GuestFailure>>,
    /// The reservation of the client's peer that pays for the held bytes.
    room: Option<Reservation>,
    body: Option<Waker>,
    task: Option<Waker>,
}

impl ReadAhead {
    /// Starts the task. Must be called within a tokio runtime.
    pub(crate) fn start(mut rest: BodyRemainder) -> Self {
        let peer = rest
            .client
            .reservation()
            .map(|reservation| reservation.peer());
        let pipe = Arc::new(ReadAheadPipe(Mutex::new(PipeFlow {
            room: peer.and_then(|peer| peer.reserve(QuotaResource::ResponseBytes, 0).ok()),
            ..PipeFlow::default()
        })));
        let end = EndOfPipe(Arc::clone(&pipe));
        let task = tokio::spawn(async move {
            let result = poll_fn(|cx| end.0.poll_fill(&mut rest, cx)).await;
            // The instance and its permit are free before the client learns of the end.
            end.set(rest.finish(result));
            poll_fn(|cx| end.0.poll_drained(cx)).await;
        });
        Self {
            pipe,
            task: task.abort_handle(),
        }
    }

    /// Returns the reservation that pays for the held bytes and for the latest frame.
    pub(crate) fn paid(&self) -> Option<Reservation> {
        self.pipe.0.lock().room.clone()
    }

    /// Returns whether the guest is done and the rest of its response is in memory.
    pub(crate) fn is_done(&self) -> bool {
        self.pipe.0.lock().end.is_some()
    }

    /// Returns whether the body is at its end.
    pub(crate) fn is_end(&self) -> bool {
        let flow = self.pipe.0.lock();
        flow.held.is_empty() && matches!(flow.end, Some(Ok(())))
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GuestFailure>>> {
        let mut flow = self.pipe.0.lock();
        if let Some(frame) = flow.held.pop() {
            flow.given(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut flow.end {
            Some(end) => {
                let end = std::mem::replace(end, Ok(()));
                Poll::Ready(end.err().map(Err))
            }
            None => {
                flow.body = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the guest may write more.
enum PipeRoom {
    Free,
    /// The client must first take some of the held bytes. `taken` is the number of bytes it has taken so far.
    Full {
        taken: u64,
    },
    /// The reservation was revoked: the held bytes must be dropped.
    Revoked,
}

impl ReadAheadPipe {
    /// Runs the guest while there is room for its output. Ready when the guest ends.
    fn poll_fill(
        &self,
        rest: &mut BodyRemainder,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), GuestFailure>> {
        loop {
            match self.room(cx) {
                PipeRoom::Free => rest.client.resume()?,
                PipeRoom::Full { taken } => {
                    rest.check_cut(cx)?;
                    return rest.client.poll_wait(taken, cx).map(Err);
                }
                PipeRoom::Revoked => return Poll::Ready(Err(GuestFailure::ClientTooSlow)),
            }
            match ready!(rest.poll_frame(cx))? {
                Some(frame) => self.push(frame),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn room(&self, cx: &mut Context<'_>) -> PipeRoom {
        let mut flow = self.0.lock();
        if flow.is_revoked(cx) {
            return PipeRoom::Revoked;
        }
        if flow.held.bytes < READ_AHEAD_BYTES && !flow.is_refused_room() {
            return PipeRoom::Free;
        }
        flow.task = Some(cx.waker().clone());
        PipeRoom::Full { taken: flow.taken }
    }

    fn push(&self, frame: Frame<Bytes>) {
        let mut flow = self.0.lock();
        let before = flow.held.cost();
        match frame.into_data() {
            Ok(data) => flow.held.push(data),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    flow.held.set_trailers(trailers);
                }
            }
        }
        if let Some(room) = &flow.room {
            // A piece that exceeds the reservation is kept all the same. No further piece is read until enough was taken.
            let _ = room.grow(flow.held.cost() - before);
        }
        flow.note_wait();
        if let Some(body) = flow.body.take() {
            drop(flow);
            body.wake();
        }
    }

    /// Ready when nothing is held any more. Drops the held bytes if the reservation is revoked, so that they make room for other clients.
    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut flow = self.0.lock();
        if flow.held.is_empty() {
            return Poll::Ready(());
        }
        if flow.is_revoked(cx) {
            flow.held = HeldBytes::default();
            flow.end = Some(Err(GuestFailure::ClientTooSlow));
            return Poll::Ready(());
        }
        flow.task = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl PipeFlow {
    fn is_revoked(&self, cx: &mut Context<'_>) -> bool {
        let room = self.room.as_ref();
        room.is_some_and(|room| room.poll_revoked(cx).is_ready())
    }

    /// Returns whether more is held than the reservation pays for.
    fn is_refused_room(&self) -> bool {
        let paid = self.room.as_ref().map(Reservation::amount);
        paid.is_some_and(|paid| paid < self.held.cost())
    }

    /// Records that the client is given a frame. The frame is paid for here until the next one is given, or until the charge of the
    /// response takes over its part.
    fn given(&mut self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.taken += bytes;
        if let Some(room) = &self.room {
            room.shrink(room.amount().saturating_sub(self.held.cost() + bytes));
        }
        self.note_wait();
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Tells the quota whether this response waits for its client. Of the responses that wait, the quota revokes the one that has been
    /// untouched for longest.
    fn note_wait(&self) {
        let phase = if self.held.is_empty() {
            RevocablePhase::Working
        } else {
            RevocablePhase::WaitsForClient
        };
        if let Some(room) = &self.room {
            // An error means that the reservation was revoked. The task notices that itself.
            let _ = room.set_phase(phase);
        }
    }
}

/// A guard that ends the body when the task ends, even if it panics.
struct EndOfPipe(Arc<ReadAheadPipe>);

impl EndOfPipe {
    fn set(&self, end: Result<(), GuestFailure>) {
        let mut flow = self.0.0.lock();
        if flow.end.is_some() {
            return;
        }
        flow.end = Some(end);
        if let Some(body) = flow.body.take() {
            drop(flow);
            body.wake();
        }
    }
}

impl Drop for EndOfPipe {
    fn drop(&mut self) {
        self.set(Err(GuestFailure::Interrupted));
    }
}

//! The activity of a connection: counts its reads, writes and requests, and tracks which requests the host is working on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed,
};
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Version};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::FrameParser;
use cloakroom_base::limits::UNTAKEN_HEAD_BYTES;
use cloakroom_base::quota::{Reservation, RevocablePhase, fields_bytes};

/// The counters and flags of one connection.
#[derive(Debug)]
pub(crate) struct ConnectionActivity {
    /// The connection's reservation in the quota of connections. It may be revoked while the host does not work on any request of
    /// the connection.
    reservation: Reservation,
    /// The number of requests that the host is working on. It is below 0 for a moment when a request ends while it waits for its
    /// client.
    working: Mutex<isize>,
    pub(crate) reads: AtomicU64,
    /// The bytes that the socket has taken.
    pub(crate) written: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) in_flight: AtomicUsize,
    /// The value of `reads` when the latest response ended.
    pub(crate) reads_when_answered: AtomicU64,
    /// The socket did not accept bytes at the last write.
    pub(crate) is_blocked: AtomicBool,
    /// The memory of the heads and trailers that may be in hyper's buffers, in bytes.
    pub(crate) heads: AtomicU64,
    /// The client speaks HTTP/2, where a byte that arrives between requests need not belong to a head.
    pub(crate) is_multiplexed: AtomicBool,
    /// HTTP/2: the client is in the middle of a head, or of a frame other than DATA.
    pub(crate) is_amid_head: AtomicBool,
    /// HTTP/2: the number of these that have ended.
    pub(crate) heads_ended: AtomicU64,
    /// The next response must be the last one.
    is_last_response: AtomicBool,
}

impl ConnectionActivity {
    pub(crate) fn new(reservation: Reservation) -> Self {
        Self {
            reservation,
            working: Mutex::default(),
            reads: AtomicU64::default(),
            written: AtomicU64::default(),
            requests: AtomicU64::default(),
            in_flight: AtomicUsize::default(),
            reads_when_answered: AtomicU64::default(),
            is_blocked: AtomicBool::default(),
            heads: AtomicU64::default(),
            is_multiplexed: AtomicBool::default(),
            is_amid_head: AtomicBool::default(),
            heads_ended: AtomicU64::default(),
            is_last_response: AtomicBool::default(),
        }
    }

    /// Counts a request until the returned guard, which the response's body holds, is dropped.
    pub(crate) fn request(self: &Arc<Self>, version: Version, has_body: bool) -> InFlightRequest {
        self.requests.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        self.work(1);
        if version == Version::HTTP_2 {
            self.is_multiplexed.store(true, Relaxed);
        }
        InFlightRequest(ClientTurns {
            activity: Arc::clone(self),
            sides: has_body.then(Arc::default),
        })
    }

    /// Makes each response from now on tell the client to close the connection.
    pub(crate) fn announce_close(&self) {
        self.is_last_response.store(true, Relaxed);
    }

    /// Whether the client speaks HTTP/2.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.is_multiplexed.load(Relaxed)
    }

    /// Whether the running request of an HTTP/1 connection waits until the client takes bytes.
    pub(crate) fn is_stalled(&self) -> bool {
        !self.is_multiplexed() && self.is_blocked.load(Relaxed) && self.in_flight.load(Relaxed) > 0
    }

    /// Changes the number of requests that the host is working on.
    fn work(&self, change: isize) {
        let mut working = self.working.lock();
        let before = *working;
        *working += change;
        // A connection whose reservation is revoked is about to be cut.
        let _ = match (before > 0, *working > 0) {
            (false, true) => self.reservation.set_phase(RevocablePhase::Working),
            (true, false) => self.reservation.set_phase(RevocablePhase::WaitsForClient),
            _ => Ok(()),
        };
    }
}

/// The two sides on which a request may wait for its client.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum RequestSide {
    /// The client sends no bytes of the request's body.
    Arriving = 1,
    /// The client takes no bytes of the response's body.
    Leaving = 2,
}

/// Tracks whether one request waits for its client. The host does not work on a request while it waits.
#[derive(Clone, Debug)]
pub(crate) struct ClientTurns {
    activity: Arc<ConnectionActivity>,
    /// The sides on which the request waits. `None` for a request without a body, which can only wait on one side.
    sides: Option<Arc<AtomicU8>>,
}

impl ClientTurns {
    /// Marks this side as waiting for the client. Must not be called for a side that already waits.
    pub(crate) fn wait(&self, side: RequestSide) {
        let before = self
            .sides
            .as_ref()
            .map(|sides| sides.fetch_or(side as u8, AcqRel));
        if before.unwrap_or_default() == 0 {
            self.activity.work(-1);
        }
    }

    /// Marks this side as no longer waiting for the client.
    pub(crate) fn resume(&self, side: RequestSide) {
        let before = self
            .sides
            .as_ref()
            .map(|sides| sides.fetch_and(!(side as u8), AcqRel));
        if before.unwrap_or(side as u8) == side as u8 {
            self.activity.work(1);
        }
    }
}

/// The waiting state of one side. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct ClientTurn {
    turns: ClientTurns,
    side: RequestSide,
    is_clients: bool,
}

impl ClientTurn {
    pub(crate) fn new(turns: ClientTurns, side: RequestSide) -> Self {
        Self {
            turns,
            side,
            is_clients: false,
        }
    }

    /// Sets whether this side waits for the client.
    pub(crate) fn set(&mut self, is_clients: bool) {
        if is_clients && !self.is_clients {
            self.turns.wait(self.side);
        }
        if !is_clients && self.is_clients {
            self.turns.resume(self.side);
        }
        self.is_clients = is_clients;
    }
}

impl Drop for ClientTurn {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// A request whose response has not ended.
#[derive(Debug)]
pub(crate) struct InFlightRequest(ClientTurns);

impl InFlightRequest {
    /// Whether the response must tell the client to close the connection.
    pub(crate) fn is_last(&self) -> bool {
        self.0.activity.is_last_response.load(Relaxed)
    }

    /// Whether earlier responses still wait for the socket.
    pub(crate) fn is_behind_others(&self) -> bool {
        self.0.activity.is_blocked.load(Relaxed)
    }

    /// Counts a head or trailers that are about to be passed to hyper.
    pub(crate) fn count_head(&self, fields: &HeaderMap) {
        let bytes = fields_bytes(fields) + UNTAKEN_HEAD_BYTES;
        self.0.activity.heads.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn turns(&self) -> &ClientTurns {
        &self.0
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        let reads = activity.reads.load(Relaxed);
        activity.reads_when_answered.store(reads, Relaxed);
        activity.in_flight.fetch_sub(1, Relaxed);
        activity.work(-1);
    }
}

/// A socket that records its reads and writes.
#[derive(Debug)]
pub(crate) struct CountedStream<T> {
    inner: T,
    activity: Arc<ConnectionActivity>,
    frames: FrameParser,
}

impl<T> CountedStream<T> {
    pub(crate) fn new(inner: T, activity: Arc<ConnectionActivity>) -> Self {
        Self {
            inner,
            activity,
            frames: FrameParser::default(),
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        self.activity.reads.fetch_add(1, Relaxed);
        self.frames.read(bytes);
        if self.frames.is_http2() {
            self.activity.is_multiplexed.store(true, Relaxed);
            self.activity
                .is_amid_head
                .store(self.frames.is_amid_head(), Relaxed);
            self.activity
                .heads_ended
                .store(self.frames.heads_ended(), Relaxed);
        }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.is_blocked.store(result.is_pending(), Relaxed);
        if let Poll::Ready(Ok(bytes)) = result {
            self.activity.written.fetch_add(bytes as u64, Relaxed);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for CountedStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.read(&buf.filled()[before..]);
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CountedStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_base::quota::{QuotaResource, QuotaTotals, Quotas};

    /// Returns the pulse of a connection in quotas of its own, and a function that returns whether the connection may be revoked.
    fn fixture() -> (Arc<ConnectionActivity>, impl Fn() -> bool) {
        let quotas = Quotas::new(QuotaTotals::default());
        let reservation = quotas
            .peer([127, 0, 0, 1].into())
            .reserve(QuotaResource::Connections, 1);
        let reservation = reservation.unwrap();
        let activity = Arc::new(ConnectionActivity::new(reservation.clone()));
        let asked = reservation.clone();
        (activity, move || asked.waits())
    }

    #[test]
    fn a_connection_gives_way_while_all_its_requests_wait_for_their_client() {
        let (activity, gives_way) = fixture();
        let upload = activity.request(Version::HTTP_2, true);
        let download = activity.request(Version::HTTP_2, false);
        let mut arriving = ClientTurn::new(upload.turns().clone(), RequestSide::Arriving);
        let mut leaving = ClientTurn::new(upload.turns().clone(), RequestSide::Leaving);
        let mut taken = ClientTurn::new(download.turns().clone(), RequestSide::Leaving);

        for (a, l, t) in [
            (true, true, false),
            (true, false, false),
            (false, false, true),
        ] {
            arriving.set(a);
            leaving.set(l);
            taken.set(t);
            assert!(
                !gives_way(),
                "{a} {l} {t}: the host works for one of the two"
            );
        }
        leaving.set(true);
        assert!(gives_way());
        taken.set(false);
        assert!(!gives_way());

        drop(download);
        assert!(gives_way(), "the other still waits");
        drop((upload, arriving, leaving, taken));
        assert!(gives_way());
        let next = activity.request(Version::HTTP_2, false);
        assert!(!gives_way());
        drop(next);
        assert!(gives_way());
    }

    #[test]
    fn requests_and_their_client_turns_may_end_in_any_order() {
        let mut random = fastrand::Rng::with_seed(7);
        let (activity, gives_way) = fixture();
        for _ in 0..200 {
            let request = activity.request(Version::HTTP_11, true);
            let mut turns = [RequestSide::Arriving, RequestSide::Leaving]
                .map(|side| ClientTurn::new(request.turns().clone(), side));
            for _ in 0..10 {
                turns[random.usize(..2)].set(random.bool());
            }
            if random.bool() {
                drop(request);
                drop(turns);
            } else {
                drop(turns);
                assert!(!gives_way());
                drop(request);
            }
            assert!(gives_way());
            assert_eq!(*activity.working.lock(), 0);
        }
    }
}

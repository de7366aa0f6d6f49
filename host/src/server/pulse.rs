//! Whether a connection is alive: counts what passes through it, and says when its client has been slow or silent for too long.
//!
//! hyper has one timer for the head and for silence between requests, none for telling the protocol, none for HTTP/2 without
//! streams, and none for a client that takes no bytes. This is one for all of them, without a timer per request.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::TRANSFER_BYTES_PER_S_MIN;
use crate::quota::{Phase, Reservation};

/// What has happened on one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Its place among all connections, which it may lose while the host works for no request of it.
    place: Reservation,
    /// How many of its requests the host works for.
    working: Mutex<usize>,
    reads: AtomicU64,
    /// Bytes that the socket has taken.
    written: AtomicU64,
    requests: AtomicU64,
    in_flight: AtomicUsize,
    /// What `reads` was when the latest answer ended.
    reads_when_answered: AtomicU64,
    /// The socket took no more bytes when they were last offered.
    is_blocked: AtomicBool,
    /// HTTP/2: a byte that arrives between requests need not belong to a head.
    is_multiplexed: AtomicBool,
    /// The next answer is to be the last.
    is_farewell: AtomicBool,
}

impl Pulse {
    pub(super) fn new(place: Reservation) -> Self {
        Self {
            place,
            working: Mutex::default(),
            reads: AtomicU64::default(),
            written: AtomicU64::default(),
            requests: AtomicU64::default(),
            in_flight: AtomicUsize::default(),
            reads_when_answered: AtomicU64::default(),
            is_blocked: AtomicBool::default(),
            is_multiplexed: AtomicBool::default(),
            is_farewell: AtomicBool::default(),
        }
    }

    /// The host begins to work for a request, for the first time or again.
    fn begin_work(&self) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        *working += 1;
        if *working == 1 {
            // A connection that has lost its place is about to be cut, with this request.
            let _ = self.place.set_phase(Phase::Working);
        }
    }

    /// A request has ended, or it is its client's turn.
    fn end_work(&self) {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        *working -= 1;
        if *working == 0 {
            let _ = self.place.set_phase(Phase::WaitsForClient);
        }
    }

    /// Counts a request until the guard is dropped, with its answer's body.
    pub(super) fn request(self: &Arc<Self>, version: http::Version) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        self.begin_work();
        self.is_multiplexed
            .store(version == http::Version::HTTP_2, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Has the answers from now on tell the client to go.
    pub(super) fn say_farewell(&self) {
        self.is_farewell.store(true, Relaxed);
    }

    /// Whether its latest request came by HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.is_multiplexed.load(Relaxed)
    }
}

/// A request whose answer has not ended.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Pulse>);

impl InFlight {
    /// Whether its answer is to tell the client to go.
    pub(super) fn is_last(&self) -> bool {
        self.0.is_farewell.load(Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0
            .reads_when_answered
            .store(self.0.reads.load(Relaxed), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.end_work();
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Diagnosis {
    /// Go on.
    Alive,
    /// Nobody uses it: close it when what is buffered has left.
    Idle,
    /// The client sends its head, or takes its answer, too slowly: close it now.
    Stuck,
}

/// Looks at a pulse now and then and remembers since when it has not moved.
#[derive(Debug)]
pub(super) struct Watch {
    header_timeout: Duration,
    idle_timeout: Duration,
    moved_at: Instant,
    seen: (u64, u64),
    head_since: Option<Instant>,
}

impl Watch {
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration, now: Instant) -> Self {
        Self {
            header_timeout,
            idle_timeout,
            moved_at: now,
            seen: (0, 0),
            head_since: None,
        }
    }

    /// How often to look: often enough that a limit is overstepped by a quarter at most, or by a second.
    pub(super) fn interval(&self) -> Duration {
        let shortest = self.header_timeout.min(self.idle_timeout);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    pub(super) fn look(&mut self, pulse: &Pulse, now: Instant) -> Diagnosis {
        let (requests, written) = (pulse.requests.load(Relaxed), pulse.written.load(Relaxed));
        let enough = now.duration_since(self.moved_at).as_secs() * TRANSFER_BYTES_PER_S_MIN;
        // Bytes one by one are no movement; but whatever little we had to say is taken for it.
        let is_taken = written > self.seen.1
            && (written - self.seen.1 >= enough || !pulse.is_blocked.load(Relaxed));
        if requests != self.seen.0 || is_taken {
            (self.seen, self.moved_at, self.head_since) = ((requests, written), now, None);
            return Diagnosis::Alive;
        }
        if pulse.in_flight.load(Relaxed) > 0 {
            if !pulse.is_blocked.load(Relaxed) {
                // We are the slow ones, which the request's deadline judges.
                self.moved_at = now;
            } else if now.duration_since(self.moved_at) >= self.idle_timeout {
                return Diagnosis::Stuck;
            }
            return Diagnosis::Alive;
        }
        let reads = pulse.reads.load(Relaxed);
        let has_part_of_a_head = reads > pulse.reads_when_answered.load(Relaxed);
        if has_part_of_a_head && !pulse.is_multiplexed.load(Relaxed) {
            let since = *self.head_since.get_or_insert(now);
            if now.duration_since(since) >= self.header_timeout {
                return Diagnosis::Stuck;
            }
        }
        if now.duration_since(self.moved_at) >= self.idle_timeout {
            return Diagnosis::Idle;
        }
        Diagnosis::Alive
    }
}

/// A connection's bytes, counted.
#[derive(Debug)]
pub(super) struct Counted<T> {
    inner: T,
    pulse: Arc<Pulse>,
}

impl<T> Counted<T> {
    pub(super) fn new(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.is_blocked.store(result.is_pending(), Relaxed);
        if let Poll::Ready(Ok(bytes)) = result {
            self.pulse.written.fetch_add(bytes as u64, Relaxed);
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.pulse.reads.fetch_add(1, Relaxed);
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
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

/// An answer's body that keeps its request in flight until it is dropped.
#[derive(Debug)]
pub(super) struct Answering<B> {
    body: B,
    _in_flight: InFlight,
}

impl<B> Answering<B> {
    pub(super) fn new(body: B, in_flight: InFlight) -> Self {
        Self {
            body,
            _in_flight: in_flight,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Quotas, Resource, Totals};

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    struct Bench {
        pulse: Arc<Pulse>,
        watch: Watch,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            let quotas = Quotas::new(Totals::default());
            let peer = quotas.peer([127, 0, 0, 1].into());
            let place = peer.reserve(Resource::Connections, 1).unwrap();
            Self {
                pulse: Arc::new(Pulse::new(place)),
                watch: Watch::new(HEADER, IDLE, start),
                start,
            }
        }

        fn at(&mut self, seconds: u64) -> Diagnosis {
            self.watch
                .look(&self.pulse, self.start + Duration::from_secs(seconds))
        }

        fn read(&self) {
            self.pulse.reads.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_connection_that_says_nothing_is_closed_as_idle() {
        let mut bench = Bench::new();
        assert_eq!(bench.at(74), Diagnosis::Alive);
        assert_eq!(bench.at(75), Diagnosis::Idle);
    }

    #[test]
    fn a_head_that_dribbles_in_is_cut_however_many_bytes_come() {
        let mut bench = Bench::new();
        for second in 1..=10 {
            bench.read();
            assert_eq!(bench.at(second), Diagnosis::Alive);
        }
        bench.read();
        assert_eq!(bench.at(11), Diagnosis::Stuck);
    }

    #[test]
    fn a_second_head_that_dribbles_in_is_cut_as_well() {
        let mut bench = Bench::new();
        bench.read();
        drop(bench.pulse.request(http::Version::HTTP_11));
        assert_eq!(bench.at(1), Diagnosis::Alive);
        assert_eq!(bench.at(30), Diagnosis::Alive);
        bench.read();
        assert_eq!(bench.at(31), Diagnosis::Alive);
        assert_eq!(bench.at(41), Diagnosis::Stuck);
    }

    #[test]
    fn http2_frames_between_requests_are_no_head() {
        let mut bench = Bench::new();
        bench.read();
        drop(bench.pulse.request(http::Version::HTTP_2));
        assert_eq!(bench.at(1), Diagnosis::Alive);
        bench.read();
        assert_eq!(bench.at(2), Diagnosis::Alive);
        assert_eq!(bench.at(20), Diagnosis::Alive);
        assert_eq!(bench.at(76), Diagnosis::Idle);
    }

    #[test]
    fn a_slow_guest_is_not_the_clients_fault() {
        let mut bench = Bench::new();
        bench.read();
        let request = bench.pulse.request(http::Version::HTTP_11);
        assert_eq!(bench.at(1), Diagnosis::Alive);
        assert_eq!(bench.at(500), Diagnosis::Alive);
        drop(request);
        assert_eq!(bench.at(501), Diagnosis::Alive);
        assert_eq!(bench.at(575), Diagnosis::Idle);
    }

    #[test]
    fn a_client_that_takes_no_bytes_is_cut() {
        let mut bench = Bench::new();
        let _request = bench.pulse.request(http::Version::HTTP_11);
        assert_eq!(bench.at(1), Diagnosis::Alive);
        bench.pulse.is_blocked.store(true, Relaxed);
        assert_eq!(bench.at(75), Diagnosis::Alive);
        assert_eq!(bench.at(76), Diagnosis::Stuck);
    }

    #[test]
    fn a_client_that_takes_bytes_one_by_one_is_cut() {
        let mut bench = Bench::new();
        let _request = bench.pulse.request(http::Version::HTTP_11);
        assert_eq!(bench.at(1), Diagnosis::Alive);
        bench.pulse.is_blocked.store(true, Relaxed);
        for second in 2..76 {
            bench.pulse.written.fetch_add(1, Relaxed);
            assert_eq!(bench.at(second), Diagnosis::Alive);
        }
        bench.pulse.written.fetch_add(1, Relaxed);
        assert_eq!(bench.at(76), Diagnosis::Stuck);
    }

    #[test]
    fn a_client_that_takes_enough_may_take_its_time() {
        let mut bench = Bench::new();
        let _request = bench.pulse.request(http::Version::HTTP_11);
        assert_eq!(bench.at(1), Diagnosis::Alive);
        bench.pulse.is_blocked.store(true, Relaxed);
        for second in 2..500 {
            bench
                .pulse
                .written
                .fetch_add(TRANSFER_BYTES_PER_S_MIN, Relaxed);
            assert_eq!(bench.at(second), Diagnosis::Alive);
        }
    }
}

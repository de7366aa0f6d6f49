//! The front of the house: accepts connections, limits them, serves HTTP/1.1 and HTTP/2 on them, and stops gracefully.
//!
//! Knows connections and bytes; what answers a request is handed in, and what a request means is not known here.

mod connection;
mod date;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod heads;
mod joined;
mod pace;
mod pulse;
mod watch;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::limits;
use crate::quota::{Full, Outbox, Peer, Phase, Reservation, Resource, Untaken};
use connection::Protocols;
use pace::arriving::Arriving;

pub use pace::arriving::BodyPace;

/// The body of a request, as it comes from the connection.
pub type Incoming = Arriving<joined::Joined<hyper::body::Incoming>>;

/// What a listener allows its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest time for a request's head to arrive, or for the bytes that tell the protocol.
    pub header_timeout: Duration,
    /// Longest time without a request, and longest time a client may leave an answer's bytes untaken.
    pub idle_timeout: Duration,
    /// How fast the body of a request has to come.
    pub body_pace: BodyPace,
    /// Longest time for requests under way to finish once told to stop.
    pub grace: Duration,
    /// Largest request head, in bytes; at least 8,192.
    pub head_bytes_max: usize,
    /// Most header fields of a request.
    pub headers_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            header_timeout: limits::HEADER_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            body_pace: BodyPace {
                grace: limits::BODY_TIMEOUT,
                bytes_per_s: limits::BODY_BYTES_PER_S_MIN,
            },
            grace: limits::GRACE,
            head_bytes_max: limits::REQUEST_HEAD_BYTES_MAX,
            headers_max: limits::REQUEST_HEADERS_MAX,
        }
    }
}

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Who is on the other side: a client, or a proxy in front.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The other side's part in the quotas.
    pub share: Peer,
    /// What its client has not taken of its answers, where they are several at a time.
    pub outbox: Arc<Outbox>,
}

/// How many connections a listener has, for whoever watches it.
#[derive(Debug, Default)]
pub struct ConnectionCount {
    open: AtomicUsize,
    accepted: AtomicU64,
}

impl ConnectionCount {
    /// Those that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// All since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }
}

/// Counts a connection out when it ends, however it ends.
struct OpenConnection(Arc<ConnectionCount>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What answers requests. Its future is dropped when the client goes away: work that must not be is its own task's.
pub trait Service: Clone + Send + Sync + 'static {
    /// The body of an answer; an error cuts the connection (HTTP/1.1) or resets the stream (HTTP/2), never ends it cleanly.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Untaken
        + Send
        + 'static;

    /// The clock that answers are dated by.
    fn clock(&self) -> Clock {
        Clock::system()
    }

    /// The part that a connection from this address has in the quotas. The service says who is exempt.
    fn share(&self, address: IpAddr) -> Peer;

    /// Answers one request.
    fn answer(
        &self,
        request: Request<Incoming>,
        link: Link,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

/// Serves `listener` until `shutdown` is cancelled; then tells clients to go with the next answer they are given, takes no
/// further connection after half a second or when none is left, and returns when all have ended or after
/// [`Options::grace`], when the rest is cut. `count` says how many there are meanwhile.
pub async fn run<S: Service>(
    listener: TcpListener,
    service: S,
    options: Options,
    count: Arc<ConnectionCount>,
    shutdown: CancellationToken,
) {
    let protocols = Arc::new(Protocols::new(&options));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut backoff = Backoff::default();
    // Clients that are about to connect when the end comes are answered, and told to go, as those that are connected.
    let mut closing = pin!(async {
        shutdown.cancelled().await;
        connections.close();
        let _ = tokio::time::timeout(limits::FAREWELL, connections.wait()).await;
    });

    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closing => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                backoff.after(&error).await;
                continue;
            }
        };
        backoff = Backoff::default();
        let share = service.share(peer.ip());
        // The clients behind this one wait in the system's queue instead of in our memory.
        let place = tokio::select! {
            biased;
            () = &mut closing => break,
            place = place(&share, limits::CONNECTION_WAIT_MAX) => place,
        };
        let Ok(place) = place else {
            tracing::debug!(%peer, "connection closed: none could give way to it");
            continue;
        };
        let Ok((stream, link)) = open(stream, peer, share) else {
            continue;
        };
        let ends = connection::Ends {
            shutdown: shutdown.clone(),
            cut: cut.clone(),
        };
        let (protocols, service) = (Arc::clone(&protocols), service.clone());
        let open = count.enter();
        connections.spawn(async move {
            protocols.serve(stream, link, service, place, ends).await;
            drop(open);
        });
    }

    drop(listener);
    tracing::info!(
        connections = connections.len(),
        "stopping: no further connections"
    );
    if tokio::time::timeout(options.grace, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "the grace period is over: cutting what is left"
        );
        cut.cancel();
        connections.wait().await;
    }
}

/// A place for a connection. A client without one waits for it, no longer than `patience`.
///
/// # Errors
/// [`Full`]
async fn place(share: &Peer, patience: Duration) -> Result<Reservation, Full> {
    let until = Instant::now() + patience;
    let mut place = share.reserve(Resource::Connections, 1);
    // Everything that may give way at all gives way to a client that holds none: while that one finds nothing, all clients behind
    // it would find nothing either. To a client that holds some only a part gives way: those behind it must not wait for that.
    while place.is_err() && !share.holds_any(Resource::Connections) && Instant::now() < until {
        // A connection may give way as soon as it has no request under way, of which nothing tells.
        tokio::time::sleep(limits::CONNECTION_RETRY).await;
        place = share.reserve_again(Resource::Connections, 1);
    }
    let place = place?;
    // Until its first request it may give way to another connection.
    let _ = place.set_phase(Phase::WaitsForClient);
    Ok(place)
}

fn open(stream: TcpStream, peer: SocketAddr, share: Peer) -> io::Result<(TcpStream, Link)> {
    // Answers leave when they are written: with Nagle's algorithm a second small write waits for the peer's delayed
    // acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let outbox = Outbox::new(limits::UNTAKEN_CONNECTION_BYTES_MAX);
    let link = Link {
        peer,
        local,
        share,
        outbox,
    };
    Ok((stream, link))
}

/// Waits after an accept error, so that running out of file descriptors is neither the end of the server nor a busy loop.
#[derive(Default)]
struct Backoff {
    wait: Duration,
}

impl Backoff {
    async fn after(&mut self, error: &io::Error) {
        let is_the_clients = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if is_the_clients {
            return;
        }
        tracing::error!(%error, "accepting a connection failed; the server goes on");
        self.wait = (self.wait * 2).clamp(limits::ACCEPT_BACKOFF_MIN, limits::ACCEPT_BACKOFF_MAX);
        tokio::time::sleep(self.wait).await;
    }
}

#[cfg(test)]
mod tests;

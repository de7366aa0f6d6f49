//! The front of the house: accepts connections, limits them, serves HTTP/1.1 and HTTP/2 on them, and stops gracefully.
//!
//! Knows connections and bytes; what answers a request is handed in, and what a request means is not known here.

mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod pace;
mod pulse;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;
use connection::Protocols;

/// The body of a request, as it comes from the connection.
pub type Incoming = pace::Arriving<hyper::body::Incoming>;

/// What a listener allows its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections at once; further ones wait in the system's queue.
    pub connections_max: usize,
    /// Longest time for a request's head to arrive, or for the bytes that tell the protocol.
    pub header_timeout: Duration,
    /// Longest time without a request, and longest time a client may leave an answer's bytes untaken.
    pub idle_timeout: Duration,
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
            connections_max: limits::CONNECTIONS_MAX,
            header_timeout: limits::HEADER_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            grace: limits::GRACE,
            head_bytes_max: limits::REQUEST_HEAD_BYTES_MAX,
            headers_max: limits::REQUEST_HEADERS_MAX,
        }
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who is on the other side: a client, or a proxy in front.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
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
        + Send
        + 'static;

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
    let permits = Arc::new(Semaphore::new(options.connections_max));
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
        // The permit first: over the limit, clients wait in the system's queue instead of in our memory.
        let accepted = tokio::select! {
            biased;
            () = &mut closing => break,
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, link) = match accepted {
            (permit, Ok((stream, peer))) => (permit, open(stream, peer)),
            (_, Err(error)) => {
                backoff.after(&error).await;
                continue;
            }
        };
        backoff = Backoff::default();
        let Ok((stream, link)) = link else { continue };
        let ends = connection::Ends {
            shutdown: shutdown.clone(),
            cut: cut.clone(),
        };
        let (protocols, service) = (Arc::clone(&protocols), service.clone());
        let open = count.enter();
        connections.spawn(async move {
            protocols.serve(stream, link, service, ends).await;
            drop((permit, open));
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

fn open(stream: TcpStream, peer: SocketAddr) -> io::Result<(TcpStream, Link)> {
    // Answers leave when they are written: with Nagle's algorithm a second small write waits for the peer's delayed
    // acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream, Link { peer, local }))
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

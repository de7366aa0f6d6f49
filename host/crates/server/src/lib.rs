//! The HTTP server: accepts connections, limits them, serves HTTP/1.1 and HTTP/2 on them, and shuts down gracefully.
//!
//! This module handles connections and bytes. A [`Service`] answers the requests, and this module does not interpret them.

mod activity;
mod connection;
mod date;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod heads;
mod incoming;
mod outgoing;
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

use cloakroom_base::clock::Clock;
use cloakroom_base::limits;
use cloakroom_base::quota::{
    ConnectionOutbox, QuotaFull, QuotaPeer, QuotaResource, Reservation, RevocablePhase, UntakenBody,
};
use connection::HttpProtocols;

pub use incoming::IncomingBody;
pub use incoming::pace::BodyPace;

cloakroom_base::options! {
    /// The limits of a listener.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ServerOptions {
        /// The longest time for a request's head to arrive, or for the first bytes, which identify the protocol.
        pub header_timeout: Duration = limits::HEADER_TIMEOUT,
        /// The longest time without a request, and the longest time that a client may leave a response's bytes untaken.
        pub idle_timeout: Duration = limits::IDLE_TIMEOUT,
        /// The minimum speed of a request's body.
        pub body_pace: BodyPace = BodyPace {
            grace: limits::BODY_TIMEOUT,
            bytes_per_s: limits::BODY_BYTES_PER_S_MIN,
        },
        /// The longest time that running requests may take to finish after the shutdown has started.
        pub grace: Duration = limits::GRACE,
        /// The largest request head, in bytes. At least 8,192.
        pub head_bytes_max: usize = limits::REQUEST_HEAD_BYTES_MAX,
        /// The largest number of header fields in a request.
        pub headers_max: usize = limits::REQUEST_HEADERS_MAX,
    }
}

/// The addresses and the quota state of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionEnds {
    /// The address of the peer: a client, or a proxy in front of it.
    pub peer: SocketAddr,
    /// The local address that the peer connected to.
    pub local: SocketAddr,
    /// The peer in the quotas.
    pub share: QuotaPeer,
    /// The response bytes that the client has not taken yet. Used when a connection has several responses at a time.
    pub outbox: Arc<ConnectionOutbox>,
}

/// The number of connections of a listener, for metrics and reports.
#[derive(Debug, Default)]
pub struct ConnectionCount {
    open: AtomicUsize,
    accepted: AtomicU64,
}

impl ConnectionCount {
    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the number of connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }
}

/// Decrements the number of open connections when the connection ends, for whatever reason.
struct OpenConnection(Arc<ConnectionCount>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a request that a [`Service`] answers: an [`IncomingBody`], or the body of a request that no connection brought.
pub trait RequestBody:
    Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin
{
}

impl<B> RequestBody for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin
{
}

/// A service that answers requests. The future of an answer is dropped when the client goes away, so work that must not be
/// cancelled has to run in its own task.
pub trait Service: Send + Sync + 'static {
    /// The body of a response. An error cuts the connection (HTTP/1.1) or resets the stream (HTTP/2), so that the client never
    /// mistakes the body for complete.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + UntakenBody
        + Send
        + 'static;

    /// Returns the clock for the `Date` of responses.
    fn clock(&self) -> Clock {
        Clock::system()
    }

    /// Returns the quota peer of a connection from this address. The service decides which addresses are exempt.
    fn share(&self, address: IpAddr) -> QuotaPeer;

    /// Answers one request.
    fn answer<B: RequestBody + 'static>(
        self: Arc<Self>,
        request: Request<B>,
        ends: ConnectionEnds,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

/// Serves `listener` until `shutdown` is cancelled.
///
/// During shutdown, the server asks clients to close their connections: with the next response on HTTP/1.1, immediately on HTTP/2.
/// The listener accepts connections for another half second, or until no connection is left. The function returns when all
/// connections have ended, or cuts the remaining ones after [`ServerOptions::grace`]. `count` receives the number of connections.
pub async fn run<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    options: ServerOptions,
    count: Arc<ConnectionCount>,
    shutdown: CancellationToken,
) {
    let protocols = Arc::new(HttpProtocols::new(&options));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let mut backoff = AcceptBackoff::default();
    // Clients that connect just as the shutdown starts are treated like connected clients: they are answered and asked to close
    // their connections.
    let mut closing = pin!(async {
        shutdown.cancelled().await;
        connections.close();
        let _ = tokio::time::timeout(limits::LAST_RESPONSE_WAIT, connections.wait()).await;
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
        backoff = AcceptBackoff::default();
        let share = service.share(peer.ip());
        // While this loop waits, further clients wait in the system's accept queue instead of in the host's memory.
        let reservation = tokio::select! {
            biased;
            () = &mut closing => break,
            reservation = reserve_connection(&share, limits::CONNECTION_WAIT_MAX) => reservation,
        };
        let Ok(reservation) = reservation else {
            tracing::debug!(%peer, "connection closed: no other connection could be closed to make room for it");
            continue;
        };
        let Ok((stream, link)) = open(stream, peer, share) else {
            continue;
        };
        let ends = connection::CloseSignals {
            shutdown: shutdown.clone(),
            cut: cut.clone(),
        };
        let (protocols, service) = (Arc::clone(&protocols), Arc::clone(&service));
        let open = count.enter();
        connections.spawn(async move {
            protocols
                .serve(stream, link, service, reservation, ends)
                .await;
            drop(open);
        });
    }

    drop(listener);
    tracing::info!(
        connections = connections.len(),
        "stopping: no further connections"
    );
    drain(&connections, &cut, options.grace).await;
}

/// Waits until all connections have ended, and cuts those that are left after `grace`.
async fn drain(connections: &TaskTracker, cut: &CancellationToken, grace: Duration) {
    if tokio::time::timeout(grace, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "the grace period is over: cutting the remaining connections"
        );
        cut.cancel();
        connections.wait().await;
    }
}

/// Reserves a connection. A client that holds no connection waits for the reservation for at most `patience`.
///
/// # Errors
/// [`QuotaFull`]
async fn reserve_connection(
    share: &QuotaPeer,
    patience: Duration,
) -> Result<Reservation, QuotaFull> {
    let until = Instant::now() + patience;
    let mut reservation = share.reserve(QuotaResource::Connections, 1);
    // For a client that holds no connection, every revocable connection may be revoked. If none is found, the clients behind it
    // in the queue would find none either, so waiting does not delay them. For a client that already holds connections, only some
    // may be revoked, and the clients behind it must not wait for that.
    while reservation.is_err()
        && !share.holds_any(QuotaResource::Connections)
        && Instant::now() < until
    {
        // A connection may become revocable when its last running request ends, and no event reports that.
        tokio::time::sleep(limits::CONNECTION_RETRY).await;
        reservation = share.reserve_again(QuotaResource::Connections, 1);
    }
    let reservation = reservation?;
    // Until its first request, the connection may be revoked in favor of another one.
    let _ = reservation.set_phase(RevocablePhase::WaitsForClient);
    Ok(reservation)
}

fn open(
    stream: TcpStream,
    peer: SocketAddr,
    share: QuotaPeer,
) -> io::Result<(TcpStream, ConnectionEnds)> {
    // Send each response as soon as it is written. With Nagle's algorithm, a second small write would wait for the peer's delayed
    // acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let outbox = ConnectionOutbox::new(limits::UNTAKEN_CONNECTION_BYTES_MAX);
    let link = ConnectionEnds {
        peer,
        local,
        share,
        outbox,
    };
    Ok((stream, link))
}

/// The wait after an accept error. It keeps the server alive without a busy loop when file descriptors run out.
#[derive(Default)]
struct AcceptBackoff {
    wait: Duration,
}

impl AcceptBackoff {
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
        tracing::error!(%error, "accepting a connection failed; the server continues");
        self.wait = (self.wait * 2).clamp(limits::ACCEPT_BACKOFF_MIN, limits::ACCEPT_BACKOFF_MAX);
        tokio::time::sleep(self.wait).await;
    }
}

#[cfg(test)]
mod tests;

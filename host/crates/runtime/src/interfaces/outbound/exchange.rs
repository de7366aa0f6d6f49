//! One request and its response on a connection of the pool. A request of which any byte may have been sent is never
//! sent again, so an outside effect happens at most once.
//!
//! This holds for every method. A request that meets a connection which its server has just closed is an error in the guest. Idle
//! connections are closed after 4 s, before common servers close them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::connect::{self, OutboundConnectError};
use super::connection::OutboundConnection;
use super::grant::Destination;
use super::pool::{Acquired, GuestPool, PoolFull};
use crate::engine::memory_tally::{MemoryCharge, MemoryRefused, MemoryTally};
use crate::interfaces::fields::fields_size;
use cloakroom_base::quota::ClientConnection;

/// The time limits of the parts of an exchange.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeTimeouts {
    /// Wait for an idle connection, or for the right to open one. It is part of `connect`.
    pub(crate) wait: Duration,
    /// From the call until a connection is ready, including the name look-up and all handshakes.
    pub(crate) connect: Duration,
    /// From a ready connection until the head of the response.
    pub(crate) first_byte: Duration,
    /// Between two pieces of the response's body, while the guest waits for one.
    pub(crate) between_bytes: Duration,
    /// After the response, until the connection can serve again. During this time the rest of the request's body is
    /// sent.
    pub(crate) rest: Duration,
}

/// Error returned when there is no response.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// No connection was free in time.
    Full,
    /// No connection could be opened.
    Connect(OutboundConnectError),
    /// The connection failed.
    Failed(Error),
}

impl From<MemoryRefused> for ExchangeError {
    fn from(refused: MemoryRefused) -> Self {
        Self::Failed(Error::InternalError(Some(refused.to_string())))
    }
}

/// Receives the outcome of the connection after the response was read or dropped.
pub(crate) type Ended = oneshot::Receiver<Result<(), Error>>;

/// Sends a request and waits for the head of its response. `source` is the client for which the guest calls. `tally`
/// counts both heads: the request's until the response arrives, the response's until its body is dropped.
pub(crate) async fn exchange(
    pool: Arc<GuestPool>,
    source: ClientConnection,
    destination: Destination,
    tally: &MemoryTally,
    mut request: Request<WasiBody>,
    timeouts: ExchangeTimeouts,
) -> Result<(Response<WasiBody>, Ended), ExchangeError> {
    let now = Instant::now();
    let until = now + timeouts.connect;
    let wait_until = until.min(now + timeouts.wait);
    to_origin_form(&mut request, &destination);
    let _charge = tally.charge(fields_size(request.headers()))?;
    loop {
        let way = pool.way(source, &destination, wait_until).await;
        let (mut connection, is_new) = match way.map_err(|PoolFull| ExchangeError::Full)? {
            Acquired::Reused(connection) => (connection, false),
            Acquired::Open(permit) => {
                let opened = connect::open(&pool, source, &destination, permit, until).await;
                (opened.map_err(ExchangeError::Connect)?, true)
            }
        };
        let answered = connection.sender.try_send_request(request);
        let answered = tokio::time::timeout(timeouts.first_byte, answered).await;
        let late = |_| ExchangeError::Failed(Error::ConnectionReadTimeout);
        match answered.map_err(late)? {
            Ok(response) => {
                let charge = tally.charge(fields_size(response.headers()))?;
                let (ended, end) = oneshot::channel();
                let held = HeldConnection {
                    connection,
                    pool,
                    destination,
                    rest: timeouts.rest,
                    runtime: Handle::current(),
                    ended,
                };
                let answer = |incoming| {
                    OutboundBody::new(incoming, held, charge, timeouts.between_bytes).boxed_unsync()
                };
                return Ok((response.map(answer), end));
            }
            Err(mut failed) => match failed.take_message() {
                // The server closed this reused connection before any of the request was written, so try another one.
                Some(unsent) if !is_new => request = unsent,
                Some(_) | None => return Err(ExchangeError::Failed(failed.into_error().into())),
            },
        }
    }
}

/// Reduces the URI to the path, as servers expect, and sets `Host` to the host in its granted form.
fn to_origin_form(request: &mut Request<WasiBody>, destination: &Destination) {
    let mut host = destination.host.to_string();
    let authority = request.uri().authority();
    if let Some(port) = authority.and_then(http::uri::Authority::port) {
        host = format!("{host}:{port}");
    }
    if let Ok(host) = HeaderValue::try_from(host) {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
}

/// A connection in use, and the pool that it returns to.
struct HeldConnection {
    connection: OutboundConnection,
    pool: Arc<GuestPool>,
    destination: Destination,
    rest: Duration,
    runtime: Handle,
    ended: oneshot::Sender<Result<(), Error>>,
}

impl HeldConnection {
    /// Returns the connection to the pool once it can serve again, or closes it if it cannot.
    fn give_back(self) {
        let Self {
            mut connection,
            pool,
            destination,
            rest,
            runtime,
            ended,
        } = self;
        runtime.spawn(async move {
            let outcome = match tokio::time::timeout(rest, connection.again()).await {
                Ok(Ok(())) => {
                    let _ = ended.send(Ok(()));
                    return pool.put(&destination, connection).await;
                }
                Ok(Err(None)) => Ok(()),
                Ok(Err(Some(error))) => Err(error),
                Err(_elapsed) => Err(Error::ConnectionWriteTimeout),
            };
            drop(connection);
            let _ = ended.send(outcome);
        });
    }
}

/// The body of a response. Its connection returns to the pool at the end of the body. If the body is dropped earlier,
/// it is closed unless the rest has already arrived.
struct OutboundBody {
    incoming: Incoming,
    /// `None` once the connection was given back or closed.
    held: Option<HeldConnection>,
    _charge: MemoryCharge,
    between_bytes: Duration,
    /// `None` until the guest first waits.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl OutboundBody {
    fn new(
        incoming: Incoming,
        held: HeldConnection,
        charge: MemoryCharge,
        between_bytes: Duration,
    ) -> Self {
        let mut answer = Self {
            incoming,
            held: Some(held),
            _charge: charge,
            between_bytes,
            timer: None,
            is_waiting: false,
        };
        answer.give_back_at_end();
        answer
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(held) = self.held.take()
        {
            held.give_back();
        }
    }

    /// Waits for the time limit of the next piece.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = Instant::now() + self.between_bytes;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }
}

/// The rest of the body is not wanted. If it has already arrived, the connection can serve again. Otherwise it is
/// closed.
impl Drop for OutboundBody {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.give_back();
        }
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let answer = self.get_mut();
        let frame = match Pin::new(&mut answer.incoming).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) if error.is_timeout() => {
                Some(Err(Error::HttpResponseTimeout))
            }
            Poll::Ready(Some(Err(error))) => Some(Err(error.into())),
            Poll::Ready(Some(Ok(frame))) => Some(Ok(frame)),
            Poll::Ready(None) => None,
            Poll::Pending => {
                std::task::ready!(answer.poll_timer(cx));
                Some(Err(Error::ConnectionReadTimeout))
            }
        };
        answer.is_waiting = false;
        match &frame {
            Some(Ok(_)) => answer.give_back_at_end(),
            None => {
                if let Some(held) = answer.held.take() {
                    held.give_back();
                }
            }
            // Close the connection.
            Some(Err(_)) => answer.held = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

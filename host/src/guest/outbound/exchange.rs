//! One request and its answer on a connection of the pool. A request of which a byte may have been sent is never sent again: an
//! effect on the outside happens once or not at all.

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

use super::connect::{ConnectError, Connection};
use super::grant::Destination;
use super::pool::{Full, GuestPool, Way};
use crate::guest::http_types::fields_size;
use crate::guest::tally::{Charge, Refused, Tally};
use crate::quota::Source;

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a connection that is free, or for the right to open one. A part of the next.
    pub(super) wait: Duration,
    /// From the call to a connection, the look-up of the name and all handshakes included.
    pub(super) connect: Duration,
    /// From there to the head of the answer.
    pub(super) first_byte: Duration,
    /// Between two pieces of the answer's body, while the guest waits for one.
    pub(super) between_bytes: Duration,
    /// After the answer, until its connection can serve again: what is left of the request's body is sent.
    pub(super) rest: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// No connection was free in time.
    Full,
    /// There is no connection.
    Connect(ConnectError),
    /// The connection failed.
    Failed(Error),
}

impl From<Refused> for ExchangeError {
    fn from(refused: Refused) -> Self {
        Self::Failed(Error::InternalError(Some(refused.to_string())))
    }
}

/// Ready with what became of the connection once the answer was read or given up.
pub(super) type Ended = oneshot::Receiver<Result<(), Error>>;

/// Sends a request and waits for the head of its answer. `source` is the client that the guest calls for, `tally` the sum that
/// counts both heads: the request's until the answer arrives, the answer's as long as its body is there.
pub(super) async fn exchange(
    pool: Arc<GuestPool>,
    source: Source,
    destination: Destination,
    tally: &Tally,
    mut request: Request<WasiBody>,
    patience: Patience,
) -> Result<(Response<WasiBody>, Ended), ExchangeError> {
    let now = Instant::now();
    let until = now + patience.connect;
    let wait_until = until.min(now + patience.wait);
    to_origin_form(&mut request, &destination);
    let _charge = tally.charge(fields_size(request.headers()))?;
    loop {
        let way = pool.way(source, &destination, wait_until).await;
        let (mut connection, is_new) = match way.map_err(|Full| ExchangeError::Full)? {
            Way::Kept(connection) => (connection, false),
            Way::Open(permit) => {
                let opened = Connection::open(&pool, source, &destination, permit, until).await;
                (opened.map_err(ExchangeError::Connect)?, true)
            }
        };
        let answered = connection.sender.try_send_request(request);
        let answered = tokio::time::timeout(patience.first_byte, answered).await;
        let late = |_| ExchangeError::Failed(Error::ConnectionReadTimeout);
        match answered.map_err(late)? {
            Ok(response) => {
                let charge = tally.charge(fields_size(response.headers()))?;
                let (ended, end) = oneshot::channel();
                let held = Held {
                    connection,
                    pool,
                    destination,
                    rest: patience.rest,
                    runtime: Handle::current(),
                    ended,
                };
                let answer = |incoming| {
                    Answer::new(incoming, held, charge, patience.between_bytes).boxed_unsync()
                };
                return Ok((response.map(answer), end));
            }
            Err(mut failed) => match failed.take_message() {
                // The server had closed this one before any of the request was written.
                Some(unsent) if !is_new => request = unsent,
                Some(_) | None => return Err(ExchangeError::Failed(failed.into_error().into())),
            },
        }
    }
}

/// A server wants the path alone, and its own name in the form that was granted.
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

/// A connection that is in use, and where it goes when it is not any more.
struct Held {
    connection: Connection,
    pool: Arc<GuestPool>,
    destination: Destination,
    rest: Duration,
    runtime: Handle,
    ended: oneshot::Sender<Result<(), Error>>,
}

impl Held {
    /// Gives the connection back once it can serve again; ends it where it cannot.
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

/// The body of an answer. Its connection goes back when it has ended, and is closed when it is given up.
struct Answer {
    incoming: Incoming,
    /// None once it was given back.
    held: Option<Held>,
    _charge: Charge,
    between_bytes: Duration,
    /// None while the guest does not wait.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Answer {
    fn new(incoming: Incoming, held: Held, charge: Charge, between_bytes: Duration) -> Self {
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

    /// Waits for the next piece, no longer than it may take.
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

/// What is left of the body is not wanted. Where it has arrived, the connection can serve again; else it is closed.
impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.give_back();
        }
    }
}

impl Body for Answer {
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
            // Closed.
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

//! One connection: detects HTTP/1.1 or HTTP/2, serves requests until either side ends the connection, and shuts down gracefully
//! on request.
//!
//! This module sets each of hyper's limits explicitly and does not rely on hyper's defaults.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{CONNECTION, DATE};
use http::{HeaderValue, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::activity::{ClientTurn, ConnectionActivity, CountedStream, RequestSide};
use super::date::date;
use super::heads::HeadCharges;
use super::incoming::IncomingBody;
use super::incoming::pace::BodyPace;
use super::outgoing::{BodyPatienceTimer, OutgoingBody, SendingResponse, StreamRunner};
use super::watch::{ActivityWatch, Diagnosis};
use super::{ConnectionEnds, ServerOptions, Service};
use cloakroom_base::limits;
use cloakroom_base::quota::Reservation;

/// The signals that end a connection.
#[derive(Clone, Debug)]
pub(crate) struct CloseSignals {
    /// Finish the running requests and accept no more.
    pub(crate) shutdown: CancellationToken,
    /// End immediately.
    pub(crate) cut: CancellationToken,
}

/// Both HTTP versions with their limits.
#[derive(Debug)]
pub(crate) struct HttpProtocols {
    builder: auto::Builder<StreamRunner>,
    header_timeout: Duration,
    idle_timeout: Duration,
    body_pace: BodyPace,
}

impl HttpProtocols {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        let mut builder = auto::Builder::new(StreamRunner);
        let mut http1 = builder.http1();
        http1
            .timer(TokioTimer::new())
            // `ActivityWatch` limits the head and the idle time before it separately. hyper has a single timer for both.
            .header_read_timeout(None)
            // `date` sets the header instead. hyper's own responses to malformed heads therefore have no `Date`, which is better
            // than one that may be wrong by days.
            .auto_date_header(false)
            .keep_alive(true)
            .half_close(false)
            .max_buf_size(options.head_bytes_max.max(limits::REQUEST_HEAD_BYTES_MIN));
        if options.headers_max != limits::REQUEST_HEADERS_MAX {
            // hyper's default is the same number, and hyper is faster if this option is not set.
            http1.max_headers(options.headers_max);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .keep_alive_interval(limits::HTTP2_PING_INTERVAL)
            .keep_alive_timeout(limits::HTTP2_PING_TIMEOUT)
            .max_concurrent_streams(limits::HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(limits::HTTP2_SEND_BUFFER_BYTES_MAX)
            // Rapid reset (CVE-2023-44487): a client that opens and resets streams in a loop loses its connection.
            .max_pending_accept_reset_streams(limits::HTTP2_RESETS_PENDING_MAX)
            .max_local_error_reset_streams(limits::HTTP2_RESETS_PENDING_MAX);
        Self {
            builder,
            header_timeout: options.header_timeout,
            idle_timeout: options.idle_timeout,
            body_pace: options.body_pace,
        }
    }

    /// Returns the hyper builder that serves connections.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn builder(&self) -> &auto::Builder<StreamRunner> {
        &self.builder
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve<S: Service>(
        &self,
        stream: TcpStream,
        link: ConnectionEnds,
        service: Arc<S>,
        reservation: Reservation,
        ends: CloseSignals,
    ) {
        let activity = Arc::new(ConnectionActivity::new(reservation.clone()));
        let io = TokioIo::new(CountedStream::new(stream, Arc::clone(&activity)));
        let pace = BodyPatienceTimer::new(self.idle_timeout);
        let body_pace = self.body_pace;
        let clock = service.clock();
        let answer = |request: Request<Incoming>| {
            let version = request.version();
            let has_body = !request.body().is_end_stream();
            let in_flight = activity.request(version, has_body);
            let turn =
                has_body.then(|| ClientTurn::new(in_flight.turns().clone(), RequestSide::Arriving));
            let request = request.map(|body| IncomingBody::new(body, body_pace, turn));
            let answer = Arc::clone(&service).answer(request, link.clone());
            let clock = clock.clone();
            async move {
                let mut answer: Response<S::Body> = answer.await;
                // If the end of this request's body arrives after the response, hyper reads the next request before this response
                // has left. Without this check, responses would pile up for a client that does not read them.
                let is_last = in_flight.is_last() || in_flight.is_behind_others();
                if is_last && version < Version::HTTP_2 {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                // A guest that forwards another server's response keeps that response's `Date`.
                let dated = answer.headers_mut().entry(DATE);
                dated.or_insert_with(|| date(clock.now_ms()));
                in_flight.count_head(answer.headers());
                Ok::<_, Infallible>(answer.map(|body| OutgoingBody::new(body, pace, in_flight)))
            }
        };
        let mut connection = pin!(self.builder.serve_connection(io, service_fn(answer)));
        let mut watch = ActivityWatch::new(self.header_timeout, self.idle_timeout, Instant::now());
        let mut ticks = tokio::time::interval(watch.interval());
        let mut shutdown_notice = pin!(announce_shutdown(&ends.shutdown, &activity));
        let mut is_ending = false;
        let mut sending = SendingResponse::default();
        let mut heads = HeadCharges::new(link.share.clone());
        loop {
            tokio::select! {
                biased;
                () = ends.cut.cancelled() => return,
                () = reservation.revoked() => {
                    tracing::debug!(peer = %link.peer, "connection cut: another client needed its place");
                    return;
                }
                ended = poll_fn(|cx| {
                    let heads_before = activity.heads.load(Relaxed);
                    let polled = connection.as_mut().poll(cx);
                    let cut = sending.poll_cut(activity.is_stalled(), cx);
                    let cut_for_heads = heads.poll(heads_before, &activity, cx);
                    if polled.is_ready() {
                        polled.map(Some)
                    } else if cut.is_ready() || cut_for_heads.is_ready() {
                        Poll::Ready(None)
                    } else {
                        Poll::Pending
                    }
                }) => {
                    match ended {
                        Some(Ok(())) => {}
                        // The client failed, or a body was cut on purpose. The events of the request contain more.
                        Some(Err(error)) => {
                            tracing::debug!(peer = %link.peer, %error, "connection ended early");
                        }
                        None => {
                            tracing::debug!(peer = %link.peer, "connection cut: other clients need the memory of its responses");
                        }
                    }
                    return;
                }
                () = &mut shutdown_notice, if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => match watch.look(&activity, Instant::now()) {
                    Diagnosis::Alive => {}
                    Diagnosis::Idle if !is_ending => {
                        is_ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Diagnosis::Idle | Diagnosis::Stuck => {
                        tracing::debug!(peer = %link.peer, "connection cut: its client was too slow");
                        return;
                    }
                },
            }
        }
    }
}

/// Returns when the connection is to be closed because the host stops.
///
/// An HTTP/2 client is notified immediately: the GOAWAY frame says which requests will still be answered. If an idle HTTP/1.1
/// connection were closed immediately, a request that is already on its way could be lost. It therefore stays open for another
/// [`limits::LAST_RESPONSE_WAIT`], and a response during that time closes it.
async fn announce_shutdown(shutdown: &CancellationToken, activity: &ConnectionActivity) {
    shutdown.cancelled().await;
    activity.announce_close();
    if !activity.is_multiplexed() {
        tokio::time::sleep(limits::LAST_RESPONSE_WAIT).await;
    }
}

//! One connection: tells HTTP/1.1 from HTTP/2, serves requests until either side has had enough, and ends gracefully when asked.
//!
//! Every limit of hyper's is set here by name; its defaults are not relied on.

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

use super::date::date;
use super::heads::Heads;
use super::joined::Joined;
use super::pace::arriving::{Arriving, BodyPace};
use super::pace::{Leaving, Pace, Sending, Streams};
use super::pulse::{Counted, Pulse, Side, Turn};
use super::watch::{Diagnosis, Watch};
use super::{Link, Options, Service};
use crate::limits;
use crate::quota::Reservation;

/// The ways a connection is told to end.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Finish the requests under way and take no more.
    pub(super) shutdown: CancellationToken,
    /// End now.
    pub(super) cut: CancellationToken,
}

/// Both protocols, with their limits.
#[derive(Debug)]
pub(super) struct Protocols {
    builder: auto::Builder<Streams>,
    header_timeout: Duration,
    idle_timeout: Duration,
    body_pace: BodyPace,
}

impl Protocols {
    pub(super) fn new(options: &Options) -> Self {
        let mut builder = auto::Builder::new(Streams);
        let mut http1 = builder.http1();
        http1
            .timer(TokioTimer::new())
            // `Watch` bounds the head and the silence before it, each with its own limit; hyper has one timer for both.
            .header_read_timeout(None)
            // See `date`. hyper's own answers to heads that it cannot read have none, rather than one that may be wrong by days.
            .auto_date_header(false)
            .keep_alive(true)
            .half_close(false)
            .max_buf_size(options.head_bytes_max.max(limits::REQUEST_HEAD_BYTES_MIN));
        if options.headers_max != limits::REQUEST_HEADERS_MAX {
            // hyper's own default is the same number, and faster when left alone.
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

    /// What reads a connection's bytes.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn builder(&self) -> &auto::Builder<Streams> {
        &self.builder
    }

    /// Serves one connection to its end.
    pub(super) async fn serve<S: Service>(
        &self,
        stream: TcpStream,
        link: Link,
        service: S,
        place: Reservation,
        ends: Ends,
    ) {
        let pulse = Arc::new(Pulse::new(place.clone()));
        let io = TokioIo::new(Counted::new(stream, Arc::clone(&pulse)));
        let pace = Pace::new(self.idle_timeout);
        let body_pace = self.body_pace;
        let clock = service.clock();
        let answer = |request: Request<Incoming>| {
            let version = request.version();
            let has_body = !request.body().is_end_stream();
            let in_flight = pulse.request(version, has_body);
            let turn = has_body.then(|| Turn::new(in_flight.turns().clone(), Side::Arriving));
            let request = request.map(|body| Arriving::new(Joined::new(body, turn), body_pace));
            let answer = service.answer(request, link.clone());
            let clock = clock.clone();
            async move {
                let mut answer: Response<S::Body> = answer.await;
                // hyper takes a further request before this answer has left where the end of this one's body comes behind it: such
                // answers would pile up for a client that reads none.
                let is_last = in_flight.is_last() || in_flight.is_behind_others();
                if is_last && version < Version::HTTP_2 {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                // A guest that passes on another server's answer keeps that one's.
                let dated = answer.headers_mut().entry(DATE);
                dated.or_insert_with(|| date(clock.now_ms()));
                in_flight.count_head(answer.headers());
                Ok::<_, Infallible>(answer.map(|body| Leaving::new(body, pace, in_flight)))
            }
        };
        let mut connection = pin!(self.builder.serve_connection(io, service_fn(answer)));
        let mut watch = Watch::new(self.header_timeout, self.idle_timeout, Instant::now());
        let mut ticks = tokio::time::interval(watch.interval());
        let mut farewell = pin!(farewell(&ends.shutdown, &pulse));
        let mut is_ending = false;
        let mut sending = Sending::default();
        let mut heads = Heads::new(link.share.clone());
        loop {
            tokio::select! {
                biased;
                () = ends.cut.cancelled() => return,
                () = place.revoked() => {
                    tracing::debug!(peer = %link.peer, "connection cut: another client needed its place");
                    return;
                }
                ended = poll_fn(|cx| {
                    let heads_before = pulse.heads.load(Relaxed);
                    let polled = connection.as_mut().poll(cx);
                    let cut = sending.poll_cut(pulse.is_stalled(), cx);
                    let cut_for_heads = heads.poll(heads_before, &pulse, cx);
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
                        // A client's fault, or a body that was cut on purpose: the request's own events tell more.
                        Some(Err(error)) => {
                            tracing::debug!(peer = %link.peer, %error, "connection ended early");
                        }
                        None => {
                            tracing::debug!(peer = %link.peer, "connection cut: other clients need what its answers held");
                        }
                    }
                    return;
                }
                () = &mut farewell, if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => match watch.look(&pulse, Instant::now()) {
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

/// Returns when a connection is to be closed because the host stops.
///
/// HTTP/2 is told so at once: its GOAWAY says which requests will still be answered. An idle HTTP/1.1 connection that is
/// closed may meet a request on its way and lose it; so it is kept a little longer, and closed with the next answer.
async fn farewell(shutdown: &CancellationToken, pulse: &Pulse) {
    shutdown.cancelled().await;
    pulse.say_farewell();
    if !pulse.is_multiplexed() {
        tokio::time::sleep(limits::FAREWELL).await;
    }
}

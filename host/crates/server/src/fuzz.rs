//! The properties that must hold for any bytes that a client may send: hyper reads them with this server's limits, and each head
//! is checked.
//!
//! An input contains all bytes that one client sends on one HTTP/1.1 or HTTP/2 connection.

use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONNECTION, DATE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ServerOptions;
use super::connection::HttpProtocols;

/// The largest part of a body that is read, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The first bytes of an HTTP/2 connection.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// Validates a head as the handler behind this server does. Returns the value of `Content-Length`, or `Err` if the head is refused.
pub type Judge = fn(Parts, IpAddr, SocketAddr) -> Result<Option<u64>, ()>;

/// The fuzz target `head`, with the handler's validation of heads.
pub fn connection(input: &[u8], judge: Judge) {
    // The peer is an untrusted client for some inputs and a trusted proxy for the others. The division of the bytes into pieces
    // must not matter.
    let stranger = Ipv4Addr::new(203, 0, 113, 9);
    let peer = if input.len().is_multiple_of(2) {
        stranger
    } else {
        Ipv4Addr::LOCALHOST
    };
    let whole = serve(input, peer, usize::MAX, judge);
    if input.starts_with(HTTP2) {
        return;
    }
    let pieces = serve(input, peer, 1 + input.len() % 7, judge);
    assert_eq!(whole.seen, pieces.seen, "requests depend on the pieces");
    let (answers, others) = (whole.answers(), pieces.answers());
    // A client that disconnects within a body may miss the response.
    if whole.seen.iter().all(|seen| !seen.is_cut) {
        let requests = whole.seen.len();
        // Bytes that are not a request may be answered, but a client that disconnects early may miss that response.
        for answers in [answers, others] {
            assert!(answers == requests || answers == requests + 1);
        }
    }
}

/// One request that arrived.
#[derive(Debug, PartialEq)]
struct Seen {
    head: String,
    /// The length of the body, or `None` if it was not read to its end.
    body: Option<usize>,
    /// Whether the body was cut.
    is_cut: bool,
}

/// The results of one connection.
struct Served {
    seen: Vec<Seen>,
    output: Vec<u8>,
}

impl Served {
    /// Returns the number of responses that were sent. They have no bodies here.
    fn answers(&self) -> usize {
        let mut rest = self.output.as_slice();
        let mut count = 0;
        while !rest.is_empty() {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
            let (head, behind) = rest.split_at(end.expect("a whole head") + 4);
            let text = std::str::from_utf8(head).expect("a head is ASCII");
            let status = text
                .strip_prefix("HTTP/1.1 ")
                .or(text.strip_prefix("HTTP/1.0 "));
            let status = status.and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
            match status.expect("a status") {
                100 => {}
                200 | 400 | 408 | 413 | 414 | 431 | 501 | 505 => count += 1,
                other => panic!("an answer of {other}"),
            }
            rest = behind;
        }
        count
    }
}

fn serve(input: &[u8], peer: Ipv4Addr, piece: usize, judge: Judge) -> Served {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let output: Arc<Mutex<Vec<u8>>> = Arc::default();
    let wire = Wire {
        input: Bytes::copy_from_slice(input),
        piece,
        yields: 0,
        output: Arc::clone(&output),
    };
    let record = Arc::clone(&seen);
    let panicked: Arc<Mutex<Option<Box<dyn Any + Send>>>> = Arc::default();
    let panics = Arc::clone(&panicked);
    let service = service_fn(move |request| {
        let (record, panics) = (Arc::clone(&record), Arc::clone(&panics));
        async move {
            let answer = AssertUnwindSafe(answer(request, peer, &record, judge));
            let answer = answer.catch_unwind().await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|panic| {
                *panics.lock() = Some(panic);
                Response::default()
            }))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without input and output");
    runtime.block_on(async {
        let protocols = HttpProtocols::new(&ServerOptions::default());
        // An error means that the client failed. The service records any property that does not hold.
        let _ = protocols
            .builder()
            .serve_connection(TokioIo::new(wire), service)
            .await;
    });
    drop(runtime);
    // hyper answers an HTTP/2 stream in a task of its own, so a panic there only ends that task.
    if let Some(panic) = panicked.lock().take() {
        resume_unwind(panic);
    }
    let seen = std::mem::take(&mut *seen.lock());
    let output = std::mem::take(&mut *output.lock());
    Served { seen, output }
}

async fn answer(
    request: Request<Incoming>,
    peer: Ipv4Addr,
    record: &Mutex<Vec<Seen>>,
    judge: Judge,
) -> Response<Empty<Bytes>> {
    let (head, body) = request.into_parts();
    let version = head.version;
    // If the connection ends within the body, this future is dropped, so the entry starts as cut.
    let seen = Seen {
        head: format!("{} {} {:?}", head.method, head.uri, head.headers),
        body: None,
        is_cut: true,
    };
    let at = {
        let mut record = record.lock();
        record.push(seen);
        record.len() - 1
    };
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 3000));
    let passed = judge(head, peer.into(), local);
    let mut response = Response::new(Empty::new());
    response
        .headers_mut()
        .insert(DATE, HeaderValue::from_static("today"));
    let body = match passed {
        Err(()) => {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            if version < Version::HTTP_2 {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            None
        }
        Ok(length) => match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => {
                let bytes = body.to_bytes().len();
                assert!(length.is_none_or(|length| length == bytes as u64));
                Some(bytes)
            }
            Err(_) => return response,
        },
    };
    let seen = &mut record.lock()[at];
    (seen.body, seen.is_cut) = (body, false);
    response
}

/// A client that sends its bytes in pieces and accepts all bytes that it receives.
struct Wire {
    input: Bytes,
    piece: usize,
    /// How often the end of the input was delayed, so that all tasks can process the bytes sent before.
    yields: u8,
    output: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        const YIELDS_MAX: u8 = 32;
        if self.input.is_empty() && self.yields < YIELDS_MAX {
            self.yields += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = self.piece.min(buf.remaining()).min(self.input.len());
        buf.put_slice(&self.input.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut output = self.output.lock();
        output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

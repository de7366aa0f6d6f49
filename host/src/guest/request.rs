//! One request as guests see it, as often as it takes: the body is recorded while it is read, so that another run can
//! read it again. Knows no connection: any body will do.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http::header::COOKIE;
use http::uri::Scheme;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use wasmtime_wasi_http::Error;

use super::caller::Cookies;
use crate::cookie::Jar;

/// A request that a guest can be run on, again if need be. `Debug` shows no header and no body.
pub struct GuestRequest {
    /// Head of the request, without our cookie. The URI may have a path only: then `Host` says the authority.
    pub head: http::request::Parts,
    /// How the client reached us.
    pub scheme: Scheme,
    /// The body, recorded while it is read.
    pub body: ReplayBody,
    /// What reads and writes the guest's own cookies; needed where it imports that ([`Guest::imports_cookies`](super::Guest)).
    pub jar: Option<Arc<Jar>>,
    /// What the logs call this request.
    pub request_id: Arc<str>,
    /// When the answer must have been released, all runs together.
    pub deadline: Instant,
}

impl GuestRequest {
    /// Its cookies, unread, where the guest has asked for them.
    pub(super) fn cookies(&self) -> Option<Cookies> {
        let headers = || self.head.headers.get_all(COOKIE).iter().cloned().collect();
        self.jar.as_ref().map(|jar| Cookies {
            jar: Arc::clone(jar),
            headers: headers(),
        })
    }
}

impl fmt::Debug for GuestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRequest")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

/// A request body that can be read more than once, as long as it stays within its bounds.
pub struct ReplayBody(Arc<Mutex<Record>>);

struct Record {
    source: Option<UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>,
    bytes_max: u64,
    replay_bytes_max: usize,
    bytes: u64,
    kept: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    is_gone: bool,
    is_too_large: bool,
    /// Counts the runs: only the latest one may read on.
    run: u32,
}

impl ReplayBody {
    /// Takes the client's body. It is an error of the reading guest to pass `bytes_max`; what is read is kept while it is
    /// no more than `replay_bytes_max`.
    pub fn new<B>(source: B, bytes_max: u64, replay_bytes_max: usize) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let source = (!source.is_end_stream()).then(|| source.map_err(Into::into).boxed_unsync());
        Self(Arc::new(Mutex::new(Record {
            source,
            bytes_max,
            replay_bytes_max,
            bytes: 0,
            kept: VecDeque::new(),
            trailers: None,
            is_gone: false,
            is_too_large: false,
            run: 0,
        })))
    }

    /// Whether a part of it was read and not kept: then no other run can read it.
    pub(super) fn is_gone(&self) -> bool {
        self.lock().is_gone
    }

    /// The limit that the client passed, in bytes, if it did.
    pub(super) fn passed_limit(&self) -> Option<u64> {
        let record = self.lock();
        record.is_too_large.then_some(record.bytes_max)
    }

    /// The body from its start, for a new run. Readers of earlier runs end with an error.
    pub(super) fn reader(&self) -> BodyReader {
        let mut record = self.lock();
        record.run += 1;
        let is_broken = record.is_gone;
        BodyReader {
            record: Arc::clone(&self.0),
            run: record.run,
            next: 0,
            is_broken,
            is_ended: false,
        }
    }

    /// What ends it for good, for when its request is over.
    pub(super) fn end(&self) -> BodyEnd {
        BodyEnd(Arc::downgrade(&self.0))
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.0)
    }
}

/// Ends a request's body whoever may hold it still.
pub(super) struct BodyEnd(Weak<Mutex<Record>>);

impl BodyEnd {
    /// Lets go of the client's body. Who reads on finds it broken off.
    pub(super) fn close(&self) {
        if let Some(record) = self.0.upgrade() {
            let mut record = lock(&record);
            record.is_gone = true;
            record.run += 1;
            record.kept.clear();
            record.source = None;
        }
    }
}

impl fmt::Debug for ReplayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // A body that panicked is polled no more usefully than one that did not; the record itself stays consistent.
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    /// Reads on where all earlier reading ended.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        match std::task::ready!(Pin::new(source).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(self.record(frame))),
            // Nobody can read the rest, so nobody may take what was kept for the whole.
            Some(Err(_)) => {
                self.is_gone = true;
                self.source = None;
                Poll::Ready(Some(Err(Error::ConnectionTerminated)))
            }
            None => {
                self.source = None;
                Poll::Ready(None)
            }
        }
    }

    fn record(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.source = None;
        }
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len() as u64);
            if self.bytes > self.bytes_max {
                self.is_too_large = true;
                self.is_gone = true;
                self.source = None;
                self.kept.clear();
                return Err(Error::HttpRequestBodySize(Some(self.bytes_max)));
            }
            if self.bytes > self.replay_bytes_max as u64 {
                self.is_gone = true;
                self.kept.clear();
            } else {
                self.kept.push_back(data.clone());
            }
        }
        Ok(frame)
    }
}

/// A request body as one run reads it.
pub(super) struct BodyReader {
    record: Arc<Mutex<Record>>,
    run: u32,
    next: usize,
    /// What it would read is gone.
    is_broken: bool,
    is_ended: bool,
}

impl Body for BodyReader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let reader = self.get_mut();
        let mut record = lock(&reader.record);
        if reader.is_ended {
            return Poll::Ready(None);
        }
        if reader.run != record.run || reader.is_broken {
            reader.is_ended = true;
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        if let Some(data) = record.kept.get(reader.next).filter(|_| !record.is_gone) {
            reader.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if record.source.is_none() {
            reader.is_ended = true;
            let trailers = record.trailers.clone();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = std::task::ready!(record.poll_source(cx));
        reader.next = record.kept.len();
        reader.is_ended = !matches!(&frame, Some(Ok(frame)) if frame.is_data());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let record = lock(&self.record);
        let is_read = record.source.is_none() && self.next >= record.kept.len();
        self.is_ended || (is_read && record.trailers.is_none() && !record.is_gone)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{Empty, Full, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, std::io::Error>>;

    fn body(chunks: &[&'static str], bytes_max: u64, replay_bytes_max: usize) -> ReplayBody {
        let frames: Frames = chunks
            .iter()
            .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        ReplayBody::new(
            StreamBody::new(stream::iter(frames)),
            bytes_max,
            replay_bytes_max,
        )
    }

    async fn text(reader: BodyReader) -> Result<String, Error> {
        let bytes = reader.collect().await?.to_bytes();
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_one_run_read_in_part_the_next_reads_whole() {
        let body = body(&["ab", "cd", "ef"], 100, 100);
        let mut first = body.reader();
        assert_eq!(
            first.frame().await.unwrap().unwrap().into_data().unwrap(),
            "ab"
        );
        drop(first);
        assert_eq!(text(body.reader()).await.unwrap(), "abcdef");
        assert_eq!(text(body.reader()).await.unwrap(), "abcdef");
        assert!(!body.is_gone());
    }

    #[tokio::test]
    async fn a_body_beyond_what_is_kept_is_read_once() {
        let body = body(&["ab", "cd"], 100, 3);
        assert!(!body.is_gone());
        assert_eq!(text(body.reader()).await.unwrap(), "abcd");
        assert!(body.is_gone());
        assert_eq!(body.passed_limit(), None);
        assert!(text(body.reader()).await.is_err());
    }

    #[tokio::test]
    async fn a_body_beyond_its_limit_fails_while_it_is_read() {
        let body = body(&["ab", "cd"], 3, 100);
        assert!(matches!(
            text(body.reader()).await,
            Err(Error::HttpRequestBodySize(Some(3)))
        ));
        assert_eq!(body.passed_limit(), Some(3));
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_an_error_and_the_body_is_gone() {
        let frames: Frames = vec![
            Ok(Frame::data(Bytes::from_static(b"ab"))),
            Err(std::io::Error::other("reset")),
        ];
        let body = ReplayBody::new(StreamBody::new(stream::iter(frames)), 100, 100);
        assert!(matches!(
            text(body.reader()).await,
            Err(Error::ConnectionTerminated)
        ));
        assert!(body.is_gone());
    }

    #[tokio::test]
    async fn trailers_come_with_every_run() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        let body = ReplayBody::new(
            Full::new(Bytes::from("a"))
                .with_trailers(std::future::ready(Some(Ok(trailers.clone())))),
            9,
            9,
        );
        for _ in 0..2 {
            assert_eq!(
                body.reader().collect().await.unwrap().trailers(),
                Some(&trailers)
            );
        }
    }

    #[tokio::test]
    async fn an_earlier_runs_reader_takes_nothing_from_the_next() {
        let body = body(&["ab", "cd"], 100, 100);
        let mut old = body.reader();
        let new = body.reader();
        assert!(old.frame().await.unwrap().is_err());
        assert_eq!(text(new).await.unwrap(), "abcd");
    }

    #[tokio::test]
    async fn a_body_that_was_ended_is_let_go_of_though_somebody_holds_it() {
        let (held, source) = (Arc::new(()), stream::pending::<Frames>());
        let witness = Arc::clone(&held);
        let source = source.flat_map(move |frames| {
            let _held = &witness;
            stream::iter(frames)
        });
        let body = ReplayBody::new(StreamBody::new(source), 100, 100);
        let (mut reader, end) = (body.reader(), body.end());
        drop(body);
        assert_eq!(Arc::strong_count(&held), 2);

        end.close();

        assert_eq!(Arc::strong_count(&held), 1);
        assert!(reader.frame().await.unwrap().is_err());
        assert!(reader.frame().await.is_none());
    }

    #[tokio::test]
    async fn no_body_is_an_end_at_once() {
        let body = ReplayBody::new(Empty::new(), 10, 10);
        assert!(body.reader().is_end_stream());
        assert_eq!(text(body.reader()).await.unwrap(), "");
    }
}

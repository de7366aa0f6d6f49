//! The minimum speed at which a client has to send a request's body: [`BodyPace::bytes_per_s`], after a grace period. A body that
//! stops arriving is also detected.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use cloakroom_base::deadline::BodyTooSlow;

/// The minimum speed of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPace {
    /// How long the host waits for bytes before the rate applies. Waiting uses this time up, and bytes restore it.
    pub grace: Duration,
    /// The number of bytes that restore a second of waiting time.
    pub bytes_per_s: u64,
}

/// A request's body that fails with [`BodyTooSlow`] when its client sends it too slowly. Only the time during which the reader
/// polls and no bytes have arrived counts. Bytes that a slow guest leaves unread do not count against the client.
#[derive(Debug)]
pub struct IncomingBody<B> {
    body: B,
    pace: BodyPace,
    /// The rest of the grace period.
    left: Duration,
    /// `Some` once the reader had to wait for the body.
    wait: Option<Box<PieceWait>>,
}

#[derive(Debug)]
struct PieceWait {
    bell: Arc<WakeNote>,
    /// The time since which the reader waits for the body.
    since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

/// Records when the body wakes its reader. The time after that does not count against the client, however late the reader polls.
#[derive(Debug, Default)]
struct WakeNote {
    rang_at: Mutex<Option<Instant>>,
    reader: AtomicWaker,
}

impl WakeNote {
    fn rang_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rang_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for WakeNote {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang_at().get_or_insert_with(Instant::now);
        self.reader.wake();
    }
}

type PolledFrame<B> = Poll<Option<Result<Frame<Bytes>, <B as Body>::Error>>>;

impl<B> IncomingBody<B> {
    pub(crate) fn new(body: B, pace: BodyPace) -> Self {
        Self {
            body,
            pace,
            left: pace.grace,
            wait: None,
        }
    }

    /// Records that the client sent bytes or the end of the body. `at` is the time of arrival; `None` means now.
    fn came(&mut self, at: Option<Instant>, bytes: u64) {
        if let Some(since) = self.wait.as_mut().and_then(|wait| wait.since.take()) {
            let until = at.unwrap_or_else(Instant::now);
            self.left = self
                .left
                .saturating_sub(until.saturating_duration_since(since));
        }
        let bought = bytes.saturating_mul(1000) / self.pace.bytes_per_s.max(1);
        self.left = self
            .left
            .saturating_add(Duration::from_millis(bought))
            .min(self.pace.grace);
    }

    /// Called when no bytes are available: ready when the client was waited for too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wait) = &mut self.wait else {
            return Poll::Pending;
        };
        let since = *wait.since.get_or_insert_with(Instant::now);
        let ends_at = since + self.left;
        loop {
            if Instant::now() >= ends_at {
                return Poll::Ready(());
            }
            if wait.alarm.deadline().into_std() < ends_at {
                wait.alarm.as_mut().reset(ends_at.into());
            }
            if wait.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin> Body
    for IncomingBody<B>
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        // Most bodies have already arrived when they are polled.
        let (mut rang_at, mut polled) = match &mut this.wait {
            None => (None, Pin::new(&mut this.body).poll_frame(cx)),
            Some(wait) => wait.poll(&mut this.body, cx),
        };
        if polled.is_pending() && this.wait.is_none() {
            let wait = this.wait.insert(Box::new(PieceWait {
                bell: Arc::default(),
                since: None,
                alarm: Box::pin(tokio::time::sleep(this.left)),
            }));
            (rang_at, polled) = wait.poll(&mut this.body, cx);
        }
        match polled {
            Poll::Pending => {
                if this.poll_too_slow(cx).is_ready() {
                    return Poll::Ready(Some(Err(BodyTooSlow.into())));
                }
                Poll::Pending
            }
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    this.came(rang_at, frame.data_ref().map_or(0, Bytes::len) as u64);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl PieceWait {
    /// Polls the body with the bell as its waker. Also returns when the bell rang before.
    fn poll<B: Body<Data = Bytes> + Unpin>(
        &mut self,
        body: &mut B,
        cx: &Context<'_>,
    ) -> (Option<Instant>, PolledFrame<B>) {
        self.bell.reader.register(cx.waker());
        let rang_at = self.bell.rang_at().take();
        let waker = Waker::from(Arc::clone(&self.bell));
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(&waker));
        (rang_at, polled)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::sync::mpsc;

    use super::*;

    const PACE: BodyPace = BodyPace {
        grace: Duration::from_secs(10),
        bytes_per_s: 1 << 10,
    };

    type Sender = mpsc::UnboundedSender<usize>;

    fn channel() -> (
        Sender,
        IncomingBody<impl Body<Data = Bytes, Error = Infallible> + Unpin>,
    ) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let frames = futures_util::stream::poll_fn(move |cx| {
            let piece = |bytes| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; bytes])));
            receiver.poll_recv(cx).map(|bytes| bytes.map(piece))
        });
        (sender, IncomingBody::new(StreamBody::new(frames), PACE))
    }

    /// Moves the start of the wait back by `waited`, because `IncomingBody` uses the real time.
    fn age<B>(body: &mut IncomingBody<B>, waited: Duration) {
        let wait = body.wait.as_mut().expect("the body was waited for");
        wait.since = wait.since.map(|since| since.checked_sub(waited).unwrap());
    }

    fn poll<B>(body: &mut IncomingBody<B>) -> Poll<Option<Result<usize, bool>>>
    where
        B: Body<Data = Bytes, Error = Infallible> + Unpin,
    {
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().unwrap().len()),
                Err(error) => Err(error.is::<BodyTooSlow>()),
            })
        })
    }

    #[tokio::test]
    async fn a_body_of_which_nothing_comes_is_found_out() {
        let (_sender, mut body) = channel();
        body.pace.grace = Duration::from_millis(5);
        body.left = body.pace.grace;
        let end = body.frame().await.unwrap();
        assert!(end.unwrap_err().is::<BodyTooSlow>());
    }

    #[tokio::test]
    async fn a_byte_now_and_then_buys_no_time() {
        let (sender, mut body) = channel();
        for second in 0.. {
            assert!(poll(&mut body).is_pending());
            age(&mut body, Duration::from_secs(1));
            sender.send(1).unwrap();
            // The byte that arrives at the end of a wait is accepted, and the next wait is too long.
            if poll(&mut body) != Poll::Ready(Some(Ok(1))) || second > 20 {
                panic!("a byte that has come is there");
            }
            if body.left < Duration::from_secs(1) {
                assert_eq!(second, 8);
                break;
            }
        }
        assert!(poll(&mut body).is_pending());
        age(&mut body, Duration::from_secs(1));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(true))));
    }

    #[tokio::test]
    async fn a_kibibyte_a_second_lasts_for_ever() {
        let (sender, mut body) = channel();
        for _ in 0..100 {
            assert!(poll(&mut body).is_pending());
            age(&mut body, Duration::from_secs(1));
            sender.send(1100).unwrap();
            assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(1100))));
        }
    }

    #[tokio::test]
    async fn what_a_slow_reader_leaves_unread_is_not_the_clients_fault() {
        let (sender, mut body) = channel();
        assert!(poll(&mut body).is_pending());
        sender.send(1).unwrap();
        // The byte arrived immediately and is read half a minute later.
        age(&mut body, Duration::from_secs(30));
        let bell = &body.wait.as_ref().unwrap().bell;
        *bell.rang_at() = body.wait.as_ref().unwrap().since;
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(1))));
        assert!(body.left > Duration::from_secs(9), "{:?}", body.left);
    }

    #[tokio::test]
    async fn a_flood_buys_no_more_than_the_grace() {
        let (sender, mut body) = channel();
        sender.send(1 << 20).unwrap();
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(1 << 20))));
        assert_eq!(body.left, PACE.grace);
    }
}

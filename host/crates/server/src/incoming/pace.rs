//! The minimum speed at which a client has to send a request's body: [`BodyPace::bytes_per_s`], after a grace period. A body that
//! stops arriving is also detected.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::PolledFrame;
use cloakroom_base::deadline::BodyTooSlow;

/// The minimum speed of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPace {
    /// How long the host waits for bytes before the rate applies. Waiting uses this time up, and bytes restore it.
    pub grace: Duration,
    /// The number of bytes that restore a second of waiting time.
    pub bytes_per_s: u64,
}

/// Makes a body fail with [`BodyTooSlow`] when its client sends it too slowly. Only the time during which the reader polls and no
/// bytes have arrived counts. Bytes that a slow guest leaves unread do not count against the client.
#[derive(Debug)]
pub(crate) struct ArrivalTimer {
    pace: BodyPace,
    /// The rest of the grace period.
    left: Duration,
    /// `Some` once the reader had to wait for the body.
    wait: Option<Box<PieceWait>>,
}

#[derive(Debug)]
struct PieceWait {
    wake_note: Arc<WakeNote>,
    /// The time since which the reader waits for the body.
    since: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

/// Records when the body wakes its reader. The time after that does not count against the client, however late the reader polls.
#[derive(Debug, Default)]
struct WakeNote {
    woken_at: Mutex<Option<Instant>>,
    reader: AtomicWaker,
}

impl Wake for WakeNote {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken_at.lock().get_or_insert_with(Instant::now);
        self.reader.wake();
    }
}

impl ArrivalTimer {
    pub(crate) fn new(pace: BodyPace) -> Self {
        Self {
            pace,
            left: pace.grace,
            wait: None,
        }
    }

    /// Polls a body, `poll`, for its next frame.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> PolledFrame,
    ) -> PolledFrame {
        // Most bodies have already arrived when they are polled.
        let (mut woken_at, mut polled) = match &mut self.wait {
            None => (None, poll(cx)),
            Some(wait) => wait.poll(cx, &mut poll),
        };
        if polled.is_pending() && self.wait.is_none() {
            let wait = self.wait.insert(Box::new(PieceWait {
                wake_note: Arc::default(),
                since: None,
                sleep: Box::pin(tokio::time::sleep(self.left)),
            }));
            (woken_at, polled) = wait.poll(cx, &mut poll);
        }
        match &polled {
            Poll::Pending => {
                if self.poll_too_slow(cx).is_ready() {
                    return Poll::Ready(Some(Err(BodyTooSlow.into())));
                }
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.came(woken_at, frame.data_ref().map_or(0, Bytes::len) as u64);
            }
            Poll::Ready(Some(Err(_)) | None) => {}
        }
        polled
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
            if wait.sleep.deadline().into_std() < ends_at {
                wait.sleep.as_mut().reset(ends_at.into());
            }
            if wait.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl PieceWait {
    /// Polls the body with `wake_note` as its waker. Also returns the time at which that waker was woken, if it was.
    fn poll(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> PolledFrame,
    ) -> (Option<Instant>, PolledFrame) {
        self.wake_note.reader.register(cx.waker());
        let woken_at = self.wake_note.woken_at.lock().take();
        let waker = Waker::from(Arc::clone(&self.wake_note));
        let polled = poll(&mut Context::from_waker(&waker));
        (woken_at, polled)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Frame;
    use tokio::sync::mpsc;

    use super::*;

    const PACE: BodyPace = BodyPace {
        grace: Duration::from_secs(10),
        bytes_per_s: 1 << 10,
    };

    type Sender = mpsc::UnboundedSender<usize>;

    /// A body whose pieces come from a channel, with its timer.
    struct TimedBody {
        timer: ArrivalTimer,
        pieces: mpsc::UnboundedReceiver<usize>,
    }

    impl TimedBody {
        fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
            let piece = |bytes| Ok(Frame::data(Bytes::from(vec![0; bytes])));
            let pieces = &mut self.pieces;
            self.timer
                .poll_frame(cx, |cx| pieces.poll_recv(cx).map(|bytes| bytes.map(piece)))
        }
    }

    fn channel() -> (Sender, TimedBody) {
        let (sender, pieces) = mpsc::unbounded_channel();
        let timer = ArrivalTimer::new(PACE);
        (sender, TimedBody { timer, pieces })
    }

    /// Moves the start of the wait back by `waited`, because `ArrivalTimer` uses the real time.
    fn age(body: &mut TimedBody, waited: Duration) {
        let wait = body.timer.wait.as_mut().expect("the body was waited for");
        wait.since = wait.since.map(|since| since.checked_sub(waited).unwrap());
    }

    fn poll(body: &mut TimedBody) -> Poll<Option<Result<usize, bool>>> {
        let polled = body.poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().unwrap().len()),
                Err(error) => Err(error.is::<BodyTooSlow>()),
            })
        })
    }

    #[tokio::test]
    async fn a_request_body_without_bytes_times_out() {
        let (_sender, mut body) = channel();
        body.timer.pace.grace = Duration::from_millis(5);
        body.timer.left = body.timer.pace.grace;
        let end = poll_fn(|cx| body.poll_frame(cx)).await.unwrap();
        assert!(end.unwrap_err().is::<BodyTooSlow>());
    }

    #[tokio::test]
    async fn an_occasional_byte_does_not_extend_the_grace() {
        let (sender, mut body) = channel();
        for second in 0.. {
            assert!(poll(&mut body).is_pending());
            age(&mut body, Duration::from_secs(1));
            sender.send(1).unwrap();
            // The byte that arrives at the end of a wait is accepted, and the next wait is too long.
            if poll(&mut body) != Poll::Ready(Some(Ok(1))) || second > 20 {
                panic!("a byte that has come is there");
            }
            if body.timer.left < Duration::from_secs(1) {
                assert_eq!(second, 8);
                break;
            }
        }
        assert!(poll(&mut body).is_pending());
        age(&mut body, Duration::from_secs(1));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(true))));
    }

    #[tokio::test]
    async fn a_body_of_one_kibibyte_per_second_never_times_out() {
        let (sender, mut body) = channel();
        for _ in 0..100 {
            assert!(poll(&mut body).is_pending());
            age(&mut body, Duration::from_secs(1));
            sender.send(1100).unwrap();
            assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(1100))));
        }
    }

    #[tokio::test]
    async fn unread_bytes_of_a_slow_reader_are_not_the_clients_fault() {
        let (sender, mut body) = channel();
        assert!(poll(&mut body).is_pending());
        sender.send(1).unwrap();
        // The byte arrived immediately and is read half a minute later.
        age(&mut body, Duration::from_secs(30));
        let wake_note = &body.timer.wait.as_ref().unwrap().wake_note;
        *wake_note.woken_at.lock() = body.timer.wait.as_ref().unwrap().since;
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(1))));
        assert!(
            body.timer.left > Duration::from_secs(9),
            "{:?}",
            body.timer.left
        );
    }

    #[tokio::test]
    async fn a_large_piece_restores_at_most_the_full_grace() {
        let (sender, mut body) = channel();
        sender.send(1 << 20).unwrap();
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(1 << 20))));
        assert_eq!(body.timer.left, PACE.grace);
    }
}

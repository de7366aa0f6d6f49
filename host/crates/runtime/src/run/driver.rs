//! Drives one run: polls the guest and its response body together, so that neither waits for the other in vain.
//!
//! The handler of `wasmtime-wasi-http` is not used, because it ends a body cleanly when its guest traps after the head, reports traps only
//! when an instance is dropped, and can lose a wake-up. A run is not a task of its own: its caller polls it, and dropping it drops its
//! instance.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;
use wasmtime_wasi_http::WasiBody;

use super::offload::OffloadableWork;
use crate::interfaces::head_set::HeadSet;
use crate::interfaces::log::GuestLog;
use crate::run::error::GuestFailure;
use crate::run::idle::IdleInstance;

/// Time for which the body of a guest without remaining tasks may stay open without another byte. A guest may leak the write end of its
/// body and never close it.
const LEAKED_BODY_GRACE: Duration = Duration::from_millis(100);

/// A guest's response: its head, and the body that it writes to.
pub(crate) type Response = http::Response<WasiBody>;

/// The sender of a guest's response. It sends once.
pub(crate) struct ResponseSlot {
    sender: oneshot::Sender<Result<Response, GuestFailure>>,
    has_answered: HeadSet,
}

/// The receiver of a guest's response.
pub(crate) type AnswerReceiver = oneshot::Receiver<Result<Response, GuestFailure>>;

impl ResponseSlot {
    pub(crate) fn channel() -> (Self, AnswerReceiver) {
        let (sender, receiver) = oneshot::channel();
        (
            Self {
                sender,
                has_answered: HeadSet::default(),
            },
            receiver,
        )
    }

    pub(crate) fn has_answered(&self) -> HeadSet {
        self.has_answered.clone()
    }

    pub(crate) fn give(self, answer: Result<Response, GuestFailure>) {
        self.has_answered.set();
        // The receiver is gone if the run is being discarded.
        let _ = self.sender.send(answer);
    }
}

/// A flag that is set when a 0.3 guest has no task left. The driver then signals through it when the guest's work may end.
#[derive(Clone, Debug, Default)]
pub(crate) struct TasksDone(Arc<AtomicU8>);

impl TasksDone {
    const SET: u8 = 1;
    const MAY_END: u8 = 2;

    pub(crate) fn set(&self) {
        self.0.store(Self::SET, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::SET
    }

    fn let_end(&self) {
        self.0.store(Self::MAY_END, Ordering::Relaxed);
    }

    /// Wakes no task: the caller of `let_end` polls the work afterwards.
    pub(crate) fn poll_end(&self) -> Poll<()> {
        match self.0.load(Ordering::Relaxed) {
            Self::MAY_END => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

/// A run in progress. Dropping it drops the instance, frees its slot and logs the guest's remaining output.
pub(crate) struct GuestRun {
    computing: OffloadableWork,
    answer: Option<AnswerReceiver>,
    tasks_done: TasksDone,
    body: ResponseBodyState,
    /// The response has no body on the wire, so the way its body ends does not matter.
    is_bodiless: bool,
    leak: Option<Pin<Box<Sleep>>>,
    /// Whether the instance may serve another request if the run succeeds.
    is_reused: bool,
    /// The instance, once its work is done.
    instance: Option<Box<IdleInstance>>,
    log: GuestLog,
}

enum ResponseBodyState {
    /// The guest has not set a head yet.
    Absent,
    Open(WasiBody),
    Ended,
}

/// An event of a run. Events occur in this order.
pub(crate) enum RunEvent {
    Head(http::response::Parts),
    Frame(Frame<Bytes>),
    /// The guest's work and its body have ended successfully.
    End,
}

impl GuestRun {
    pub(crate) fn new(
        computing: OffloadableWork,
        answer: AnswerReceiver,
        tasks_done: TasksDone,
        is_reused: bool,
        log: GuestLog,
    ) -> Self {
        Self {
            computing,
            answer: Some(answer),
            tasks_done,
            body: ResponseBodyState::Absent,
            is_bodiless: false,
            leak: None,
            is_reused,
            instance: None,
            log,
        }
    }

    /// Returns how long the guest has computed for its request, earlier runs included.
    pub(crate) fn computed(&self) -> Duration {
        self.computing.computed()
    }

    /// Returns how long this run has computed, or waited for its turn to compute.
    pub(crate) fn busy(&self) -> Duration {
        self.computing.busy()
    }

    /// Returns whether the guest computes now or is about to.
    pub(crate) fn is_runnable(&self) -> bool {
        self.computing.is_runnable()
    }

    pub(crate) fn log(&self) -> &GuestLog {
        &self.log
    }

    /// Records that the response has no body on the wire, so that a guest may promise one and write none.
    pub(crate) fn expect_no_body(&mut self) {
        self.is_bodiless = true;
    }

    /// Records that the instance must not serve again.
    pub(crate) fn discard_instance(&mut self) {
        self.is_reused = false;
        self.instance = None;
    }

    /// Ends the run. Returns its instance, if the run succeeded and another request may use it.
    pub(crate) fn into_instance(mut self) -> Option<Box<IdleInstance>> {
        self.instance.take()
    }

    /// Runs the guest until the next event. `Pending` means that the guest and its body wait for something outside.
    ///
    /// Takes the guest's output before the guest runs on. So it is known for everything that the guest does next whether it happens before
    /// or after the release point. If the guest fails, the failure is returned at once, and output that it wrote just before is ignored.
    pub(crate) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RunEvent, GuestFailure>> {
        let mut has_run = false;
        loop {
            if self.computing.is_runnable() {
                // The turn may end during this poll. The loop then continues with its result.
                self.poll_work(cx)?;
                if self.computing.is_runnable() {
                    return Poll::Pending;
                }
            }
            if let Some(head) = self.take_head()? {
                return Poll::Ready(Ok(RunEvent::Head(head)));
            }
            if let Some(frame) = self.poll_body(cx)? {
                self.leak = None;
                return Poll::Ready(Ok(RunEvent::Frame(frame)));
            }
            if !has_run && !self.computing.is_over() {
                has_run = true;
                self.poll_work(cx)?;
                continue;
            }
            match (self.is_work_done(), &self.body) {
                (true, ResponseBodyState::Absent) => {
                    return Poll::Ready(Err(GuestFailure::NoResponse));
                }
                (true, ResponseBodyState::Ended) => {
                    self.end_work(cx);
                    return Poll::Ready(Ok(RunEvent::End));
                }
                // The instance still contains the write end of the body, which closes only when the instance is dropped.
                (true, ResponseBodyState::Open(_)) if self.instance.is_some() => {
                    self.discard_instance()
                }
                (true, ResponseBodyState::Open(_)) if !self.computing.is_over() => {
                    ready!(self.poll_leak(cx));
                    self.computing.end();
                }
                _ => return Poll::Pending,
            }
        }
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Result<(), GuestFailure> {
        if self.computing.is_over() {
            return Ok(());
        }
        match self.computing.poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(result) => {
                self.instance = result?.filter(|_| self.is_reused);
                Ok(())
            }
        }
    }

    fn end_work(&mut self, cx: &mut Context<'_>) {
        if self.is_reused && !self.computing.is_over() {
            self.tasks_done.let_end();
            self.instance = self.computing.finish(cx);
        } else {
            self.computing.end();
        }
    }

    fn take_head(&mut self) -> Result<Option<http::response::Parts>, GuestFailure> {
        let Some(answer) = &mut self.answer else {
            return Ok(None);
        };
        match answer.try_recv() {
            Ok(response) => {
                self.answer = None;
                let (head, body) = response?.into_parts();
                self.body = ResponseBodyState::Open(body);
                Ok(Some(head))
            }
            // Closed: the guest gave up its right to answer. It may still continue to work.
            Err(TryRecvError::Empty | TryRecvError::Closed) => Ok(None),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Option<Frame<Bytes>>, GuestFailure> {
        let ResponseBodyState::Open(body) = &mut self.body else {
            return Ok(None);
        };
        let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        match pin!(unconstrained(next)).poll(cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(Some(Ok(frame))) => Ok(Some(frame)),
            Poll::Ready(None) => {
                self.body = ResponseBodyState::Ended;
                Ok(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.body = ResponseBodyState::Ended;
                if self.is_bodiless {
                    Ok(None)
                } else {
                    Err(body_failure(&error))
                }
            }
        }
    }

    fn is_work_done(&self) -> bool {
        self.computing.is_over() || self.tasks_done.is_set()
    }

    fn poll_leak(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .leak
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LEAKED_BODY_GRACE)));
        sleep.as_mut().poll(cx)
    }
}

impl Drop for GuestRun {
    fn drop(&mut self) {
        // Drops the instance first, because it may write output while it is dropped.
        self.computing.drop_work();
        self.log.finish();
    }
}

fn body_failure(error: &wasmtime_wasi_http::Error) -> GuestFailure {
    use wasmtime_wasi_http::Error;
    match error {
        Error::HttpResponseBodySize(_) => GuestFailure::BadResponse {
            reason: "its body is not as long as its content-length says",
        },
        Error::HttpProtocolError => GuestFailure::BadResponse {
            reason: "its body was dropped unfinished",
        },
        // The guest ended its body with an error code (0.3), or forwards a body that broke off.
        other => GuestFailure::error_code(other),
    }
}

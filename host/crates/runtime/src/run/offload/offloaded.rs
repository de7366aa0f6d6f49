//! A run in the background pool. Its phase decides whether the request or the pool may access the work.
//!
//! A thread of the pool may be descheduled at any line for as long as other threads want the processor. So a request never waits for one.
//! The thread that changes `phase` owns the data that the new phase covers, and the locks below are only ever taken by the owner.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

use super::{Done, OffloadJob, OffloadTerms};
use crate::interfaces::log::GuestLog;
use crate::run::background::{BackgroundTask, thread_cpu_time};
use cloakroom_base::limits::BACKGROUND_THRESHOLD;

/// A run may compute on the serving threads again for its waiting time divided by this. Only waits for something outside count.
const WAIT_DIVISOR: u32 = 10;
/// Time that a run must have earned before it returns to the serving threads.
const RETURN_AT: Duration = Duration::from_millis(1);

/// Value of a time that is not set.
const NEVER: u64 = 0;

/// The job is at rest until the request lets it run. The request owns it.
const RESTING: u8 = 0;
/// The job is in the pool's queue. The thread that changes this phase first owns it.
const DUE: u8 = 1;
/// A thread of the pool holds the job and owns it.
const TAKING: u8 = 2;
/// The work has ended, and the request owns the result.
const ENDED: u8 = 3;
/// The request no longer uses this. If a thread of the pool holds the job, that thread drops it.
const GONE: u8 = 4;

/// The state of a run in the background pool, shared by the request and the pool.
pub(crate) struct OffloadedRun {
    terms: OffloadTerms,
    /// The runtime of the request, which owns the guest's timers and connections.
    runtime: Handle,
    phase: AtomicU8,
    job: OwnedByPhase<OffloadJob>,
    end: OwnedByPhase<OffloadEnd>,
    /// Wakes the request's task.
    request: AtomicWaker,
    /// Whether the work has something to do.
    is_woken: AtomicBool,
    /// In nanoseconds, like the next field.
    computed: AtomicU64,
    busy: AtomicU64,
    /// Time at which it became busy or, at rest, began to wait, in nanoseconds from `start`.
    since: AtomicU64,
    start: Instant,
}

enum OffloadEnd {
    Ended(Done),
    Panicked(Box<dyn Any + Send>),
}

/// The result for a request that wants its guest to run on.
pub(crate) enum ResumeDecision {
    Wait,
    Ended(Done),
    Panicked(Box<dyn Any + Send>),
    /// The run has waited for a long time. It may compute on the request's task again, for this duration.
    OnTask(OffloadJob, Duration),
}

/// A value that only the owner of a phase accesses, so that its lock is never contended.
struct OwnedByPhase<T>(Mutex<Option<T>>);

impl<T> OwnedByPhase<T> {
    fn put(&self, value: T) {
        *self.0.lock() = Some(value);
    }

    fn take(&self) -> Option<T> {
        self.0.lock().take()
    }
}

impl OffloadedRun {
    pub(crate) fn new(job: OffloadJob, terms: OffloadTerms, computed: Duration) -> Self {
        Self {
            terms,
            runtime: Handle::current(),
            phase: AtomicU8::new(RESTING),
            job: OwnedByPhase(Mutex::new(Some(job))),
            end: OwnedByPhase(Mutex::new(None)),
            request: AtomicWaker::new(),
            // Everything that the work waits for still wakes the request's task, so assume that the work was woken.
            is_woken: AtomicBool::new(true),
            computed: AtomicU64::new(nanos(computed)),
            busy: AtomicU64::new(0),
            since: AtomicU64::new(NEVER),
            start: Instant::now(),
        }
    }

    pub(crate) fn computed(&self) -> Duration {
        Duration::from_nanos(self.computed.load(SeqCst))
    }

    /// Returns how long it has computed or waited for its turn.
    pub(crate) fn busy(&self) -> Duration {
        let now = if self.is_runnable() {
            self.elapsed()
        } else {
            Duration::ZERO
        };
        Duration::from_nanos(self.busy.load(SeqCst)) + now
    }

    pub(crate) fn is_runnable(&self) -> bool {
        matches!(self.phase.load(SeqCst), DUE | TAKING)
    }

    /// Lets the work take another turn if it has something to do. The request is woken after the turn.
    pub(crate) fn resume(self: &Arc<Self>, request: &Waker) -> ResumeDecision {
        // Registers before the phase is read, so that every later change wakes the request.
        self.request.register(request);
        match self.phase.load(SeqCst) {
            RESTING if self.is_woken.load(SeqCst) => self.resume_from_rest(),
            ENDED => match self.end.take() {
                Some(OffloadEnd::Ended(result)) => ResumeDecision::Ended(result),
                Some(OffloadEnd::Panicked(panic)) => ResumeDecision::Panicked(panic),
                None => ResumeDecision::Wait,
            },
            _ => ResumeDecision::Wait,
        }
    }

    fn resume_from_rest(self: &Arc<Self>) -> ResumeDecision {
        let earned = (self.elapsed() / WAIT_DIVISOR).min(BACKGROUND_THRESHOLD);
        if earned >= RETURN_AT
            && self.since.load(SeqCst) != NEVER
            && let Some(job) = self.take_back()
        {
            return ResumeDecision::OnTask(job, earned);
        }
        self.mark();
        self.phase.store(DUE, SeqCst);
        self.queue();
        ResumeDecision::Wait
    }

    /// Returns the job to the request's own task, if the job is at rest.
    pub(crate) fn take_back(&self) -> Option<OffloadJob> {
        let is_resting = self
            .phase
            .compare_exchange(RESTING, GONE, SeqCst, SeqCst)
            .is_ok();
        is_resting.then(|| self.job.take()).flatten()
    }

    fn queue(self: &Arc<Self>) {
        let turn: Arc<dyn BackgroundTask> = Arc::<Self>::clone(self);
        let terms = &self.terms;
        terms.background.push(&terms.guest, terms.source, turn);
    }

    /// Drops the job on another thread. If a thread of the pool holds the job, that thread drops it.
    pub(crate) fn cancel(&self) {
        if matches!(self.phase.swap(GONE, SeqCst), RESTING | DUE)
            && let Some(job) = self.job.take()
        {
            let log = self.terms.log.clone();
            self.terms.background.drop_aside((job, FlushLogOnDrop(log)));
        }
    }

    /// Puts the job back, where it waits for the request or for its next turn.
    fn put_down(self: &Arc<Self>, job: OffloadJob) {
        let has_answered = self.terms.has_answered.is_set();
        // Before the guest has answered, there is nothing that the request must look at.
        let is_woken = self.is_woken.load(SeqCst);
        let next = if is_woken && !has_answered {
            DUE
        } else {
            RESTING
        };
        let busy = nanos(self.elapsed());
        self.job.put(job);
        self.busy.fetch_add(busy, SeqCst);
        if is_woken && has_answered {
            // It is at rest only for the sake of the request, and waits for nothing.
            self.since.store(NEVER, SeqCst);
        } else {
            self.mark();
        }
        if self
            .phase
            .compare_exchange(TAKING, next, SeqCst, SeqCst)
            .is_err()
        {
            drop(self.job.take());
            return self.terms.log.finish();
        }
        if next == DUE {
            self.queue();
        } else {
            // The request must notice that the guest is at rest: if the guest waits for its client, the deadline is paused and the run may
            // be cut. This also delivers a wake-up that arrived during the turn.
            self.request.wake();
        }
    }

    fn settle(&self, end: OffloadEnd) {
        self.end.put(end);
        if self
            .phase
            .compare_exchange(TAKING, ENDED, SeqCst, SeqCst)
            .is_ok()
        {
            self.request.wake();
        } else {
            // The request no longer asks for the result.
            drop(self.end.take());
            // The run is over, and has logged the guest's output up to that time.
            self.terms.log.finish();
        }
    }

    fn mark(&self) {
        self.since.store(nanos(self.start.elapsed()).max(1), SeqCst);
    }

    /// Returns the time since the last mark.
    fn elapsed(&self) -> Duration {
        let since = Duration::from_nanos(self.since.load(SeqCst));
        self.start.elapsed().saturating_sub(since)
    }
}

impl BackgroundTask for OffloadedRun {
    fn take(self: Arc<Self>) {
        let is_due = self
            .phase
            .compare_exchange(DUE, TAKING, SeqCst, SeqCst)
            .is_ok();
        let Some(mut job) = is_due.then(|| self.job.take()).flatten() else {
            return;
        };
        self.is_woken.store(false, SeqCst);
        let _runtime = self.runtime.enter();
        let waker = Waker::from(Arc::clone(&self));
        let before = thread_cpu_time();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            pin!(unconstrained(&mut job.work)).poll(&mut Context::from_waker(&waker))
        }));
        let took = thread_cpu_time().saturating_sub(before);
        let computed = Duration::from_nanos(self.computed.fetch_add(nanos(took), SeqCst)) + took;
        let end = match polled {
            Ok(Poll::Ready(result)) => OffloadEnd::Ended(result),
            Err(panic) => OffloadEnd::Panicked(panic),
            Ok(Poll::Pending) => match self.terms.passed(computed) {
                Some(failure) => OffloadEnd::Ended(Err(failure)),
                None => return self.put_down(job),
            },
        };
        // Drops the instance first, so that its slot is free when the request is notified.
        drop(job);
        self.settle(end);
    }
}

impl Wake for OffloadedRun {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        // During a turn, and while it is queued, the pool checks the flag itself.
        if self.phase.load(SeqCst) == RESTING {
            self.request.wake();
        }
    }
}

/// A guard that logs, when dropped, the output that the guest wrote while its instance was dropped.
struct FlushLogOnDrop(GuestLog);

impl Drop for FlushLogOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

//! A run in the slow lane: whose turn it is to touch the work, the request's or the lane's.
//!
//! A thread of the lane may stand still at any line for as long as others want the processor. So a request never waits for
//! one: who moves `phase` owns what the phase says, and the locks below are only ever taken by the owner.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

use super::{Done, Job, Terms};
use crate::guest::lane::{Turn, thread_cpu_time};
use crate::guest::log::GuestLog;
use crate::limits::LANE_THRESHOLD;

/// Which part of the time that a run has waited for something outside it may compute on the serving threads again.
const WAITING_EARNS: u32 = 10;
/// How much it must have earned to return to them.
const RETURN_AT: Duration = Duration::from_millis(1);

/// In place of a time.
const NEVER: u64 = 0;

/// The job rests until the request says go on. The request's.
const RESTING: u8 = 0;
/// In the lane's queue. Whoever moves it on first.
const DUE: u8 = 1;
/// On a thread of the lane, which holds the job. That thread's.
const TAKING: u8 = 2;
/// Ended; how is there for the request.
const OVER: u8 = 3;
/// Nobody wants it any more: who has the job drops it.
const GONE: u8 = 4;

/// See the module.
pub(super) struct Ticket {
    terms: Terms,
    /// The runtime of the request: the guest's timers and connections belong to it.
    runtime: Handle,
    phase: AtomicU8,
    job: Owned<Job>,
    end: Owned<End>,
    /// Wakes the request's task.
    request: AtomicWaker,
    /// Whether the work has something to do.
    is_woken: AtomicBool,
    /// In nanoseconds, as is the next.
    computed: AtomicU64,
    busy: AtomicU64,
    /// Since when it is busy, or waits if it rests, in nanoseconds from `start`.
    since: AtomicU64,
    start: Instant,
}

enum End {
    Over(Done),
    Panicked(Box<dyn Any + Send>),
}

/// What a request is told that wants its guest to go on.
pub(super) enum GoOn {
    Wait,
    Over(Done),
    Panicked(Box<dyn Any + Send>),
    /// It has waited for long: it may compute on the request's task again, for so long.
    Here(Job, Duration),
}

/// What only the owner of a phase touches; a lock that nobody ever waits for.
struct Owned<T>(Mutex<Option<T>>);

impl<T> Owned<T> {
    fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Ticket {
    pub(super) fn new(job: Job, terms: Terms, computed: Duration) -> Self {
        Self {
            terms,
            runtime: Handle::current(),
            phase: AtomicU8::new(RESTING),
            job: Owned(Mutex::new(Some(job))),
            end: Owned(Mutex::new(None)),
            request: AtomicWaker::new(),
            // Whatever it waits for wakes the request's task still.
            is_woken: AtomicBool::new(true),
            computed: AtomicU64::new(nanos(computed)),
            busy: AtomicU64::new(0),
            since: AtomicU64::new(NEVER),
            start: Instant::now(),
        }
    }

    pub(super) fn computed(&self) -> Duration {
        Duration::from_nanos(self.computed.load(SeqCst))
    }

    /// How long it has computed or waited for its turn to.
    pub(super) fn busy(&self) -> Duration {
        let now = if self.is_at_its_turn() {
            self.elapsed()
        } else {
            Duration::ZERO
        };
        Duration::from_nanos(self.busy.load(SeqCst)) + now
    }

    pub(super) fn is_at_its_turn(&self) -> bool {
        matches!(self.phase.load(SeqCst), DUE | TAKING)
    }

    /// Lets the work take another turn if it has something to do; the request is woken after it.
    pub(super) fn go_on(self: &Arc<Self>, request: &Waker) -> GoOn {
        // Before looking: what happens from here on wakes it.
        self.request.register(request);
        match self.phase.load(SeqCst) {
            RESTING if self.is_woken.load(SeqCst) => self.leave_rest(),
            OVER => match self.end.take() {
                Some(End::Over(result)) => GoOn::Over(result),
                Some(End::Panicked(panic)) => GoOn::Panicked(panic),
                None => GoOn::Wait,
            },
            _ => GoOn::Wait,
        }
    }

    fn leave_rest(self: &Arc<Self>) -> GoOn {
        let earned = (self.elapsed() / WAITING_EARNS).min(LANE_THRESHOLD);
        if earned >= RETURN_AT
            && self.since.load(SeqCst) != NEVER
            && let Some(job) = self.take_back()
        {
            return GoOn::Here(job, earned);
        }
        self.mark();
        self.phase.store(DUE, SeqCst);
        self.queue();
        GoOn::Wait
    }

    /// The job, for the request's own task, if it rests.
    pub(super) fn take_back(&self) -> Option<Job> {
        let is_resting = self
            .phase
            .compare_exchange(RESTING, GONE, SeqCst, SeqCst)
            .is_ok();
        is_resting.then(|| self.job.take()).flatten()
    }

    fn queue(self: &Arc<Self>) {
        let turn: Arc<dyn Turn> = Arc::<Self>::clone(self);
        let terms = &self.terms;
        terms.lane.push(&terms.guest, terms.source, turn);
    }

    /// Drops the job, though not here, unless a thread of the lane has it: then that one does.
    pub(super) fn cancel(&self) {
        if matches!(self.phase.swap(GONE, SeqCst), RESTING | DUE)
            && let Some(job) = self.job.take()
        {
            let log = self.terms.log.clone();
            self.terms.lane.drop_aside((job, Finish(log)));
        }
    }

    /// Puts the job down again, where it waits for the request or for its next turn.
    fn put_down(self: &Arc<Self>, job: Job) {
        let has_answered = self.terms.has_answered.is_set();
        // Before its answer there is nothing that the request would have to look at.
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
            // It rests for the request's sake and waits for nothing.
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
            // The request has to see that the guest rests: if it waits for its client, the deadline stands still and its place can be
            // taken. A wake-up that came during the turn was left to this line as well.
            self.request.wake();
        }
    }

    fn settle(&self, end: End) {
        self.end.put(end);
        if self
            .phase
            .compare_exchange(TAKING, OVER, SeqCst, SeqCst)
            .is_ok()
        {
            self.request.wake();
        } else {
            // Nobody asks for it any more.
            drop(self.end.take());
            // Its run is over, and has logged what the guest had written by then.
            self.terms.log.finish();
        }
    }

    fn mark(&self) {
        self.since.store(nanos(self.start.elapsed()).max(1), SeqCst);
    }

    /// Since the last mark.
    fn elapsed(&self) -> Duration {
        let since = Duration::from_nanos(self.since.load(SeqCst));
        self.start.elapsed().saturating_sub(since)
    }
}

impl Turn for Ticket {
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
            Ok(Poll::Ready(result)) => End::Over(result),
            Err(panic) => End::Panicked(panic),
            Ok(Poll::Pending) => match self.terms.passed(computed) {
                Some(failure) => End::Over(Err(failure)),
                None => return self.put_down(job),
            },
        };
        // First the instance, so that its slot is free when the request hears of it.
        drop(job);
        self.settle(end);
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, SeqCst);
        // At its turn, the lane looks by itself.
        if self.phase.load(SeqCst) == RESTING {
            self.request.wake();
        }
    }
}

/// Logs what the guest has written on its way out.
struct Finish(GuestLog);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

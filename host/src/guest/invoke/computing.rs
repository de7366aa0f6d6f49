//! A guest's work and where it computes: with the request's own task at first, in the slow lane once it has computed for
//! long. In both it computes only while the request waits for it, one turn at a time: whoever drives the run looks at what
//! the guest has written before it goes on.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;

use crate::guest::error::GuestFailure;
use crate::guest::gate::Permit;
use crate::guest::lane::{Lane, Turn, thread_cpu_time};
use crate::guest::log::GuestLog;
use crate::guest::session_host::HasAnswered;
use crate::limits::LANE_THRESHOLD;

/// The guest's work, instance and all.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), GuestFailure>> + Send>>;

/// Which part of the time that a run has waited for something outside it may compute on the serving threads again.
const WAITING_EARNS: u32 = 10;
/// How much it must have earned to return to them.
const RETURN_AT: Duration = Duration::from_millis(1);

/// Work, and the slot that it holds.
struct Job {
    work: Work,
    _permit: Permit,
}

/// What a run needs to go into the slow lane.
pub(super) struct Terms {
    pub(super) lane: Arc<Lane>,
    /// Whose turns its turns are.
    pub(super) guest: Arc<str>,
    /// What earlier runs for the same request have computed.
    pub(super) computed: Duration,
    /// Longest time that all of them may compute.
    pub(super) cpu_time: Option<Duration>,
    pub(super) has_answered: HasAnswered,
    pub(super) log: GuestLog,
}

/// See the module. Dropping it drops the work: at once, or at the end of the turn that it takes in the lane.
pub(super) struct Computing {
    place: Place,
    terms: Arc<Terms>,
    computed: Duration,
    busy: Duration,
    /// What it may compute before it goes into the lane.
    allowance: Duration,
}

enum Place {
    /// On the request's own task.
    Here(Job),
    Lane(Arc<Ticket>),
    Over,
}

impl Computing {
    pub(super) fn new(work: Work, permit: Permit, terms: Terms) -> Self {
        let job = Job {
            work,
            _permit: permit,
        };
        Self {
            place: Place::Here(job),
            computed: terms.computed,
            busy: Duration::ZERO,
            terms: Arc::new(terms),
            allowance: LANE_THRESHOLD,
        }
    }

    /// Whether the work has ended or was dropped.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    /// What the runs for this request have computed, this one's last turn included.
    pub(super) fn computed(&self) -> Duration {
        match &self.place {
            Place::Lane(ticket) => ticket.lock().computed,
            Place::Here(_) | Place::Over => self.computed,
        }
    }

    /// How long this run has computed or, in the lane, wanted to.
    pub(super) fn busy(&self) -> Duration {
        match &self.place {
            Place::Lane(ticket) => self.busy + ticket.lock().busy(),
            Place::Here(_) | Place::Over => self.busy,
        }
    }

    /// Whether it computes right now, or is about to.
    pub(super) fn is_at_its_turn(&self) -> bool {
        match &self.place {
            Place::Lane(ticket) => matches!(ticket.lock().state, State::Due(_) | State::Taking),
            Place::Here(_) | Place::Over => false,
        }
    }

    /// Drops the work.
    pub(super) fn end(&mut self) {
        (self.computed, self.busy) = (self.computed(), self.busy());
        if let Place::Lane(ticket) = std::mem::replace(&mut self.place, Place::Over) {
            ticket.cancel();
        }
    }

    /// Lets the guest compute on: here and now, or in the lane; then whoever polls is woken after the turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        if let Place::Lane(ticket) = &self.place {
            match ticket.go_on(cx.waker()) {
                GoOn::Wait => return Poll::Pending,
                GoOn::Over(result) => {
                    self.end();
                    return Poll::Ready(result);
                }
                GoOn::Panicked(panic) => {
                    self.end();
                    resume_unwind(panic);
                }
                GoOn::Here(job, earned) => {
                    (self.computed, self.busy) = (self.computed(), self.busy());
                    self.allowance = earned;
                    self.place = Place::Here(job);
                }
            }
        }
        self.poll_here(cx)
    }

    fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        let Place::Here(job) = &mut self.place else {
            return Poll::Pending;
        };
        let started = Instant::now();
        // tokio's budget would make channels between guest and host seem to wait although they do not.
        let polled = pin!(unconstrained(&mut job.work)).poll(cx);
        let took = started.elapsed();
        self.computed += took;
        self.busy += took;
        self.allowance = self.allowance.saturating_sub(took);
        match polled {
            Poll::Ready(result) => {
                self.place = Place::Over;
                Poll::Ready(result)
            }
            Poll::Pending => match self.terms.passed(self.computed) {
                Some(failure) => {
                    self.place = Place::Over;
                    Poll::Ready(Err(failure))
                }
                None => {
                    if self.allowance.is_zero() {
                        self.move_to_lane();
                    }
                    Poll::Pending
                }
            },
        }
    }

    fn move_to_lane(&mut self) {
        if let Place::Here(job) = std::mem::replace(&mut self.place, Place::Over) {
            let terms = Arc::clone(&self.terms);
            self.place = Place::Lane(Arc::new(Ticket::new(job, terms, self.computed)));
        }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.end();
    }
}

impl Terms {
    fn passed(&self, computed: Duration) -> Option<GuestFailure> {
        let cpu_time = self.cpu_time.filter(|max| computed > *max)?;
        Some(GuestFailure::CpuTime { cpu_time })
    }
}

/// A run in the lane. Never locked while the guest computes.
struct Ticket {
    terms: Arc<Terms>,
    /// The runtime of the request: the guest's timers and connections belong to it.
    runtime: Handle,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    computed: Duration,
    busy: Duration,
    /// Since when it has been busy without a rest.
    busy_since: Option<Instant>,
    /// Whether the work has something to do.
    is_woken: bool,
    /// Since when it waits for something outside.
    waits_since: Option<Instant>,
    request: Option<Waker>,
}

enum State {
    /// Until the request says go on.
    Resting(Job),
    /// In the lane's queue.
    Due(Job),
    /// On a thread of the lane.
    Taking,
    Over(Result<(), GuestFailure>),
    Panicked(Box<dyn Any + Send>),
    /// Nobody wants it any more.
    Gone,
}

/// What a request is told that wants its guest to go on.
enum GoOn {
    Wait,
    Over(Result<(), GuestFailure>),
    Panicked(Box<dyn Any + Send>),
    /// It has waited for long: it may compute on the request's task again, for so long.
    Here(Job, Duration),
}

impl Inner {
    fn busy(&self) -> Duration {
        let since = self.busy_since.map(|since| since.elapsed());
        self.busy + since.unwrap_or_default()
    }
}

impl Ticket {
    fn new(job: Job, terms: Arc<Terms>, computed: Duration) -> Self {
        Self {
            terms,
            runtime: Handle::current(),
            inner: Mutex::new(Inner {
                state: State::Resting(job),
                computed,
                busy: Duration::ZERO,
                busy_since: None,
                // Whatever it waits for wakes the request's task still.
                is_woken: true,
                waits_since: None,
                request: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on(self: &Arc<Self>, request: &Waker) -> GoOn {
        let mut inner = self.lock();
        match &mut inner.request {
            Some(known) => known.clone_from(request),
            unknown => *unknown = Some(request.clone()),
        }
        match std::mem::replace(&mut inner.state, State::Gone) {
            State::Resting(job) if inner.is_woken => {
                let waited = inner.waits_since.take().map(|since| since.elapsed());
                let earned = (waited.unwrap_or_default() / WAITING_EARNS).min(LANE_THRESHOLD);
                if earned >= RETURN_AT {
                    return GoOn::Here(job, earned);
                }
                inner.state = State::Due(job);
                inner.busy_since = Some(Instant::now());
                drop(inner);
                self.queue();
                GoOn::Wait
            }
            State::Over(result) => GoOn::Over(result),
            State::Panicked(panic) => GoOn::Panicked(panic),
            waiting @ (State::Resting(_) | State::Due(_) | State::Taking | State::Gone) => {
                inner.state = waiting;
                GoOn::Wait
            }
        }
    }

    fn queue(self: &Arc<Self>) {
        let turn: Arc<dyn Turn> = Arc::<Self>::clone(self);
        self.terms.lane.push(&self.terms.guest, turn);
    }

    /// Drops the job here, unless a thread of the lane has it: then that one does.
    fn cancel(&self) {
        let state = std::mem::replace(&mut self.lock().state, State::Gone);
        drop(state);
    }

    /// Puts the job down again; true if it is due at once.
    fn put_down(&self, job: Job, inner: &mut Inner) -> bool {
        let has_answered = self.terms.has_answered.is_set();
        // Before its answer there is nothing that the request would have to look at.
        if inner.is_woken && !has_answered {
            inner.state = State::Due(job);
            return true;
        }
        inner.state = State::Resting(job);
        inner.busy = inner.busy();
        inner.busy_since = None;
        inner.waits_since = (!inner.is_woken).then(Instant::now);
        if has_answered && let Some(request) = &inner.request {
            request.wake_by_ref();
        }
        false
    }

    fn settle(&self, state: State, computed: Duration) {
        let mut inner = self.lock();
        inner.computed = computed;
        if !matches!(inner.state, State::Taking) {
            // Its run is over, and has logged what the guest had written by then.
            return self.terms.log.finish();
        }
        inner.state = state;
        if let Some(request) = inner.request.take() {
            request.wake();
        }
    }
}

impl Turn for Ticket {
    fn take(self: Arc<Self>) {
        let (mut job, computed) = {
            let mut inner = self.lock();
            match std::mem::replace(&mut inner.state, State::Taking) {
                State::Due(job) => {
                    inner.is_woken = false;
                    (job, inner.computed)
                }
                other => {
                    inner.state = other;
                    return;
                }
            }
        };
        let _runtime = self.runtime.enter();
        let waker = Waker::from(Arc::clone(&self));
        let before = thread_cpu_time();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            pin!(unconstrained(&mut job.work)).poll(&mut Context::from_waker(&waker))
        }));
        let computed = computed + thread_cpu_time().saturating_sub(before);
        let end = match polled {
            Ok(Poll::Ready(result)) => State::Over(result),
            Err(panic) => State::Panicked(panic),
            Ok(Poll::Pending) => match self.terms.passed(computed) {
                Some(failure) => State::Over(Err(failure)),
                None => {
                    let mut inner = self.lock();
                    inner.computed = computed;
                    if !matches!(inner.state, State::Gone) {
                        if self.put_down(job, &mut inner) {
                            drop(inner);
                            self.queue();
                        }
                        return;
                    }
                    State::Gone
                }
            },
        };
        // First the instance, so that its slot is free when the request hears of it.
        drop(job);
        self.settle(end, computed);
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.is_woken = true;
        // While it is at its turn, the lane looks by itself.
        if matches!(inner.state, State::Resting(_))
            && let Some(request) = &inner.request
        {
            request.wake_by_ref();
        }
    }
}

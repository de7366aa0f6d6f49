//! A guest's work and where it computes: with the request's own task at first, in the slow lane once it has computed for
//! long. In both it computes only while the request waits for it, one turn at a time: whoever drives the run looks at what
//! the guest has written before it goes on.

#[cfg(test)]
mod tests;
mod ticket;

use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop::unconstrained;

use self::ticket::{GoOn, Ticket};
use crate::guest::caller::HasAnswered;
use crate::guest::error::GuestFailure;
use crate::guest::gate::Permit;
use crate::guest::lane::{Habit, Lane};
use crate::guest::log::GuestLog;
use crate::guest::shelf::Kept;
use crate::limits::LANE_THRESHOLD;
use crate::quota::Source;

/// The guest's work, instance and all.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How work ends: with its instance, if that may serve another request.
pub(super) type Done = Result<Option<Box<Kept>>, GuestFailure>;

/// What a run may compute at a time, more or less, before it is made to let go of its thread.
const TURN: Duration = Duration::from_micros(500);

/// Work, and the slot that it holds.
struct Job {
    work: Work,
    _permit: Permit,
}

/// What a run needs to go into the slow lane.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) lane: Arc<Lane>,
    pub(super) habit: Arc<Habit>,
    /// The guest and the connection that its turns count for.
    pub(super) guest: Arc<str>,
    pub(super) source: Source,
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
    terms: Terms,
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
        let mut computing = Self {
            place: Place::Here(job),
            computed: terms.computed,
            busy: Duration::ZERO,
            terms,
            allowance: LANE_THRESHOLD,
        };
        if computing.terms.habit.is_slow() {
            computing.move_to_lane();
        }
        computing
    }

    /// Whether the work has ended or was dropped.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    /// What the runs for this request have computed, this one's last turn included.
    pub(super) fn computed(&self) -> Duration {
        match &self.place {
            Place::Lane(ticket) => ticket.computed(),
            Place::Here(_) | Place::Over => self.computed,
        }
    }

    /// How long this run has computed or, in the lane, wanted to.
    pub(super) fn busy(&self) -> Duration {
        match &self.place {
            Place::Lane(ticket) => self.busy + ticket.busy(),
            Place::Here(_) | Place::Over => self.busy,
        }
    }

    /// Whether it computes right now, or is about to.
    pub(super) fn is_at_its_turn(&self) -> bool {
        match &self.place {
            Place::Lane(ticket) => ticket.is_at_its_turn(),
            Place::Here(_) | Place::Over => false,
        }
    }

    /// The work is done, though it does not say so: drops it.
    pub(super) fn end(&mut self) {
        self.note_end();
        self.drop_work();
    }

    /// The work is done and knows that it may end: lets it, here and now, and gives what it leaves.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>) -> Option<Box<Kept>> {
        if let Place::Lane(ticket) = &self.place
            && let Some(job) = ticket.take_back()
        {
            (self.computed, self.busy) = (self.computed(), self.busy());
            self.place = Place::Here(job);
        }
        match self.poll_here(cx) {
            Poll::Ready(Ok(instance)) => instance,
            // Something in it goes on: it goes as one that is not kept.
            Poll::Ready(Err(_)) | Poll::Pending => {
                self.drop_work();
                None
            }
        }
    }

    fn note_end(&self) {
        if self.computed().saturating_sub(self.terms.computed) < LANE_THRESHOLD {
            self.terms.habit.was_quick();
        }
    }

    /// Drops the work, done or not.
    pub(super) fn drop_work(&mut self) {
        (self.computed, self.busy) = (self.computed(), self.busy());
        if let Place::Lane(ticket) = std::mem::replace(&mut self.place, Place::Over) {
            ticket.cancel();
        }
    }

    /// Lets the guest compute on: here and now, or in the lane; then whoever polls is woken after the turn.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if let Place::Lane(ticket) = &self.place {
            match ticket.go_on(cx.waker()) {
                GoOn::Wait => return Poll::Pending,
                GoOn::Over(result) => {
                    self.end();
                    return Poll::Ready(result);
                }
                GoOn::Panicked(panic) => {
                    self.drop_work();
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

    fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
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
                self.note_end();
                Poll::Ready(result)
            }
            Poll::Pending => match self.terms.passed(self.computed) {
                Some(failure) => {
                    self.place = Place::Over;
                    Poll::Ready(Err(failure))
                }
                None => {
                    if self.allowance.is_zero() {
                        self.terms.habit.was_slow();
                        self.move_to_lane();
                    } else if took >= TURN && self.terms.habit.is_slow() {
                        self.move_to_lane();
                    }
                    Poll::Pending
                }
            },
        }
    }

    fn move_to_lane(&mut self) {
        if let Place::Here(job) = std::mem::replace(&mut self.place, Place::Over) {
            let terms = self.terms.clone();
            self.place = Place::Lane(Arc::new(Ticket::new(job, terms, self.computed)));
        }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.drop_work();
    }
}

impl Terms {
    fn passed(&self, computed: Duration) -> Option<GuestFailure> {
        let cpu_time = self.cpu_time.filter(|max| computed > *max)?;
        Some(GuestFailure::CpuTime { cpu_time })
    }
}

//! A guest's work and the place where it computes: on the request's own task at first, and in the background pool once it has computed for
//! long. In both places it computes only while the request waits for it, one turn at a time. The driver of the run looks at the guest's
//! output before the guest runs on.

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

/// The guest's work, including its instance.
pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The result of the work: its instance, if that may serve another request.
pub(super) type Done = Result<Option<Box<Kept>>, GuestFailure>;

/// Time that a run may compute in one turn, approximately, before it must yield its thread.
const TURN: Duration = Duration::from_micros(500);

/// The work and its permit.
struct Job {
    work: Work,
    _permit: Permit,
}

/// The data that a run needs to enter the background pool.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) lane: Arc<Lane>,
    pub(super) habit: Arc<Habit>,
    /// The guest and the connection that its turns are attributed to.
    pub(super) guest: Arc<str>,
    pub(super) source: Source,
    /// Time that earlier runs for the same request have computed.
    pub(super) computed: Duration,
    /// Longest time that all runs for the request may compute.
    pub(super) cpu_time: Option<Duration>,
    pub(super) has_answered: HasAnswered,
    pub(super) log: GuestLog,
}

/// Work that can move to the background pool. Dropping this drops the work: at once, or at the end of its current turn in the pool.
pub(super) struct Computing {
    place: Place,
    terms: Terms,
    computed: Duration,
    busy: Duration,
    /// Time that it may still compute before it moves to the background pool.
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

    /// Returns whether the work has ended or was dropped.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.place, Place::Over)
    }

    /// Returns how long the runs for this request have computed, including the last turn of this run.
    pub(super) fn computed(&self) -> Duration {
        match &self.place {
            Place::Lane(ticket) => ticket.computed(),
            Place::Here(_) | Place::Over => self.computed,
        }
    }

    /// Returns how long this run has computed or, in the background pool, wanted to.
    pub(super) fn busy(&self) -> Duration {
        match &self.place {
            Place::Lane(ticket) => self.busy + ticket.busy(),
            Place::Here(_) | Place::Over => self.busy,
        }
    }

    /// Returns whether it computes now or is about to.
    pub(super) fn is_at_its_turn(&self) -> bool {
        match &self.place {
            Place::Lane(ticket) => ticket.is_at_its_turn(),
            Place::Here(_) | Place::Over => false,
        }
    }

    /// Drops the work, which is done although its future has not ended.
    pub(super) fn end(&mut self) {
        self.note_end();
        self.drop_work();
    }

    /// Lets work end that is done and knows that it may end, on the calling task. Returns the instance that it leaves.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>) -> Option<Box<Kept>> {
        if let Place::Lane(ticket) = &self.place
            && let Some(job) = ticket.take_back()
        {
            (self.computed, self.busy) = (self.computed(), self.busy());
            self.place = Place::Here(job);
        }
        match self.poll_here(cx) {
            Poll::Ready(Ok(instance)) => instance,
            // Part of the work still runs or has failed, so its instance is dropped.
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

    /// Drops the work, whether or not it is done.
    pub(super) fn drop_work(&mut self) {
        (self.computed, self.busy) = (self.computed(), self.busy());
        if let Place::Lane(ticket) = std::mem::replace(&mut self.place, Place::Over) {
            ticket.cancel();
        }
    }

    /// Lets the guest compute, on the calling task or in the background pool. In the latter case the caller is woken after the turn.
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
        // tokio's budget would make channels between guest and host appear to be pending although they are not.
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

//! A guest's work and the place where it computes: on the request's own task at first, and in the background pool once it has computed for
//! long. In both places it computes only while the request waits for it, one turn at a time. The driver of the run looks at the guest's
//! output before the guest runs on.

mod offloaded;
#[cfg(test)]
mod tests;

use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::coop::unconstrained;

use self::offloaded::{OffloadedRun, ResumeDecision};
use crate::interfaces::head_set::HeadSet;
use crate::interfaces::log::GuestLog;
use crate::run::background::{BackgroundPool, SlowHistory};
use crate::run::concurrency::InstancePermit;
use crate::run::error::GuestFailure;
use crate::run::idle::IdleInstance;
use cloakroom_base::quota::ClientConnection;

/// The guest's work, including its instance.
pub(crate) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The result of the work: its instance, if that may serve another request.
pub(crate) type Done = Result<Option<Box<IdleInstance>>, GuestFailure>;

/// Time that a run may compute in one turn, approximately, before it must yield its thread.
const TURN: Duration = Duration::from_micros(500);

/// The work and its permit.
struct OffloadJob {
    work: Work,
    _permit: InstancePermit,
}

/// The data that a run needs to enter the background pool.
#[derive(Clone)]
pub(crate) struct OffloadTerms {
    pub(crate) background: Arc<BackgroundPool>,
    pub(crate) slow_history: Arc<SlowHistory>,
    /// The guest and the connection that its turns are attributed to.
    pub(crate) guest: Arc<str>,
    pub(crate) source: ClientConnection,
    /// Time that earlier runs for the same request have computed.
    pub(crate) computed: Duration,
    /// Longest time that all runs for the request may compute.
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) has_answered: HeadSet,
    pub(crate) log: GuestLog,
}

/// Work that can move to the background pool. Dropping this drops the work: at once, or at the end of its current turn in the pool.
pub(crate) struct OffloadableWork {
    place: WorkPlace,
    terms: OffloadTerms,
    computed: Duration,
    busy: Duration,
    /// Time that it may still compute before it moves to the background pool.
    allowance: Duration,
}

enum WorkPlace {
    /// On the request's own task.
    OnTask(OffloadJob),
    Background(Arc<OffloadedRun>),
    Ended,
}

impl OffloadableWork {
    pub(crate) fn new(work: Work, permit: InstancePermit, terms: OffloadTerms) -> Self {
        let job = OffloadJob {
            work,
            _permit: permit,
        };
        let mut computing = Self {
            place: WorkPlace::OnTask(job),
            computed: terms.computed,
            busy: Duration::ZERO,
            allowance: terms.background.after,
            terms,
        };
        if computing.terms.slow_history.is_slow() {
            computing.move_to_background();
        }
        computing
    }

    /// Returns whether the work has ended or was dropped.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.place, WorkPlace::Ended)
    }

    /// Returns how long the runs for this request have computed, including the last turn of this run.
    pub(crate) fn computed(&self) -> Duration {
        match &self.place {
            WorkPlace::Background(offloaded) => offloaded.computed(),
            WorkPlace::OnTask(_) | WorkPlace::Ended => self.computed,
        }
    }

    /// Returns how long this run has computed or, in the background pool, wanted to.
    pub(crate) fn busy(&self) -> Duration {
        match &self.place {
            WorkPlace::Background(offloaded) => self.busy + offloaded.busy(),
            WorkPlace::OnTask(_) | WorkPlace::Ended => self.busy,
        }
    }

    /// Returns whether it computes now or is about to.
    pub(crate) fn is_runnable(&self) -> bool {
        match &self.place {
            WorkPlace::Background(offloaded) => offloaded.is_runnable(),
            WorkPlace::OnTask(_) | WorkPlace::Ended => false,
        }
    }

    /// Drops the work, which is done although its future has not ended.
    pub(crate) fn end(&mut self) {
        self.note_end();
        self.drop_work();
    }

    /// Lets work end that is done and knows that it may end, on the calling task. Returns the instance that it leaves.
    pub(crate) fn finish(&mut self, cx: &mut Context<'_>) -> Option<Box<IdleInstance>> {
        if let WorkPlace::Background(offloaded) = &self.place
            && let Some(job) = offloaded.take_back()
        {
            (self.computed, self.busy) = (self.computed(), self.busy());
            self.place = WorkPlace::OnTask(job);
        }
        match self.poll_on_task(cx) {
            Poll::Ready(Ok(instance)) => instance,
            // Part of the work still runs or has failed, so its instance is dropped.
            Poll::Ready(Err(_)) | Poll::Pending => {
                self.drop_work();
                None
            }
        }
    }

    fn note_end(&self) {
        if self.computed().saturating_sub(self.terms.computed) < self.terms.background.after {
            self.terms.slow_history.record_quick();
        }
    }

    /// Drops the work, whether or not it is done.
    pub(crate) fn drop_work(&mut self) {
        (self.computed, self.busy) = (self.computed(), self.busy());
        if let WorkPlace::Background(offloaded) =
            std::mem::replace(&mut self.place, WorkPlace::Ended)
        {
            offloaded.cancel();
        }
    }

    /// Lets the guest compute, on the calling task or in the background pool. In the latter case the caller is woken after the turn.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        if let WorkPlace::Background(offloaded) = &self.place {
            match offloaded.resume(cx.waker()) {
                ResumeDecision::Wait => return Poll::Pending,
                ResumeDecision::Ended(result) => {
                    self.end();
                    return Poll::Ready(result);
                }
                ResumeDecision::Panicked(panic) => {
                    self.drop_work();
                    resume_unwind(panic);
                }
                ResumeDecision::OnTask(job, earned) => {
                    (self.computed, self.busy) = (self.computed(), self.busy());
                    self.allowance = earned;
                    self.place = WorkPlace::OnTask(job);
                }
            }
        }
        self.poll_on_task(cx)
    }

    fn poll_on_task(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        let WorkPlace::OnTask(job) = &mut self.place else {
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
                self.place = WorkPlace::Ended;
                self.note_end();
                Poll::Ready(result)
            }
            Poll::Pending => match self.terms.passed(self.computed) {
                Some(failure) => {
                    self.place = WorkPlace::Ended;
                    Poll::Ready(Err(failure))
                }
                None => {
                    if self.allowance.is_zero() {
                        self.terms.slow_history.record_slow();
                        self.move_to_background();
                    } else if took >= TURN && self.terms.slow_history.is_slow() {
                        self.move_to_background();
                    }
                    Poll::Pending
                }
            },
        }
    }

    fn move_to_background(&mut self) {
        if let WorkPlace::OnTask(job) = std::mem::replace(&mut self.place, WorkPlace::Ended) {
            let terms = self.terms.clone();
            self.place =
                WorkPlace::Background(Arc::new(OffloadedRun::new(job, terms, self.computed)));
        }
    }
}

impl Drop for OffloadableWork {
    fn drop(&mut self) {
        self.drop_work();
    }
}

impl OffloadTerms {
    fn passed(&self, computed: Duration) -> Option<GuestFailure> {
        let cpu_time = self.cpu_time.filter(|max| computed > *max)?;
        Some(GuestFailure::CpuTime { cpu_time })
    }
}

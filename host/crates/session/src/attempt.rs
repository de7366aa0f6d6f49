//! The work that a transaction runs, and runs again after a conflict.

use crate::handle::Session;

/// The work of one request: the guest, which is run as often as its session requires.
pub trait Attempt: Send {
    /// The value that is released once the session is committed. Dropping it ends the run behind it.
    type Answer: Send;
    /// The reason why a run gave no answer.
    type Failure: Send;

    /// Runs the guest once, from the start, on its own instance, up to the release point. `number` counts from 1.
    ///
    /// When a call on `session` returns [`Interrupted`](crate::SessionCallError::Interrupted), the run must end. It may return any
    /// failure, because the caller knows the reason.
    ///
    /// # Errors
    /// Fails when the guest gave no answer. Such a run commits only changes that the guest has saved.
    fn run(
        &mut self,
        session: Session,
        number: u32,
    ) -> impl Future<Output = Result<Self::Answer, Self::Failure>> + Send;

    /// Returns whether the attempt may be run again. Called after a conflict, when the last run has ended.
    fn replay(&self) -> ReplayPolicy;
}

/// Whether an [`Attempt`] may be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayPolicy {
    /// The run had no effect outside of the sandbox, and the request can be given to the guest again.
    Possible,
    /// The guest had an effect on the outside that must not happen twice.
    EffectMade,
    /// The request's body was too long to be kept.
    BodyGone,
}

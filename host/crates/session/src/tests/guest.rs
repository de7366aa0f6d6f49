//! A guest that is a closure. The closure is called once per run, with the run's session and number.

use super::super::{
    Attempt, CookieChange, ReplayPolicy, Session, SessionCallError, SessionError,
    TransactionOutcome, TransactionRefusal,
};

/// Why a run of a test guest gave no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// A call was interrupted; the transaction knows the reason.
    Interrupted,
    /// A call was refused, and the guest gave up.
    Told(SessionError),
    /// The guest itself failed.
    OfItself,
}

impl From<SessionCallError> for Trap {
    fn from(error: SessionCallError) -> Self {
        match error {
            SessionCallError::Interrupted => Self::Interrupted,
            SessionCallError::Guest(error) => Self::Told(error),
        }
    }
}

/// A guest that is a closure.
pub(crate) struct Guest<F> {
    body: F,
    replay: ReplayPolicy,
    /// Runs so far.
    pub(crate) runs: u32,
}

/// Returns a guest that may be run again.
pub(crate) fn guest<F, Fut>(body: F) -> Guest<F>
where
    F: FnMut(Session, u32) -> Fut,
{
    guest_with(ReplayPolicy::Possible, body)
}

/// Returns a guest whose [`Attempt::replay`] returns `replay`.
pub(crate) fn guest_with<F, Fut>(replay: ReplayPolicy, body: F) -> Guest<F>
where
    F: FnMut(Session, u32) -> Fut,
{
    let runs = 0;
    Guest { body, replay, runs }
}

/// Returns a guest that increments `n` and answers with the sum.
pub(crate) fn bump() -> impl Attempt<Answer = i64, Failure = Trap> {
    guest(|session, _| async move { Ok(session.increment("n", 1).await?) })
}

impl<F, Fut, A> Attempt for Guest<F>
where
    F: FnMut(Session, u32) -> Fut + Send,
    Fut: Future<Output = Result<A, Trap>> + Send,
    A: Send,
{
    type Answer = A;
    type Failure = Trap;

    async fn run(&mut self, session: Session, number: u32) -> Result<A, Trap> {
        self.runs += 1;
        assert_eq!(number, self.runs, "runs are counted from 1");
        (self.body)(session, number).await
    }

    fn replay(&self) -> ReplayPolicy {
        self.replay
    }
}

/// Returns the answer of a committed transaction, and the cookie change.
#[track_caller]
pub(crate) fn answered<A: std::fmt::Debug>(
    outcome: TransactionOutcome<A, Trap>,
) -> (A, CookieChange) {
    match outcome {
        TransactionOutcome::Answered { answer, cookie } => (answer, cookie),
        other => panic!("not answered: {other:?}"),
    }
}

/// Returns the reason why a transaction was given up, and the cookie change.
#[track_caller]
pub(crate) fn refused<A: std::fmt::Debug>(
    outcome: TransactionOutcome<A, Trap>,
) -> (TransactionRefusal, CookieChange) {
    match outcome {
        TransactionOutcome::Refused { refusal, cookie } => (refusal, cookie),
        other => panic!("not refused: {other:?}"),
    }
}

/// Returns the reason why a guest gave no answer, and the cookie change.
#[track_caller]
pub(crate) fn failed<A: std::fmt::Debug>(
    outcome: TransactionOutcome<A, Trap>,
) -> (Trap, CookieChange) {
    match outcome {
        TransactionOutcome::Failed { failure, cookie } => (failure, cookie),
        other => panic!("not failed: {other:?}"),
    }
}

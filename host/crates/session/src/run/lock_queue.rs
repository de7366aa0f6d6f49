//! How a run waits for the session lock. At its release, a waiting run offers its changes for folding, so that the lock's
//! holder may commit them; a run that holds the lock includes the changes of waiting runs.

use std::sync::Arc;

use super::{RunStop, SessionRun};
use crate::fold::{FoldCandidate, FoldResult, FoldedCommit};
use crate::options::SessionOptions;
use crate::outcome::TransactionRefusal;
use crate::policy::{CommitRequest, CommitTrigger};
use crate::start::LoadPhase;
use crate::store::StoreErrorKind;
use crate::transaction::{CommitDecision, PlannedCommit};

/// Whether the changes of several runs may be written by one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folding {
    Allowed,
    /// The commit writes no row that other runs could continue, the guest waits for it, or folding is turned off.
    Excluded,
}

impl Folding {
    pub(crate) fn of(
        options: &SessionOptions,
        trigger: CommitTrigger,
        planned: &PlannedCommit,
    ) -> Self {
        match trigger {
            CommitTrigger::Release if options.fold_commits && planned.is_replacement() => {
                Self::Allowed
            }
            CommitTrigger::Release | CommitTrigger::Save => Self::Excluded,
        }
    }
}

impl SessionRun {
    /// Returns whether requests contend for this session while this run does not hold its lock.
    pub(crate) fn must_wait_for_lock(&mut self) -> bool {
        if self.lock.is_taken() {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        let base = self.transaction().ok().and_then(|t| t.base());
        base.is_some_and(|base| shared.locks.is_contended(&base.id))
    }

    /// Waits for the session lock, unless the run has it or its session has no row.
    ///
    /// # Errors
    /// [`TransactionRefusal::Busy`] when the lock was not available in time.
    pub(crate) async fn acquire_lock(&mut self) -> Result<(), RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(());
        };
        let (deadline, reservation) = (self.deadline(), self.reservation.clone());
        let locks = &self.shared.locks;
        self.lock.acquire(locks, &id, deadline, reservation).await?;
        Ok(())
    }

    /// Waits for the session lock. If folding is allowed and the lock's holder writes this run's changes, returns the
    /// decision that they were written by. `None` means that this run holds the lock.
    ///
    /// # Errors
    /// [`TransactionRefusal::Busy`] when the lock was not available in time. [`TransactionRefusal::StoreUnavailable`] when the
    /// commit that included the changes failed.
    pub(crate) async fn wait_for_lock(
        &mut self,
        folding: Folding,
    ) -> Result<Option<Box<CommitDecision>>, RunStop> {
        match folding {
            Folding::Allowed => self.wait_or_fold().await,
            Folding::Excluded => self.acquire_lock().await.map(|()| None),
        }
    }

    async fn wait_or_fold(&mut self) -> Result<Option<Box<CommitDecision>>, RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(None);
        };
        let position = self.shared.locks.enter_queue(&id)?;
        let queue = Arc::clone(position.fold_queue());
        let (number, mut result) = queue.offer(self.take_candidate()?);
        let granted = tokio::select! {
            biased;
            result = &mut result => return self.put_back(result.ok()),
            granted = position.wait(self.deadline(), self.reservation.clone()) => granted,
        };
        match queue.withdraw(number) {
            Some(transaction) => self.phase = LoadPhase::Open(transaction),
            // The changes are part of a commit. A commit that was sent is settled, even after the deadline.
            None => {
                if let Some(decision) = self.put_back(result.await.ok())? {
                    return Ok(Some(decision));
                }
            }
        }
        self.lock.hold(granted?);
        Ok(None)
    }

    /// Hands the transaction to the queue, so that the lock's holder can commit it.
    fn take_candidate(&mut self) -> Result<FoldCandidate, RunStop> {
        let request = self.commit_request(CommitTrigger::Release);
        let failed = LoadPhase::Failed(StoreErrorKind::Unavailable);
        match std::mem::replace(&mut self.phase, failed) {
            LoadPhase::Open(transaction) => Ok(FoldCandidate {
                transaction,
                request,
            }),
            LoadPhase::Loading { .. } | LoadPhase::Failed(_) => {
                Err(TransactionRefusal::StoreUnavailable.into())
            }
        }
    }

    /// Takes the transaction back. If the sender was dropped without a result, the transaction is lost.
    fn put_back(
        &mut self,
        result: Option<FoldResult>,
    ) -> Result<Option<Box<CommitDecision>>, RunStop> {
        let unavailable = TransactionRefusal::StoreUnavailable;
        let (transaction, decision) = match result.ok_or(unavailable)? {
            FoldResult::Committed(transaction, decision) => (transaction, Ok(Some(decision))),
            FoldResult::Returned(transaction) => (transaction, Ok(None)),
            FoldResult::Failed(transaction) => (transaction, Err(unavailable.into())),
        };
        self.phase = LoadPhase::Open(transaction);
        decision
    }

    /// Folds the changes of runs that wait for the held lock into the planned commit.
    pub(crate) fn fold_waiting(&self, planned: &mut PlannedCommit, now_ms: i64) -> FoldedCommit {
        let options = &self.shared.options;
        let queue = self.lock.fold_queue_of(&planned.commit.id);
        let folded = queue.map(|queue| queue.fold_into(planned, options, now_ms));
        folded.unwrap_or_default()
    }

    /// Returns the facts about a commit of this run that its transaction does not know.
    pub(crate) fn commit_request(&self, trigger: CommitTrigger) -> CommitRequest {
        CommitRequest {
            trigger,
            link: self.link,
            is_saved: self.is_saved,
        }
    }
}

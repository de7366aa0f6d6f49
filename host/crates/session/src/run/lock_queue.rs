//! Folding from the side of a run: a run that waits for the session lock may have its changes committed by the holder, and
//! a run that holds the lock includes the changes of waiting runs.

use std::sync::Arc;

use super::{LoadPhase, RunStop, SessionRun, SnapshotCheck};
use crate::fold::{FoldCandidate, FoldResult, FoldedCommit, FoldedOutcome};
use crate::lock::LockUnavailable;
use crate::store::StoreErrorKind;
use crate::transaction::PlannedCommit;

impl SessionRun {
    /// Waits for the session lock while its changes are offered for folding. If the lock's holder writes them, returns the
    /// result. `None` means that this run holds the lock.
    ///
    /// # Errors
    /// [`RunStop::Busy`] when the lock was not available in time. [`RunStop::Store`] when the commit that included the changes failed.
    pub(crate) async fn wait_or_fold(&mut self) -> Result<Option<Box<FoldedOutcome>>, RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(None);
        };
        let locks = Arc::clone(&self.manager.locks);
        let position = locks.enter_queue(&id).map_err(busy)?;
        let queue = Arc::clone(position.fold_queue());
        let (number, mut result) = queue.offer(self.take_candidate()?);
        let granted = tokio::select! {
            biased;
            result = &mut result => return self.put_back(result.ok()),
            granted = position.wait(self.deadline(), self.place.clone()) => granted,
        };
        match queue.withdraw(number) {
            Some(transaction) => self.phase = LoadPhase::Open(transaction),
            // The changes are part of a commit. A commit that was sent is settled, even after the deadline.
            None => {
                if let Some(outcome) = self.put_back(result.await.ok())? {
                    return Ok(Some(outcome));
                }
            }
        }
        self.lock.hold(granted.map_err(busy)?);
        Ok(None)
    }

    /// Hands the transaction to the queue, so that the lock's holder can commit it.
    fn take_candidate(&mut self) -> Result<FoldCandidate, RunStop> {
        let (link, is_saved) = (self.link, self.is_saved);
        let down = LoadPhase::Down(StoreErrorKind::Unavailable);
        match std::mem::replace(&mut self.phase, down) {
            LoadPhase::Open(transaction) => Ok(FoldCandidate {
                transaction,
                link,
                is_saved,
            }),
            LoadPhase::Loading { .. } | LoadPhase::Down(_) => Err(RunStop::Store),
        }
    }

    /// Takes the transaction back. If the sender was dropped without a result, the transaction is lost.
    fn put_back(
        &mut self,
        result: Option<FoldResult>,
    ) -> Result<Option<Box<FoldedOutcome>>, RunStop> {
        let (transaction, outcome) = match result.ok_or(RunStop::Store)? {
            FoldResult::Committed(transaction, outcome) => (transaction, Ok(Some(outcome))),
            FoldResult::Returned(transaction) => (transaction, Ok(None)),
            FoldResult::Failed(transaction) => (transaction, Err(RunStop::Store)),
        };
        self.phase = LoadPhase::Open(transaction);
        outcome
    }

    /// Continues after another run's commit has written this run's changes. That commit also confirms the row that this run
    /// had started from.
    pub(crate) fn finish_folded(&mut self, outcome: Box<FoldedOutcome>) -> Result<(), RunStop> {
        let FoldedOutcome {
            facts,
            write,
            planned,
            now_ms,
        } = *outcome;
        self.check = SnapshotCheck::Done;
        self.manager.counters.folded_commits.add_one();
        match planned {
            Some(planned) => self.continue_on(&facts, write, planned),
            None => self.finish_unwritten(&facts, write, now_ms),
        }
    }

    /// Folds the changes of runs that wait for the held lock into the planned commit.
    pub(crate) fn fold_waiting(&self, planned: &mut PlannedCommit, now_ms: i64) -> FoldedCommit {
        let options = &self.manager.options;
        let queue = self.lock.fold_queue_of(&planned.commit.id);
        let folded = queue.map(|queue| queue.fold_into(planned, options, now_ms));
        folded.unwrap_or_default()
    }
}

fn busy(_: LockUnavailable) -> RunStop {
    RunStop::Busy
}

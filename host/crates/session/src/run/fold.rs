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
    pub(crate) async fn ride(&mut self) -> Result<Option<Box<FoldedOutcome>>, RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(None);
        };
        let slots = Arc::clone(&self.manager.slots);
        let place = slots.queue_up(&id).map_err(busy)?;
        let riders = Arc::clone(place.riders());
        let (ticket, mut rode) = riders.join(self.lay_open()?);
        let taken = tokio::select! {
            biased;
            ride = &mut rode => return self.take_back(ride.ok()),
            taken = place.turn(self.deadline(), self.place.clone()) => taken,
        };
        match riders.withdraw(ticket) {
            Some(transaction) => self.phase = LoadPhase::Open(transaction),
            // The changes are part of a commit. A commit that was sent is settled, even after the deadline.
            None => {
                if let Some(landing) = self.take_back(rode.await.ok())? {
                    return Ok(Some(landing));
                }
            }
        }
        self.turn.hold(taken.map_err(busy)?);
        Ok(None)
    }

    /// Hands the transaction to the queue, so that the lock's holder can commit it.
    fn lay_open(&mut self) -> Result<FoldCandidate, RunStop> {
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
    fn take_back(
        &mut self,
        ride: Option<FoldResult>,
    ) -> Result<Option<Box<FoldedOutcome>>, RunStop> {
        let (transaction, landing) = match ride.ok_or(RunStop::Store)? {
            FoldResult::Landed(transaction, landing) => (transaction, Ok(Some(landing))),
            FoldResult::Back(transaction) => (transaction, Ok(None)),
            FoldResult::Failed(transaction) => (transaction, Err(RunStop::Store)),
        };
        self.phase = LoadPhase::Open(transaction);
        landing
    }

    /// Continues after another run's commit has written this run's changes. That commit also confirms the row that this run
    /// had started from.
    pub(crate) fn rode(&mut self, landing: Box<FoldedOutcome>) -> Result<(), RunStop> {
        let FoldedOutcome {
            facts,
            write,
            planned,
            now_ms,
        } = *landing;
        self.check = SnapshotCheck::Done;
        self.manager.counters.folded_commits.add_one();
        match planned {
            Some(planned) => self.take_over(&facts, write, planned),
            None => self.left_unwritten(&facts, write, now_ms),
        }
    }

    /// Folds the changes of runs that wait for the held lock into the planned commit.
    pub(crate) fn take_along(&self, planned: &mut PlannedCommit, now_ms: i64) -> FoldedCommit {
        let options = &self.manager.options;
        let riders = self.turn.riders_of(&planned.commit.id);
        let convoy = riders.map(|riders| riders.take_along(planned, options, now_ms));
        convoy.unwrap_or_default()
    }
}

fn busy(_: LockUnavailable) -> RunStop {
    RunStop::Busy
}

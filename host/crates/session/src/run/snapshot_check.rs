//! How a run that started from a snapshot is compared with the store before any of its results is used, and how it
//! continues on a newer row.

use std::sync::Arc;
use std::time::Instant;

use super::{NewerRow, RunStop, SessionRun};
use crate::load::{LoadedRow, spawn_load};
use crate::outcome::TransactionRefusal;
use crate::record::SessionId;
use crate::snapshots::RowKnowledge;
use crate::start::{LoadPhase, RowKnownSince, SnapshotCheck};
use crate::transaction::BaseRow;
use cloakroom_base::limits::UNKNOWN_END_MAX;

impl SessionRun {
    /// Returns whether the row that the run is based on is known to be the store's.
    pub(crate) fn is_checked(&self) -> bool {
        matches!(self.check, SnapshotCheck::Done)
    }

    /// Returns whether the run is based on a snapshot that is not being compared with the store yet.
    pub(crate) fn is_check_due(&self) -> bool {
        matches!(self.check, SnapshotCheck::Due(_))
    }

    /// Compares the snapshot that the run is based on, if any, with the store. Continues on the store's row if no data that
    /// was read differs there.
    ///
    /// # Errors
    /// As [`SessionRun::refresh`].
    pub(crate) async fn verify(&mut self) -> Result<(), RunStop> {
        match &mut self.check {
            SnapshotCheck::Done => Ok(()),
            SnapshotCheck::Due(_) => self.refresh().await,
            SnapshotCheck::UnderWay(since, task) => {
                let loaded = task.await;
                self.check = SnapshotCheck::Due(*since);
                match loaded {
                    Ok(Ok(loaded)) => self.move_to(loaded).await,
                    Ok(Err(error)) => Err(error.kind.into()),
                    Err(_) => Err(TransactionRefusal::StoreUnavailable.into()),
                }
            }
        }
    }

    /// Asks the store while a slow guest runs. The answer shows whether the session existed when the visit began.
    pub(crate) fn start_check(&mut self) {
        if let (SnapshotCheck::Due(since), LoadPhase::Open(transaction)) =
            (&self.check, &self.phase)
            && let Some(base) = transaction.base()
        {
            let loading = spawn_load(&self.shared, base.id.clone());
            self.check = SnapshotCheck::UnderWay(*since, loading);
        }
    }

    /// Moves the log to the newest row that this process knows, which the previous holder of the session lock has left.
    /// Asks the store if other processes write the session as well.
    ///
    /// # Errors
    /// As [`SessionRun::refresh`].
    pub(crate) async fn catch_up(&mut self) -> Result<(), RunStop> {
        let Some(base) = self.transaction()?.base().cloned() else {
            return Ok(());
        };
        let Some(newest) = self.shared.snapshots.newest(&base) else {
            return self.refresh().await;
        };
        if !newest.is_same(&base) {
            if self.transaction()?.rebase(Arc::clone(&newest)).is_err() {
                return Err(RunStop::Conflict(NewerRow::Remembered(newest)));
            }
            self.shared.counters.reapplies.add_one();
            self.check = SnapshotCheck::Due(RowKnownSince::DuringVisit);
        }
        Ok(())
    }

    /// Moves the log to the store's current row.
    ///
    /// # Errors
    /// [`RunStop::Conflict`] when data that the guest has seen differs there, or the row is gone. [`RunStop::Refused`] when
    /// the store does not return the row.
    pub(crate) async fn refresh(&mut self) -> Result<(), RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            self.check = SnapshotCheck::Done;
            return Ok(());
        };
        let loaded = self.load(&id).await?;
        self.move_to(loaded).await
    }

    /// Continues on the row that the store returned.
    async fn move_to(&mut self, loaded: LoadedRow) -> Result<(), RunStop> {
        let Some(base) = self.transaction()?.base().cloned() else {
            self.check = SnapshotCheck::Done;
            return Ok(());
        };
        let LoadedRow::Row(newer) = loaded else {
            return Err(self.row_vanished(base.id.clone()).await);
        };
        if newer.is_same(&base) {
            self.transaction()?.confirm(newer);
        } else {
            if self.transaction()?.rebase(Arc::clone(&newer)).is_err() {
                return Err(self.row_changed(newer));
            }
            self.shared.counters.reapplies.add_one();
            self.note_stale(&newer);
        }
        self.check = SnapshotCheck::Done;
        Ok(())
    }

    /// Handles a newer row in which data that the guest has seen differs.
    pub(crate) fn row_changed(&mut self, newer: Arc<BaseRow>) -> RunStop {
        self.note_stale(&newer);
        RunStop::Conflict(match self.is_checked() || self.lock.is_taken() {
            true => NewerRow::Contended(newer),
            false => NewerRow::StaleSnapshot(newer),
        })
    }

    /// Handles a missing row. The session vanished during the visit, unless the visit came after its end.
    pub(crate) async fn row_vanished(&mut self, id: SessionId) -> RunStop {
        let was_there = match &mut self.check {
            SnapshotCheck::Done | SnapshotCheck::Due(RowKnownSince::DuringVisit) => true,
            SnapshotCheck::UnderWay(RowKnownSince::DuringVisit, _) => true,
            SnapshotCheck::Due(RowKnownSince::BeforeVisit(at))
            | SnapshotCheck::UnderWay(RowKnownSince::BeforeVisit(at), _)
                if self.shared.snapshots.ended_since(&id, *at) =>
            {
                true
            }
            SnapshotCheck::Due(RowKnownSince::BeforeVisit(at)) => took_long(*at),
            SnapshotCheck::UnderWay(RowKnownSince::BeforeVisit(at), asked) => match asked.await {
                Ok(Ok(loaded)) => matches!(loaded, LoadedRow::Row(_)),
                Ok(Err(_)) | Err(_) => took_long(*at),
            },
        };
        RunStop::Conflict(match was_there {
            true => NewerRow::Gone,
            false => NewerRow::Unknown(id),
        })
    }

    fn note_stale(&self, newer: &Arc<BaseRow>) {
        if !self.is_checked() {
            self.shared.counters.stale_snapshots.add_one();
            self.shared.snapshots.keep(newer, RowKnowledge::Stale);
        }
    }
}

/// Returns whether so much time has passed since `since` that a session may have ended during the visit.
fn took_long(since: Instant) -> bool {
    since.elapsed() > UNKNOWN_END_MAX
}

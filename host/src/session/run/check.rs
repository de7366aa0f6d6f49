//! How a run that started from a snapshot is compared with the store before any of its results is used, and how it
//! continues on a newer row.

use std::sync::Arc;
use std::time::Instant;

use super::{Loading, Phase, Run, Stop, Successor};
use crate::limits::UNKNOWN_END_MAX;
use crate::record::SessionId;
use crate::session::manager::Loaded;
use crate::session::snapshots::Known;
use crate::session::transaction::Base;

/// Whether the row that a run started from is known to be the store's.
pub(in crate::session) enum Check {
    /// The row came from the store.
    Done,
    /// The row is a snapshot. The commit will compare it, if there is one.
    Due(Since),
    /// The row is a snapshot, and the store is being asked while the guest runs.
    UnderWay(Since, Loading),
}

/// A time at which a snapshot's row certainly existed. A session that vanished while a visit ran is treated differently
/// from a session that had ended before the visit came.
#[derive(Clone, Copy)]
pub(in crate::session) enum Since {
    /// Some time before the visit began. The value is the start of the visit.
    BeforeVisit(Instant),
    /// A time while the visit ran.
    DuringVisit,
}

impl Run {
    /// Returns whether the row that the run is based on is known to be the store's.
    pub(in crate::session) fn is_checked(&self) -> bool {
        matches!(self.check, Check::Done)
    }

    /// Returns whether the run is based on a snapshot that is not being compared with the store yet.
    pub(in crate::session) fn is_check_due(&self) -> bool {
        matches!(self.check, Check::Due(_))
    }

    /// Compares the snapshot that the run is based on, if any, with the store. Continues on the store's row if no data that
    /// was read differs there.
    ///
    /// # Errors
    /// As [`Run::refresh`].
    pub(in crate::session) async fn verify(&mut self) -> Result<(), Stop> {
        match &mut self.check {
            Check::Done => Ok(()),
            Check::Due(_) => self.refresh().await,
            Check::UnderWay(since, task) => {
                let loaded = task.await;
                self.check = Check::Due(*since);
                match loaded {
                    Ok(Ok(loaded)) => self.meet(loaded).await,
                    Ok(Err(error)) => Err(Stop::of(error.kind)),
                    Err(_) => Err(Stop::Store),
                }
            }
        }
    }

    /// Asks the store while a slow guest runs. The answer shows whether the session existed when the visit began.
    pub(in crate::session) fn check_beside(&mut self) {
        if let (Check::Due(since), Phase::Open(transaction)) = (&self.check, &self.phase)
            && let Some(base) = transaction.base()
        {
            let loading = self.manager.load_beside(base.id.clone());
            self.check = Check::UnderWay(*since, loading);
        }
    }

    /// Moves the log to the newest row that this process knows, which the previous holder of the session lock has left.
    /// Asks the store if other processes write the session as well.
    ///
    /// # Errors
    /// As [`Run::refresh`].
    pub(in crate::session) async fn catch_up(&mut self) -> Result<(), Stop> {
        let Some(base) = self.transaction()?.base().cloned() else {
            return Ok(());
        };
        let Some(newest) = self.manager.snapshots.newest(&base) else {
            return self.refresh().await;
        };
        if !newest.is_same(&base) {
            if self.transaction()?.rebase(Arc::clone(&newest)).is_err() {
                return Err(Stop::Conflict(Successor::Remembered(newest)));
            }
            self.manager.counters.reapplies.add_one();
            self.check = Check::Due(Since::DuringVisit);
        }
        Ok(())
    }

    /// Moves the log to the store's current row.
    ///
    /// # Errors
    /// [`Stop::Conflict`] when data that the guest has seen differs there, or the row is gone. As [`Stop::of`] when the
    /// store does not return the row.
    pub(in crate::session) async fn refresh(&mut self) -> Result<(), Stop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            self.check = Check::Done;
            return Ok(());
        };
        let loaded = self.load(&id).await?;
        self.meet(loaded).await
    }

    /// Continues on the row that the store returned.
    async fn meet(&mut self, loaded: Loaded) -> Result<(), Stop> {
        let Some(base) = self.transaction()?.base().cloned() else {
            self.check = Check::Done;
            return Ok(());
        };
        let Loaded::Row(newer) = loaded else {
            return Err(self.is_gone(base.id.clone()).await);
        };
        if newer.is_same(&base) {
            self.transaction()?.confirm(newer);
        } else {
            if self.transaction()?.rebase(Arc::clone(&newer)).is_err() {
                return Err(self.is_newer(newer));
            }
            self.manager.counters.reapplies.add_one();
            self.note_stale(&newer);
        }
        self.check = Check::Done;
        Ok(())
    }

    /// Handles a newer row in which data that the guest has seen differs.
    pub(super) fn is_newer(&mut self, newer: Arc<Base>) -> Stop {
        self.note_stale(&newer);
        Stop::Conflict(match self.is_checked() || self.turn.is_taken() {
            true => Successor::Row(newer),
            false => Successor::Newer(newer),
        })
    }

    /// Handles a missing row. The session vanished during the visit, unless the visit came after its end.
    pub(super) async fn is_gone(&mut self, id: SessionId) -> Stop {
        let was_there = match &mut self.check {
            Check::Done | Check::Due(Since::DuringVisit) => true,
            Check::UnderWay(Since::DuringVisit, _) => true,
            Check::Due(Since::BeforeVisit(at)) | Check::UnderWay(Since::BeforeVisit(at), _)
                if self.manager.snapshots.ended_since(&id, *at) =>
            {
                true
            }
            Check::Due(Since::BeforeVisit(at)) => took_long(*at),
            Check::UnderWay(Since::BeforeVisit(at), asked) => match asked.await {
                Ok(Ok(loaded)) => matches!(loaded, Loaded::Row(_)),
                Ok(Err(_)) | Err(_) => took_long(*at),
            },
        };
        Stop::Conflict(match was_there {
            true => Successor::Gone,
            false => Successor::Unknown(id),
        })
    }

    fn note_stale(&self, newer: &Arc<Base>) {
        if !self.is_checked() {
            self.manager.counters.stale_snapshots.add_one();
            self.manager.snapshots.keep(newer, Known::Stale);
        }
    }
}

/// Returns whether so much time has passed since `since` that a session may have ended during the visit.
fn took_long(since: Instant) -> bool {
    since.elapsed() > UNKNOWN_END_MAX
}

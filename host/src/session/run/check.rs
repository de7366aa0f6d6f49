//! What a run on a snapshot owes the store before anything of it is believed, and how it goes on with a newer row.

use std::sync::Arc;
use std::time::Instant;

use super::{Loading, Phase, Run, Stop, Successor};
use crate::limits::UNKNOWN_END_MAX;
use crate::record::SessionId;
use crate::session::manager::Loaded;
use crate::session::snapshots::Known;
use crate::session::transaction::Base;

/// Whether the row that a run stands on is the store's.
pub(in crate::session) enum Check {
    /// It came from there.
    Done,
    /// It is a snapshot: the commit will tell, if there is one.
    Due(Since),
    /// It is a snapshot, and the store is asked beside the guest.
    UnderWay(Since, Loading),
}

/// When a snapshot's row was surely there: what vanished while a visit ran is another matter than what it came too late for.
#[derive(Clone, Copy)]
pub(in crate::session) enum Since {
    /// Some time before the visit began, which was then.
    BeforeVisit(Instant),
    /// While it ran.
    DuringVisit,
}

impl Run {
    /// Whether the row that the run stands on is the store's.
    pub(in crate::session) fn is_checked(&self) -> bool {
        matches!(self.check, Check::Done)
    }

    /// Whether the run stands on a snapshot that nobody compares with the store yet.
    pub(in crate::session) fn is_check_due(&self) -> bool {
        matches!(self.check, Check::Due(_))
    }

    /// Compares the snapshot that the run stands on, if it stands on one, with the store; goes on with the store's row where
    /// nothing that was read differs there.
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

    /// The guest takes its time: asks the store now, so that it is known whether the session was there when the visit began.
    pub(in crate::session) fn check_beside(&mut self) {
        if let (Check::Due(since), Phase::Open(transaction)) = (&self.check, &self.phase)
            && let Some(base) = transaction.base()
        {
            let loading = self.manager.load_beside(base.id.clone());
            self.check = Check::UnderWay(*since, loading);
        }
    }

    /// Moves the log to the newest row that this process knows, now that it is the run's turn: whoever had it before left
    /// that. Asks the store where others write the session, too.
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

    /// Moves the log to the row as it is now.
    ///
    /// # Errors
    /// [`Stop::Conflict`] when the guest has seen what is different there, or the row is gone; as [`Stop::of`] when the store
    /// does not give it.
    pub(in crate::session) async fn refresh(&mut self) -> Result<(), Stop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            self.check = Check::Done;
            return Ok(());
        };
        let loaded = self.load(&id).await?;
        self.meet(loaded).await
    }

    /// Goes on with what the store has.
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

    /// The store has a newer row, and the guest has seen what is different there.
    pub(super) fn is_newer(&mut self, newer: Arc<Base>) -> Stop {
        self.note_stale(&newer);
        Stop::Conflict(match self.is_checked() || self.turn.is_taken() {
            true => Successor::Row(newer),
            false => Successor::Newer(newer),
        })
    }

    /// The store has no such row: it vanished under the visit, unless that came too late for it.
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

/// Who takes so long may have seen a session end and another begin.
fn took_long(since: Instant) -> bool {
    since.elapsed() > UNKNOWN_END_MAX
}

//! The points at which a guest or its response waits for the session: the first write, `reload`, and the release.

use super::{NewerRow, RunStop, SessionRun, WasCalled, WriteVisibility};
use crate::load::LoadedRow;
use crate::outcome::{CookieChange, TransactionRefusal};
use crate::policy::{CommitTrigger, PresentedCookie, RowState};
use crate::start::SnapshotCheck;
use cloakroom_base::limits::UNUSED_LOAD_WAIT_MAX;

impl SessionRun {
    /// Takes the session lock at the run's first write that depends on the session's content, if other requests contend for the session.
    ///
    /// # Errors
    /// As [`SessionRun::commit`].
    pub(crate) async fn before_write(&mut self, writing: WriteVisibility) -> Result<(), RunStop> {
        let has_seen = self.open().await?.has_seen() || writing == WriteVisibility::Seeing;
        if has_seen && !self.has_written {
            if self.must_wait_for_lock() {
                self.acquire_lock().await?;
                self.catch_up().await?;
            }
            self.has_written = true;
        }
        Ok(())
    }

    /// Discards uncommitted changes and reads the row again.
    ///
    /// # Errors
    /// [`RunStop::Refused`] when the store does not return the row. [`RunStop::Conflict`] when data that the guest has seen differs
    /// now, or the session is gone.
    pub(crate) async fn reload(&mut self) -> Result<(), RunStop> {
        let base = self.open().await?.base().map(|base| base.id.clone());
        let newer = match base {
            None => None,
            Some(id) => match self.load(&id).await? {
                LoadedRow::Row(base) => Some(base),
                LoadedRow::Absent | LoadedRow::Corrupt | LoadedRow::Several => {
                    return Err(self.row_vanished(id).await);
                }
            },
        };
        let on_conflict = newer.clone();
        let reloaded = self.open().await?.reload(newer);
        if reloaded.is_err() {
            let stop = on_conflict.map(|row| self.row_changed(row));
            return Err(stop.unwrap_or(RunStop::Conflict(NewerRow::Gone)));
        }
        self.check = SnapshotCheck::Done;
        Ok(())
    }

    /// Commits the guest's remaining changes and returns the change to the cookie. `was_called` says whether the guest made any call.
    ///
    /// # Errors
    /// The reason why nothing may be released.
    pub(crate) async fn release(&mut self, was_called: WasCalled) -> Result<CookieChange, RunStop> {
        if was_called == WasCalled::No && !self.await_unused().await {
            return Ok(CookieChange::Keep);
        }
        self.open().await?;
        if self.has_store_failed {
            return Err(TransactionRefusal::StoreUnavailable.into());
        }
        self.commit(CommitTrigger::Release).await?;
        Ok(self.take_cookie())
    }

    /// Waits for a row that the guest did not use, but only briefly, because the store may be down. Returns whether the
    /// session's state is known.
    async fn await_unused(&mut self) -> bool {
        let opened = tokio::time::timeout(UNUSED_LOAD_WAIT_MAX, async {
            self.open().await?;
            self.verify().await
        });
        match opened.await {
            Ok(Ok(())) => true,
            // The guest has seen nothing, so it need not run again.
            Ok(Err(RunStop::Conflict(NewerRow::Unknown(_)))) => {
                self.note_absent(RowState::New, PresentedCookie::Dead);
                self.phase = self.without_row(RowState::New);
                self.check = SnapshotCheck::Done;
                true
            }
            Ok(Err(RunStop::Conflict(_) | RunStop::Refused(_))) | Err(_) => false,
        }
    }
}

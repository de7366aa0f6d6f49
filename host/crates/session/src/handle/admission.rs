//! The checks before every call on a session: the grant, the row that is being loaded, the session lock, and whether the
//! session may still be changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Mutex;

use super::{Locked, Session, interrupted};
use crate::denial::SessionDenial;
use crate::error::{SessionCallError, SessionError};
use crate::grant::SessionAccessLevel;
use crate::run::{SessionRun, WriteVisibility};
use crate::transaction::ChangeOp;

impl Session {
    pub(crate) fn run(&self) -> Result<&Arc<Mutex<SessionRun>>, SessionError> {
        let denied = |why: &SessionDenial| SessionError::Denied(why.clone());
        self.0.run.as_ref().map_err(denied)
    }

    /// Waits for the row.
    pub(crate) async fn enter(&self) -> Result<Locked, SessionCallError> {
        let run = Arc::clone(self.run()?);
        self.0.was_called.store(true, Ordering::Release);
        let mut run = run.lock_owned().await;
        if run.is_stopped() {
            return Err(SessionCallError::Interrupted);
        }
        match run.open().await {
            Ok(transaction) => {
                transaction.apply_limits(&self.0.grant);
                Ok(run)
            }
            Err(stop) => interrupted(&mut run, stop),
        }
    }

    /// Waits for the row and, if requests contend for the session, for the session lock.
    pub(crate) async fn enter_to_write(&self) -> Result<Locked, SessionCallError> {
        self.enter_to(WriteVisibility::Seeing).await
    }

    /// Applies a change. Like [`Session::enter_to_write`], but a guest that has seen nothing of the session does not wait
    /// for the lock: its change can be applied to any row.
    pub(crate) async fn change(&self, op: ChangeOp) -> Result<(), SessionCallError> {
        let mut run = self.enter_to(WriteVisibility::Blind).await?;
        Ok(run.session()?.change(op)?)
    }

    async fn enter_to(&self, writing: WriteVisibility) -> Result<Locked, SessionCallError> {
        let mut run = self.enter().await?;
        self.not_frozen()?;
        match run.before_write(writing).await {
            Ok(()) => Ok(run),
            Err(stop) => interrupted(&mut run, stop),
        }
    }

    /// Ends the session. No lock is needed before the commit, because the guest may not have read anything.
    pub(crate) async fn end(&self, op: ChangeOp) -> Result<(), SessionCallError> {
        let mut run = self.enter().await?;
        self.not_frozen()?;
        Ok(run.session()?.change(op)?)
    }

    pub(crate) async fn now_ms(&self) -> Result<i64, SessionCallError> {
        Ok(self.run()?.lock().await.shared().clock.now_ms())
    }

    pub(crate) fn not_frozen(&self) -> Result<(), SessionError> {
        match self.0.is_frozen.load(Ordering::Acquire) {
            true => Err(SessionError::Committed),
            false => Ok(()),
        }
    }

    pub(crate) fn may(&self, access: SessionAccessLevel) -> Result<(), SessionError> {
        self.run()?;
        if self.0.grant.access < access {
            return Err(SessionError::Denied(SessionDenial::ReadOnly));
        }
        Ok(())
    }

    pub(crate) fn may_read(&self, key: &str) -> Result<(), SessionError> {
        if self.0.grant.read_keys.covers(key) {
            return Ok(());
        }
        Err(SessionError::Denied(SessionDenial::ReadKey(key.to_owned())))
    }

    pub(crate) fn may_write(&self, key: &str) -> Result<(), SessionError> {
        if self.0.grant.write_keys.covers(key) {
            return Ok(());
        }
        Err(SessionError::Denied(SessionDenial::WriteKey(
            key.to_owned(),
        )))
    }

    pub(crate) fn may_write_all(&self, operation: &'static str) -> Result<(), SessionError> {
        self.may(SessionAccessLevel::Write)?;
        if self.0.grant.write_keys.covers_all() {
            return Ok(());
        }
        Err(SessionError::Denied(SessionDenial::WriteEvery(operation)))
    }
}

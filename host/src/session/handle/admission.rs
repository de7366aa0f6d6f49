//! The checks before every call on a session: the grant, the row that is being loaded, the session lock, and whether the
//! session may still be changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Mutex;

use super::super::run::{Run, Writing};
use super::super::transaction::Op;
use super::super::{Access, CallError, Denial, Error};
use super::{Locked, Session, interrupted};

impl Session {
    pub(super) fn run(&self) -> Result<&Arc<Mutex<Run>>, Error> {
        let denied = |why: &Denial| Error::Denied(why.clone());
        self.0.run.as_ref().map_err(denied)
    }

    /// Waits for the row.
    pub(super) async fn enter(&self) -> Result<Locked, CallError> {
        let run = Arc::clone(self.run()?);
        self.0.was_called.store(true, Ordering::Release);
        let mut run = run.lock_owned().await;
        if run.is_stopped() {
            return Err(CallError::Interrupted);
        }
        match run.open().await {
            Ok(transaction) => {
                transaction.hold_to(&self.0.grant);
                Ok(run)
            }
            Err(stop) => interrupted(&mut run, stop),
        }
    }

    /// Waits for the row and, if requests contend for the session, for the session lock.
    pub(super) async fn enter_to_write(&self) -> Result<Locked, CallError> {
        self.enter_to(Writing::Seeing).await
    }

    /// Applies a change. Like [`Session::enter_to_write`], but a guest that has seen nothing of the session does not wait
    /// for the lock: its change can be applied to any row.
    pub(super) async fn change(&self, op: Op) -> Result<(), CallError> {
        let mut run = self.enter_to(Writing::Blind).await?;
        Ok(run.session()?.change(op)?)
    }

    async fn enter_to(&self, writing: Writing) -> Result<Locked, CallError> {
        let mut run = self.enter().await?;
        self.not_frozen()?;
        match run.before_write(writing).await {
            Ok(()) => Ok(run),
            Err(stop) => interrupted(&mut run, stop),
        }
    }

    /// Ends the session. No lock is needed before the commit, because the guest may not have read anything.
    pub(super) async fn end(&self, op: Op) -> Result<(), CallError> {
        let mut run = self.enter().await?;
        self.not_frozen()?;
        Ok(run.session()?.change(op)?)
    }

    pub(super) async fn now_ms(&self) -> Result<i64, CallError> {
        Ok(self.run()?.lock().await.manager().clock.now_ms())
    }

    pub(super) fn not_frozen(&self) -> Result<(), Error> {
        match self.0.is_frozen.load(Ordering::Acquire) {
            true => Err(Error::Committed),
            false => Ok(()),
        }
    }

    pub(super) fn may(&self, access: Access) -> Result<(), Error> {
        self.run()?;
        if self.0.grant.access < access {
            return Err(Error::Denied(Denial::ReadOnly));
        }
        Ok(())
    }

    pub(super) fn may_read(&self, key: &str) -> Result<(), Error> {
        if self.0.grant.read_keys.covers(key) {
            return Ok(());
        }
        Err(Error::Denied(Denial::ReadKey(key.to_owned())))
    }

    pub(super) fn may_write(&self, key: &str) -> Result<(), Error> {
        if self.0.grant.write_keys.covers(key) {
            return Ok(());
        }
        Err(Error::Denied(Denial::WriteKey(key.to_owned())))
    }

    pub(super) fn may_write_all(&self, operation: &'static str) -> Result<(), Error> {
        self.may(Access::Write)?;
        if self.0.grant.write_keys.covers_all() {
            return Ok(());
        }
        Err(Error::Denied(Denial::WriteEvery(operation)))
    }
}

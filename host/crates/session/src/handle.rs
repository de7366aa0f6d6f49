//! The handle that receives a guest's session calls. It knows the grant and the errors of the WIT interface, but not the store.

mod admission;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::denial::SessionDenial;
use crate::error::{SessionCallError, SessionError};
use crate::grant::{SessionAccessLevel, SessionGrant};
use crate::options::UnsetPolicy;
use crate::outcome::TransactionRefusal;
use crate::policy::{self, CommitTrigger, SessionEnding};
use crate::record::{CookieAttributes, SessionId, check_value};
use crate::run::{RunStop, SessionRun, WasCalled};
use crate::transaction::ChangeOp;

/// The session of one run. Clones refer to the same session.
///
/// The first call waits for the row, whose load began before the run. Later calls work in memory, except `save`, `reload`
/// and, when other requests contend for the session, the first write.
///
/// Cancel safety: a dropped call has not happened, except `save`, which continues in the background.
#[derive(Clone)]
pub struct Session(Arc<HandleState>);

struct HandleState {
    grant: Arc<SessionGrant>,
    /// The run. If there is none, every call is denied for this reason.
    run: Result<Arc<Mutex<SessionRun>>, SessionDenial>,
    is_frozen: AtomicBool,
    was_called: AtomicBool,
}

/// Hides the session.
impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

type Locked = OwnedMutexGuard<SessionRun>;

impl Session {
    /// Creates the handle of a guest without a session: every call is denied, the store is not asked, and no cookie is sent.
    pub fn none() -> Self {
        Self::closed(SessionDenial::NoAccess)
    }

    /// Creates a handle that denies every call for the reason `why`.
    pub(crate) fn closed(why: SessionDenial) -> Self {
        Self::with(Arc::default(), Err(why))
    }

    pub(crate) fn new(grant: Arc<SessionGrant>, run: SessionRun) -> (Self, Arc<Mutex<SessionRun>>) {
        let run = Arc::new(Mutex::new(run));
        (Self::with(grant, Ok(Arc::clone(&run))), run)
    }

    fn with(grant: Arc<SessionGrant>, run: Result<Arc<Mutex<SessionRun>>, SessionDenial>) -> Self {
        Self(Arc::new(HandleState {
            grant,
            run,
            is_frozen: AtomicBool::new(false),
            was_called: AtomicBool::new(false),
        }))
    }

    /// Returns the JSON text of an entry. `None` if there is no entry or the key is reserved.
    ///
    /// # Errors
    /// [`SessionError::Denied`].
    pub async fn get(&self, key: &str) -> Result<Option<String>, SessionCallError> {
        self.may(SessionAccessLevel::Read)?;
        self.may_read(key)?;
        let mut run = self.enter().await?;
        let transaction = run.session()?;
        Ok(transaction.get(key).map(str::to_owned))
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`], [`SessionError::TooLarge`], [`SessionError::Committed`].
    pub async fn set(&self, key: &str, value: &str) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        self.may_write(key)?;
        let value = check_value(value).map_err(|why| invalid(format!("`{key}`: {why}")))?;
        self.change(ChangeOp::Set {
            key: key.to_owned(),
            value: value.to_owned(),
        })
        .await
    }

    /// Removes an entry, if there is one.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`], [`SessionError::Committed`].
    pub async fn delete(&self, key: &str) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        self.may_write(key)?;
        self.change(ChangeOp::Delete {
            key: key.to_owned(),
        })
        .await
    }

    /// Returns the keys that the guest may read, in the session's order.
    ///
    /// # Errors
    /// [`SessionError::Denied`].
    pub async fn list_keys(&self) -> Result<Vec<String>, SessionCallError> {
        self.may(SessionAccessLevel::Read)?;
        let mut run = self.enter().await?;
        let mut keys = run.session()?.keys();
        keys.retain(|key| self.0.grant.read_keys.covers(key));
        Ok(keys)
    }

    /// Adds to an integer. An absent entry counts as 0.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`], [`SessionError::TooLarge`], [`SessionError::Committed`].
    pub async fn add(&self, key: &str, delta: i64) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        self.may_write(key)?;
        self.change(ChangeOp::Add {
            key: key.to_owned(),
            delta,
        })
        .await
    }

    /// Adds to an integer and returns the sum, which counts as a read.
    ///
    /// # Errors
    /// As [`Session::add`].
    pub async fn increment(&self, key: &str, delta: i64) -> Result<i64, SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        self.may_read(key)?;
        self.may_write(key)?;
        let mut run = self.enter_to_write().await?;
        let transaction = run.session()?;
        Ok(transaction.increment(key.to_owned(), delta)?)
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// [`SessionError::Denied`], also if the guest may not write every key; [`SessionError::Invalid`], [`SessionError::Committed`].
    pub async fn clear(&self) -> Result<(), SessionCallError> {
        self.may_write_all("clear")?;
        self.change(ChangeOp::Clear).await
    }

    /// Returns a keyed hash of the session's id; `None` while the session has no id.
    ///
    /// # Errors
    /// [`SessionError::Denied`].
    pub async fn fingerprint(&self) -> Result<Option<String>, SessionCallError> {
        self.may(SessionAccessLevel::Read)?;
        let mut run = self.enter().await?;
        let id = run.session()?.named_id().cloned();
        Ok(id.map(|id| run.shared().fingerprint(&id)))
    }

    /// Gives the session another id.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`], [`SessionError::Committed`].
    pub async fn renew(&self) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        let id = SessionId::generate();
        self.change(ChangeOp::Renew { id }).await
    }

    /// Gives the session another id and drops its entries.
    ///
    /// # Errors
    /// As [`Session::clear`].
    pub async fn regenerate(&self) -> Result<(), SessionCallError> {
        self.may_write_all("regenerate")?;
        let id = SessionId::generate();
        self.change(ChangeOp::Regenerate { id }).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// [`SessionError::Denied`], also if the guest may not write every key; [`SessionError::Committed`].
    pub async fn destroy(&self) -> Result<(), SessionCallError> {
        self.may_write_all("destroy")?;
        self.end(ChangeOp::Destroy).await
    }

    /// Drops the request's changes or ends the session, as the option `unset` says.
    ///
    /// # Errors
    /// As [`Session::destroy`].
    pub async fn unset(&self) -> Result<(), SessionCallError> {
        self.may_write_all("unset")?;
        let run = self.run()?;
        let unset = run.lock().await.shared().options.unset;
        self.end(match unset {
            UnsetPolicy::Keep => ChangeOp::Drop,
            UnsetPolicy::Destroy => ChangeOp::Destroy,
        })
        .await
    }

    /// Gives the session a lifetime in milliseconds. `None` means until the browser is closed.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`], also for an end before 1970 or after 2106, [`SessionError::TooLarge`],
    /// [`SessionError::Committed`].
    pub async fn set_max_age(&self, max_age_ms: Option<i64>) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        let now_ms = self.now_ms().await?;
        if max_age_ms.is_some_and(|ms| !policy::is_max_age_possible(ms, now_ms)) {
            return Err(invalid(
                "a session must end between 1970 and 2106".to_owned(),
            ));
        }
        self.change(ChangeOp::SetMaxAge { max_age_ms, now_ms })
            .await
    }

    /// Restarts the session's lifetime.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`], [`SessionError::Committed`].
    pub async fn touch(&self) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        let now_ms = self.now_ms().await?;
        let mut run = self.enter().await?;
        self.not_frozen()?;
        let transaction = run.session()?;
        Ok(transaction.change(ChangeOp::Touch { now_ms })?)
    }

    /// Returns the attributes of the session's cookie, including this run's changes.
    ///
    /// # Errors
    /// [`SessionError::Denied`].
    pub async fn cookie(&self) -> Result<CookieAttributes, SessionCallError> {
        self.may(SessionAccessLevel::Read)?;
        let mut run = self.enter().await?;
        Ok(run.session()?.cookie().clone())
    }

    /// Commits now. The commit continues in the background if the caller stops waiting.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Committed`], [`SessionError::Unavailable`], and [`SessionError::TooLarge`] if the
    /// store's column is smaller than the session.
    pub async fn save(&self) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Write)?;
        let mut run = self.enter_to_write().await?;
        let shared = Arc::clone(run.shared());
        let bytes_max = shared.options.session_bytes_max;
        let saving = shared.spawn(async move {
            let saved = run.commit(CommitTrigger::Save).await;
            match saved {
                Ok(()) => Ok(()),
                Err(RunStop::Refused(TransactionRefusal::StoreUnavailable)) => {
                    run.set_store_failed();
                    Err(unavailable())
                }
                Err(RunStop::Refused(TransactionRefusal::TooLarge)) => {
                    Err(SessionError::TooLarge(bytes_max as u64).into())
                }
                Err(stop) => {
                    run.set_stop(stop);
                    Err(SessionCallError::Interrupted)
                }
            }
        });
        saving.await.unwrap_or(Err(SessionCallError::Interrupted))
    }

    /// Discards uncommitted changes and reads the row again.
    ///
    /// # Errors
    /// [`SessionError::Denied`], [`SessionError::Invalid`] after `destroy`, [`SessionError::Committed`], [`SessionError::Unavailable`].
    pub async fn reload(&self) -> Result<(), SessionCallError> {
        self.may(SessionAccessLevel::Read)?;
        let mut run = self.enter().await?;
        self.not_frozen()?;
        let ending = run.session()?.ending();
        if ending == SessionEnding::Destroyed {
            return Err(invalid("the session was ended by this request".to_owned()));
        }
        match run.reload().await {
            Ok(()) => Ok(()),
            Err(RunStop::Refused(TransactionRefusal::StoreUnavailable)) => {
                run.set_store_failed();
                Err(unavailable())
            }
            Err(stop) => interrupted(&mut run, stop),
        }
    }

    /// Makes the session read-only, because the response is about to be released.
    pub fn freeze(&self) {
        self.0.is_frozen.store(true, Ordering::Release);
    }

    /// Returns whether the guest learned anything about the session. Its response is specific to this visitor then.
    pub fn was_used(&self) -> bool {
        self.was_called() == WasCalled::Yes
    }

    /// Returns whether any call got as far as the session's row.
    pub(crate) fn was_called(&self) -> WasCalled {
        match self.0.was_called.load(Ordering::Acquire) {
            true => WasCalled::Yes,
            false => WasCalled::No,
        }
    }
}

fn invalid(why: String) -> SessionCallError {
    SessionCallError::Guest(SessionError::Invalid(why))
}

fn unavailable() -> SessionCallError {
    SessionCallError::Guest(SessionError::Unavailable(
        "the session store did not answer in time".to_owned(),
    ))
}

fn interrupted<T>(run: &mut SessionRun, stop: RunStop) -> Result<T, SessionCallError> {
    run.set_stop(stop);
    Err(SessionCallError::Interrupted)
}

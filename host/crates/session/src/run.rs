//! One run of an attempt on a session: the load that it waits for, its transaction, and the commit. Performs the I/O, which
//! the transaction itself does not do. The manager decides whether an attempt is run again.

mod commit;
mod cookie;
mod lock_queue;
mod rivals;
mod snapshot_check;

pub(crate) use crate::visit_lock::VisitLock;
pub(crate) use snapshot_check::{RowKnownSince, SnapshotCheck};

use std::sync::Arc;
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use super::policy::{LinkSecurity, PresentedCookie, RowState};
use super::rivals::RowClaim;
use super::transact::{LoadedRow, SessionManager};
use super::transaction::{BaseRow, Transaction};
use super::{CookieChange, SessionCallError, Visit};
use crate::record::SessionId;
use crate::store::{StoreError, StoreErrorKind};
use cloakroom_base::deadline::Deadline;
use cloakroom_base::limits::UNUSED_LOAD_WAIT_MAX;
use cloakroom_base::quota::Reservation;

/// One run of an attempt on a session.
pub(crate) struct SessionRun {
    manager: Arc<SessionManager>,
    phase: LoadPhase,
    check: SnapshotCheck,
    link: LinkSecurity,
    deadline: Deadline,
    /// The request's reservation among the requests under way.
    place: Option<Reservation>,
    presented: PresentedCookie,
    /// The sessions that the visit's cookies name.
    claim: RowClaim,
    /// The id among them whose row the run has seen.
    seen: Option<SessionId>,
    /// Whether the run has deleted, or tried to delete, the sessions in `claim` other than `seen`.
    has_deleted_unseen: bool,
    lock: VisitLock,
    /// Why the run has to end.
    stop: Option<RunStop>,
    /// Whether a `save` or a `reload` failed because of the store. The guest received the error, but the response is a 503 nevertheless.
    has_store_failed: bool,
    /// Whether the first write that depends on the session's content has passed the check for the session lock.
    has_written: bool,
    /// Whether a `save` has committed something.
    is_saved: bool,
    /// Whether a `save` has changed entries.
    was_modified: bool,
    /// The cookie change that the saves so far require.
    cookie: CookieChange,
}

/// The state that a run starts from.
pub(crate) struct StartState {
    pub(crate) phase: LoadPhase,
    pub(crate) check: SnapshotCheck,
}

impl From<LoadPhase> for StartState {
    fn from(phase: LoadPhase) -> Self {
        let check = SnapshotCheck::Done;
        Self { phase, check }
    }
}

/// The state of the run's session.
pub(crate) enum LoadPhase {
    /// The row is being loaded. If there is no row, the session is in state `absent`.
    Loading {
        id: SessionId,
        row: PendingRow,
        absent: RowState,
    },
    /// The session can be used.
    Open(Box<Transaction>),
    /// The store did not return the row, for a reason of this kind.
    Down(StoreErrorKind),
}

/// A task that reads a row. It is aborted when the run that waits for it is dropped, for example because its guest's
/// concurrency limit refused the request.
pub(crate) type Loading = AbortOnDropHandle<Result<LoadedRow, StoreError>>;

/// A row that was requested from the store.
pub(crate) enum PendingRow {
    Ready(Option<Result<LoadedRow, StoreError>>),
    Loading(Loading),
}

impl PendingRow {
    /// Waits for the row. The row is returned once; later calls fail.
    async fn take(&mut self) -> Result<LoadedRow, StoreErrorKind> {
        let loaded = match self {
            Self::Ready(loaded) => loaded.take(),
            Self::Loading(task) => task.await.ok(),
        };
        match loaded {
            Some(loaded) => loaded.map_err(|error| error.kind),
            None => Err(StoreErrorKind::Unavailable),
        }
    }
}

/// Why a run must end, or cannot be released.
pub(crate) enum RunStop {
    /// Another commit came first and changed data that this run has seen.
    Conflict(NewerRow),
    /// The store failed.
    Store,
    /// The store's column is too small for the row.
    TooLarge,
    /// The store's table permanently refuses the row.
    Refused,
    /// The session lock was not available in time.
    Busy,
    /// The guest wrote, and its request came with several sessions.
    Several,
}

impl RunStop {
    /// Returns the stop that a store failure causes, whether the run loads, commits or deletes.
    fn of(kind: StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::TooLarge => Self::TooLarge,
            StoreErrorKind::Refused => Self::Refused,
            StoreErrorKind::Unavailable | StoreErrorKind::Broken => Self::Store,
        }
    }
}

/// The session's state that replaced the row the run had started from.
pub(crate) enum NewerRow {
    /// A newer row: another request came first.
    Row(Arc<BaseRow>),
    /// No session.
    Gone,
    /// A newer row: the run started from an old snapshot.
    Newer(Arc<BaseRow>),
    /// A newer row that this process has written. The store was not asked.
    Remembered(Arc<BaseRow>),
    /// No row under this id, and it is unknown since when: the run started from a snapshot.
    Unknown(SessionId),
}

impl SessionRun {
    pub(crate) fn new(
        manager: Arc<SessionManager>,
        visit: &Visit,
        presented: PresentedCookie,
        claim: RowClaim,
        start: StartState,
        lock: VisitLock,
    ) -> Self {
        let base = match &start.phase {
            LoadPhase::Open(transaction) => transaction.base(),
            LoadPhase::Loading { .. } | LoadPhase::Down(_) => None,
        };
        Self {
            manager,
            claim,
            seen: base.map(|base| base.id.clone()),
            has_deleted_unseen: false,
            phase: start.phase,
            check: start.check,
            link: LinkSecurity::of(visit),
            deadline: visit.deadline.clone(),
            place: visit.place.clone(),
            presented,
            lock,
            stop: None,
            has_store_failed: false,
            has_written: false,
            is_saved: false,
            was_modified: false,
            cookie: CookieChange::Keep,
        }
    }

    pub(crate) fn manager(&self) -> &Arc<SessionManager> {
        &self.manager
    }

    pub(crate) fn link(&self) -> LinkSecurity {
        self.link
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.at()
    }

    pub(crate) fn place(&self) -> Option<Reservation> {
        self.place.clone()
    }

    pub(crate) fn is_saved(&self) -> bool {
        self.is_saved
    }

    pub(crate) fn has_store_failed(&self) -> bool {
        self.has_store_failed
    }

    pub(crate) fn set_store_failed(&mut self) {
        self.has_store_failed = true;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    pub(crate) fn set_stop(&mut self, stop: RunStop) {
        self.stop.get_or_insert(stop);
    }

    pub(crate) fn take_stop(&mut self) -> Option<RunStop> {
        self.stop.take()
    }

    /// Returns the change that the run makes to the visitor's cookies. Call it once.
    pub(crate) fn take_cookie(&mut self) -> CookieChange {
        let own = std::mem::replace(&mut self.cookie, CookieChange::Keep);
        self.with_duplicates(own)
    }

    pub(crate) fn release_lock(&mut self) -> VisitLock {
        std::mem::take(&mut self.lock)
    }

    /// Waits for the row and returns the session.
    ///
    /// Cancel safety: if the call is dropped, the load continues and the next call waits for it.
    ///
    /// # Errors
    /// As [`RunStop::of`] when the store does not return the row.
    pub(crate) async fn open(&mut self) -> Result<&mut Transaction, RunStop> {
        if let LoadPhase::Loading { id, row, absent } = &mut self.phase {
            let loaded = row.take().await;
            let (id, absent) = (id.clone(), *absent);
            self.phase = match loaded {
                Ok(LoadedRow::Row(base)) => {
                    self.note_seen(&base, absent);
                    self.manager.on_row(base, self.link)
                }
                Ok(LoadedRow::Several) => {
                    self.manager.note_several();
                    self.manager.fresh(RowState::Several, self.link)
                }
                Ok(LoadedRow::Absent) => {
                    self.set_absent(absent, PresentedCookie::Dead);
                    let session = self.manager.keys.load().fingerprint(&id);
                    tracing::debug!(
                        session,
                        "a visitor presented a session that no longer exists"
                    );
                    self.manager.fresh(absent, self.link)
                }
                Ok(LoadedRow::Corrupt) => {
                    self.set_absent(absent, PresentedCookie::Corrupt);
                    self.manager.fresh(absent, self.link)
                }
                Err(kind) => LoadPhase::Down(kind),
            };
        }
        self.transaction()
    }

    /// Returns the session that [`SessionRun::open`] has opened.
    ///
    /// # Errors
    /// [`SessionCallError::Interrupted`] when it is not open.
    pub(crate) fn session(&mut self) -> Result<&mut Transaction, SessionCallError> {
        self.transaction()
            .map_err(|_| SessionCallError::Interrupted)
    }

    fn transaction(&mut self) -> Result<&mut Transaction, RunStop> {
        match &mut self.phase {
            LoadPhase::Open(transaction) => Ok(transaction),
            LoadPhase::Down(kind) => Err(RunStop::of(*kind)),
            LoadPhase::Loading { .. } => Err(RunStop::Store),
        }
    }

    /// Reads the row as the store has it now.
    ///
    /// # Errors
    /// As [`RunStop::of`].
    async fn load(&self, id: &SessionId) -> Result<LoadedRow, RunStop> {
        let loaded = self.manager.load(id).await;
        loaded.map_err(|error| RunStop::of(error.kind))
    }

    fn set_absent(&mut self, absent: RowState, presented: PresentedCookie) {
        // If the session vanished during the visit, the visitor's cookie must not be expired.
        if absent == RowState::New {
            self.presented = presented;
            if presented == PresentedCookie::Dead {
                self.manager.counters.dead_cookies.add_one();
            }
        }
    }

    /// Discards uncommitted changes and reads the row again.
    ///
    /// # Errors
    /// As [`RunStop::of`] when the store does not return the row. [`RunStop::Conflict`] when data that the guest has seen differs
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

    /// Takes the session lock at the run's first write that depends on the session's content, if other requests contend for the session.
    ///
    /// # Errors
    /// As [`SessionRun::commit`].
    pub(crate) async fn before_write(&mut self, writing: WriteVisibility) -> Result<(), RunStop> {
        let has_seen = self.open().await?.has_seen() || writing == WriteVisibility::Seeing;
        if has_seen && !self.has_written {
            if self.must_wait_for_lock() {
                self.take_lock().await?;
                self.catch_up().await?;
            }
            self.has_written = true;
        }
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
            return Err(RunStop::Store);
        }
        self.commit(super::policy::CommitTrigger::Release).await?;
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
                self.set_absent(RowState::New, PresentedCookie::Dead);
                self.phase = self.manager.fresh(RowState::New, self.link);
                self.check = SnapshotCheck::Done;
                true
            }
            _ => false,
        }
    }
}

/// Whether a write reveals the session's content to its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteVisibility {
    /// It reveals nothing.
    Blind,
    /// It reveals the content, or commits data that was seen.
    Seeing,
}

/// Whether the guest made a call on its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WasCalled {
    Yes,
    No,
}

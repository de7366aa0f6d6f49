//! One run of an attempt on a session: the load that it waits for, its transaction, and the commit. Performs the I/O, which
//! the transaction itself does not do. The transaction loop decides whether an attempt is run again.
//!
//! This file has the states. Each of its modules adds one subject and uses only those before it:
//! `snapshot_check`, `lock_queue`, `cookies`, `logout`, `commit` and `release`.

mod commit;
mod cookies;
mod lock_queue;
mod logout;
mod release;
mod snapshot_check;

use std::sync::Arc;
use std::time::Instant;

use crate::error::SessionCallError;
use crate::load::{LoadedRow, load};
use crate::lock::LockUnavailable;
use crate::outcome::{CookieChange, TransactionRefusal};
use crate::policy::{LinkSecurity, PresentedCookie, RowState};
use crate::record::SessionId;
use crate::rivals::RowClaim;
use crate::shared::SessionShared;
use crate::start::{LoadPhase, SnapshotCheck, StartState};
use crate::store::StoreErrorKind;
use crate::transaction::{BaseRow, Transaction};
use crate::visit::Visit;
use crate::visit_lock::VisitLock;
use cloakroom_base::deadline::Deadline;
use cloakroom_base::quota::Reservation;

/// One run of an attempt on a session.
pub(crate) struct SessionRun {
    shared: Arc<SessionShared>,
    phase: LoadPhase,
    check: SnapshotCheck,
    link: LinkSecurity,
    deadline: Deadline,
    /// The request's reservation among the requests under way.
    reservation: Option<Reservation>,
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

/// The session cookies of a visit.
#[derive(Clone)]
pub(crate) struct VisitCookies {
    pub(crate) presented: PresentedCookie,
    /// The sessions that the cookies name.
    pub(crate) claim: RowClaim,
}

/// Why a run must end, or cannot be released.
pub(crate) enum RunStop {
    /// Another commit came first and changed data that this run has seen. The attempt may run again.
    Conflict(NewerRow),
    /// Nothing may be released.
    Refused(TransactionRefusal),
}

/// The session's state that replaced the row the run had started from.
pub(crate) enum NewerRow {
    /// A newer row: another request came first.
    Contended(Arc<BaseRow>),
    /// No session.
    Gone,
    /// A newer row: the run started from an old snapshot.
    StaleSnapshot(Arc<BaseRow>),
    /// A newer row that this process has written. The store was not asked.
    Remembered(Arc<BaseRow>),
    /// No row under this id, and it is unknown since when: the run started from a snapshot.
    Unknown(SessionId),
}

impl From<TransactionRefusal> for RunStop {
    fn from(refusal: TransactionRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LockUnavailable> for RunStop {
    fn from(unavailable: LockUnavailable) -> Self {
        Self::Refused(unavailable.into())
    }
}

impl From<StoreErrorKind> for RunStop {
    fn from(kind: StoreErrorKind) -> Self {
        Self::Refused(kind.into())
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

impl SessionRun {
    pub(crate) fn new(
        shared: Arc<SessionShared>,
        visit: &Visit,
        cookies: VisitCookies,
        start: StartState,
        lock: VisitLock,
    ) -> Self {
        let base = match &start.phase {
            LoadPhase::Open(transaction) => transaction.base(),
            LoadPhase::Loading { .. } | LoadPhase::Failed(_) => None,
        };
        Self {
            shared,
            seen: base.map(|base| base.id.clone()),
            has_deleted_unseen: false,
            phase: start.phase,
            check: start.check,
            link: LinkSecurity::of(visit),
            deadline: visit.deadline.clone(),
            reservation: visit.reservation.clone(),
            presented: cookies.presented,
            claim: cookies.claim,
            lock,
            stop: None,
            has_store_failed: false,
            has_written: false,
            is_saved: false,
            was_modified: false,
            cookie: CookieChange::Keep,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<SessionShared> {
        &self.shared
    }

    pub(crate) fn link(&self) -> LinkSecurity {
        self.link
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.at()
    }

    pub(crate) fn reservation(&self) -> Option<Reservation> {
        self.reservation.clone()
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

    /// Takes the visit's lock out of the run, for the next run or to release it.
    pub(crate) fn take_lock(&mut self) -> VisitLock {
        std::mem::take(&mut self.lock)
    }

    /// Waits for the row and returns the session.
    ///
    /// Cancel safety: if the call is dropped, the load continues and the next call waits for it.
    ///
    /// # Errors
    /// [`RunStop::Refused`] when the store does not return the row.
    pub(crate) async fn open(&mut self) -> Result<&mut Transaction, RunStop> {
        if let LoadPhase::Loading { id, row, absent } = &mut self.phase {
            let loaded = row.take().await;
            let (id, absent) = (id.clone(), *absent);
            self.phase = match loaded {
                Ok(LoadedRow::Row(base)) => {
                    self.note_seen(&base, absent);
                    LoadPhase::on_row(&self.shared, base, self.link)
                }
                Ok(LoadedRow::Several) => {
                    self.shared.note_several();
                    self.without_row(RowState::Several)
                }
                Ok(LoadedRow::Absent) => {
                    self.note_absent(absent, PresentedCookie::Dead);
                    let session = self.shared.fingerprint(&id);
                    tracing::debug!(
                        session,
                        "a visitor presented a session that no longer exists"
                    );
                    self.without_row(absent)
                }
                Ok(LoadedRow::Corrupt) => {
                    self.note_absent(absent, PresentedCookie::Corrupt);
                    self.without_row(absent)
                }
                Err(kind) => LoadPhase::Failed(kind),
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
            LoadPhase::Failed(kind) => Err((*kind).into()),
            LoadPhase::Loading { .. } => Err(TransactionRefusal::StoreUnavailable.into()),
        }
    }

    fn without_row(&self, row_state: RowState) -> LoadPhase {
        LoadPhase::without_row(&self.shared, row_state, self.link)
    }

    /// Notes that the row of the visit's session exists. Without it, the session would have been in state `absent`.
    fn note_seen(&mut self, base: &BaseRow, absent: RowState) {
        self.seen = Some(base.id.clone());
        // The visit's first run chooses among several sessions; a later run loads the session that was chosen.
        if absent == RowState::New && matches!(self.claim, RowClaim::Several(_)) {
            self.shared.counters.stray_cookies.add_one();
        }
    }

    /// Notes that the visit's session has no row.
    fn note_absent(&mut self, absent: RowState, presented: PresentedCookie) {
        // If the session vanished during the visit, the visitor's cookie must not be expired.
        if absent == RowState::New {
            self.presented = presented;
            if presented == PresentedCookie::Dead {
                self.shared.counters.dead_cookies.add_one();
            }
        }
    }

    /// Reads the row as the store has it now.
    ///
    /// # Errors
    /// [`RunStop::Refused`] when the store does not return the row.
    async fn load(&self, id: &SessionId) -> Result<LoadedRow, RunStop> {
        let loaded = load(&self.shared, id).await;
        loaded.map_err(|error| error.kind.into())
    }
}

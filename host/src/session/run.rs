//! One run of an attempt on a session: the load that it waits for, its transaction, and the commit. Performs the I/O, which
//! the transaction itself does not do. The manager decides whether an attempt is run again.

mod check;
mod commit;
mod cookie;
mod ride;
mod rivals;
mod turn;

pub(super) use check::{Check, Since};
pub(super) use turn::Turn;

use std::sync::Arc;
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use super::manager::{Loaded, SessionManager};
use super::policy::{Link, Standing, Ticket};
use super::rivals::Claim;
use super::transaction::{Base, Transaction};
use super::{CallError, CookieChange, Visit};
use crate::deadline::Deadline;
use crate::limits::UNUSED_LOAD_WAIT_MAX;
use crate::quota::Reservation;
use crate::record::SessionId;
use crate::store::{StoreError, StoreErrorKind};

/// One run of an attempt on a session.
pub(super) struct Run {
    manager: Arc<SessionManager>,
    phase: Phase,
    check: Check,
    link: Link,
    deadline: Deadline,
    /// The request's reservation among the requests under way.
    place: Option<Reservation>,
    ticket: Ticket,
    /// The sessions that the visit's cookies name.
    claim: Claim,
    /// The id among them whose row the run has seen.
    seen: Option<SessionId>,
    /// Whether the run has deleted, or tried to delete, the sessions in `claim` other than `seen`.
    has_ended_unseen: bool,
    turn: Turn,
    /// Why the run has to end.
    stop: Option<Stop>,
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
pub(super) struct Footing {
    pub(super) phase: Phase,
    pub(super) check: Check,
}

impl From<Phase> for Footing {
    fn from(phase: Phase) -> Self {
        let check = Check::Done;
        Self { phase, check }
    }
}

/// The state of the run's session.
pub(super) enum Phase {
    /// The row is being loaded. If there is no row, the session is in state `absent`.
    Loading {
        id: SessionId,
        row: Coming,
        absent: Standing,
    },
    /// The session can be used.
    Open(Box<Transaction>),
    /// The store did not return the row, for a reason of this kind.
    Down(StoreErrorKind),
}

/// A task that reads a row. It is aborted when the run that waits for it is dropped, for example because its guest's
/// concurrency limit refused the request.
pub(super) type Loading = AbortOnDropHandle<Result<Loaded, StoreError>>;

/// A row that was requested from the store.
pub(super) enum Coming {
    Here(Option<Result<Loaded, StoreError>>),
    OnItsWay(Loading),
}

impl Coming {
    /// Waits for the row. The row is returned once; later calls fail.
    async fn take(&mut self) -> Result<Loaded, StoreErrorKind> {
        let loaded = match self {
            Self::Here(loaded) => loaded.take(),
            Self::OnItsWay(task) => task.await.ok(),
        };
        match loaded {
            Some(loaded) => loaded.map_err(|error| error.kind),
            None => Err(StoreErrorKind::Unavailable),
        }
    }
}

/// Why a run must end, or cannot be released.
pub(super) enum Stop {
    /// Another commit came first and changed data that this run has seen.
    Conflict(Successor),
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

impl Stop {
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
pub(super) enum Successor {
    /// A newer row: another request came first.
    Row(Arc<Base>),
    /// No session.
    Gone,
    /// A newer row: the run started from an old snapshot.
    Newer(Arc<Base>),
    /// A newer row that this process has written. The store was not asked.
    Remembered(Arc<Base>),
    /// No row under this id, and it is unknown since when: the run started from a snapshot.
    Unknown(SessionId),
}

impl Run {
    pub(super) fn new(
        manager: Arc<SessionManager>,
        visit: &Visit,
        ticket: Ticket,
        claim: Claim,
        footing: Footing,
        turn: Turn,
    ) -> Self {
        let base = match &footing.phase {
            Phase::Open(transaction) => transaction.base(),
            Phase::Loading { .. } | Phase::Down(_) => None,
        };
        Self {
            manager,
            claim,
            seen: base.map(|base| base.id.clone()),
            has_ended_unseen: false,
            phase: footing.phase,
            check: footing.check,
            link: Link::of(visit),
            deadline: visit.deadline.clone(),
            place: visit.place.clone(),
            ticket,
            turn,
            stop: None,
            has_store_failed: false,
            has_written: false,
            is_saved: false,
            was_modified: false,
            cookie: CookieChange::Keep,
        }
    }

    pub(super) fn manager(&self) -> &Arc<SessionManager> {
        &self.manager
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline.at()
    }

    pub(super) fn place(&self) -> Option<Reservation> {
        self.place.clone()
    }

    pub(super) fn is_saved(&self) -> bool {
        self.is_saved
    }

    pub(super) fn has_store_failed(&self) -> bool {
        self.has_store_failed
    }

    pub(super) fn set_store_failed(&mut self) {
        self.has_store_failed = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    pub(super) fn set_stop(&mut self, stop: Stop) {
        self.stop.get_or_insert(stop);
    }

    pub(super) fn take_stop(&mut self) -> Option<Stop> {
        self.stop.take()
    }

    /// Returns the change that the run makes to the visitor's cookies. Call it once.
    pub(super) fn take_cookie(&mut self) -> CookieChange {
        let own = std::mem::replace(&mut self.cookie, CookieChange::Keep);
        self.with_strays(own)
    }

    pub(super) fn take_turn(&mut self) -> Turn {
        std::mem::take(&mut self.turn)
    }

    /// Waits for the row and returns the session.
    ///
    /// Cancel safety: if the call is dropped, the load continues and the next call waits for it.
    ///
    /// # Errors
    /// As [`Stop::of`] when the store does not return the row.
    pub(super) async fn open(&mut self) -> Result<&mut Transaction, Stop> {
        if let Phase::Loading { id, row, absent } = &mut self.phase {
            let loaded = row.take().await;
            let (id, absent) = (id.clone(), *absent);
            self.phase = match loaded {
                Ok(Loaded::Row(base)) => {
                    self.note_seen(&base, absent);
                    self.manager.on_row(base, self.link)
                }
                Ok(Loaded::Several) => {
                    self.manager.note_several();
                    self.manager.fresh(Standing::Several, self.link)
                }
                Ok(Loaded::Absent) => {
                    self.has_no_row(absent, Ticket::Dead);
                    let session = self.manager.keys.load().fingerprint(&id);
                    tracing::debug!(session, "a visitor came with a session that is gone");
                    self.manager.fresh(absent, self.link)
                }
                Ok(Loaded::Corrupt) => {
                    self.has_no_row(absent, Ticket::Corrupt);
                    self.manager.fresh(absent, self.link)
                }
                Err(kind) => Phase::Down(kind),
            };
        }
        self.transaction()
    }

    /// Returns the session that [`Run::open`] has opened.
    ///
    /// # Errors
    /// [`CallError::Interrupted`] when it is not open.
    pub(super) fn session(&mut self) -> Result<&mut Transaction, CallError> {
        self.transaction().map_err(|_| CallError::Interrupted)
    }

    fn transaction(&mut self) -> Result<&mut Transaction, Stop> {
        match &mut self.phase {
            Phase::Open(transaction) => Ok(transaction),
            Phase::Down(kind) => Err(Stop::of(*kind)),
            Phase::Loading { .. } => Err(Stop::Store),
        }
    }

    /// Reads the row as the store has it now.
    ///
    /// # Errors
    /// As [`Stop::of`].
    async fn load(&self, id: &SessionId) -> Result<Loaded, Stop> {
        let loaded = self.manager.load(id).await;
        loaded.map_err(|error| Stop::of(error.kind))
    }

    fn has_no_row(&mut self, absent: Standing, ticket: Ticket) {
        // If the session vanished during the visit, the visitor's cookie must not be expired.
        if absent == Standing::New {
            self.ticket = ticket;
            if ticket == Ticket::Dead {
                self.manager.counters.dead_cookies.add_one();
            }
        }
    }

    /// Discards uncommitted changes and reads the row again.
    ///
    /// # Errors
    /// As [`Stop::of`] when the store does not return the row. [`Stop::Conflict`] when data that the guest has seen differs
    /// now, or the session is gone.
    pub(super) async fn reload(&mut self) -> Result<(), Stop> {
        let base = self.open().await?.base().map(|base| base.id.clone());
        let newer = match base {
            None => None,
            Some(id) => match self.load(&id).await? {
                Loaded::Row(base) => Some(base),
                Loaded::Absent | Loaded::Corrupt | Loaded::Several => {
                    return Err(self.is_gone(id).await);
                }
            },
        };
        let on_conflict = newer.clone();
        let reloaded = self.open().await?.reload(newer);
        if reloaded.is_err() {
            let stop = on_conflict.map(|row| self.is_newer(row));
            return Err(stop.unwrap_or(Stop::Conflict(Successor::Gone)));
        }
        self.check = Check::Done;
        Ok(())
    }

    /// Takes the session lock at the run's first write that depends on the session's content, if other requests contend for the session.
    ///
    /// # Errors
    /// As [`Run::commit`].
    pub(super) async fn before_write(&mut self, writing: Writing) -> Result<(), Stop> {
        let has_seen = self.open().await?.has_seen() || writing == Writing::Seeing;
        if has_seen && !self.has_written {
            if self.awaits_turn() {
                self.take_its_turn().await?;
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
    pub(super) async fn release(&mut self, was_called: WasCalled) -> Result<CookieChange, Stop> {
        if was_called == WasCalled::No && !self.await_unused().await {
            return Ok(CookieChange::Keep);
        }
        self.open().await?;
        if self.has_store_failed {
            return Err(Stop::Store);
        }
        self.commit(super::policy::Trigger::Release).await?;
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
            Ok(Err(Stop::Conflict(Successor::Unknown(_)))) => {
                self.has_no_row(Standing::New, Ticket::Dead);
                self.phase = self.manager.fresh(Standing::New, self.link);
                self.check = Check::Done;
                true
            }
            _ => false,
        }
    }
}

/// Whether a write reveals the session's content to its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// It reveals nothing.
    Blind,
    /// It reveals the content, or commits data that was seen.
    Seeing,
}

/// Whether the guest made a call on its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WasCalled {
    Yes,
    No,
}

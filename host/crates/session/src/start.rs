//! The state that a run starts from: no row, the store's row, or the row that this process remembers.

use std::sync::Arc;
use std::time::Instant;

use crate::grant::SessionAccessLevel;
use crate::load::{LoadTask, LoadedRow, PendingRow, load_among, spawn_load};
use crate::lock::LockUnavailable;
use crate::policy::{self, LinkSecurity, RowState};
use crate::record::SessionId;
use crate::rivals::{RivalSessions, RowClaim};
use crate::shared::SessionShared;
use crate::snapshots::LastVisit;
use crate::store::StoreErrorKind;
use crate::transaction::{BaseRow, SessionLimits, Transaction};
use crate::visit::{Visit, VisitStart};
use crate::visit_lock::VisitLock;

/// The state that a run starts from.
pub(crate) struct StartState {
    pub(crate) phase: LoadPhase,
    pub(crate) check: SnapshotCheck,
}

/// The state of a run's session.
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
    Failed(StoreErrorKind),
}

/// Whether the row that a run started from is known to be the store's.
pub(crate) enum SnapshotCheck {
    /// The row came from the store.
    Done,
    /// The row is a snapshot. The commit will compare it, if there is one.
    Due(RowKnownSince),
    /// The row is a snapshot, and the store is being asked while the guest runs.
    UnderWay(RowKnownSince, LoadTask),
}

/// A time at which a snapshot's row certainly existed. A session that vanished while a visit ran is treated differently
/// from a session that had ended before the visit came.
#[derive(Clone, Copy)]
pub(crate) enum RowKnownSince {
    /// Some time before the visit began. The value is the start of the visit.
    BeforeVisit(Instant),
    /// A time while the visit ran.
    DuringVisit,
}

impl From<LoadPhase> for StartState {
    fn from(phase: LoadPhase) -> Self {
        let check = SnapshotCheck::Done;
        Self { phase, check }
    }
}

impl StartState {
    /// Returns the start state of a visit's first run. Takes the session lock first if the visit starts exclusively.
    ///
    /// # Errors
    /// Fails when the lock was not available in time.
    pub(crate) async fn first(
        shared: &Arc<SessionShared>,
        visit: &Visit,
        claim: &RowClaim,
        lock: &mut VisitLock,
    ) -> Result<Self, LockUnavailable> {
        let is_exclusive = visit.start == VisitStart::Exclusive;
        let session = match claim {
            RowClaim::One(id) if is_exclusive => Some(id.clone()),
            RowClaim::Several(rivals) if is_exclusive => session_among(shared, rivals).await,
            RowClaim::Nothing | RowClaim::One(_) | RowClaim::Several(_) => None,
        };
        if let Some(id) = session {
            let (deadline, reservation) = (visit.deadline.at(), visit.reservation.clone());
            lock.acquire(&shared.locks, &id, deadline, reservation)
                .await?;
        }
        let link = LinkSecurity::of(visit);
        Ok(match claim {
            RowClaim::Nothing => LoadPhase::without_row(shared, RowState::New, link).into(),
            RowClaim::One(id) => Self::of_session(shared, visit, id.clone()).await,
            RowClaim::Several(rivals) => LoadPhase::among(shared, rivals, link).await.into(),
        })
    }

    /// Returns the start state of the first run of a visit to this session.
    async fn of_session(shared: &Arc<SessionShared>, visit: &Visit, id: SessionId) -> Self {
        let snapshot = match visit.start {
            VisitStart::Optimistic => shared.snapshots.take(&id),
            VisitStart::Fresh | VisitStart::Exclusive => None,
        };
        let Some(snapshot) = snapshot.filter(|it| is_valid(shared, &it.base)) else {
            return LoadPhase::loading(shared, id, RowState::New).await.into();
        };
        shared.counters.snapshots.add_one();
        // A visit that is expected to write is checked by its commit. A visit that is not is checked by a read while the guest runs.
        let is_read =
            snapshot.last == LastVisit::Read || visit.grant.access == SessionAccessLevel::Read;
        let since = RowKnownSince::BeforeVisit(Instant::now());
        let check = match is_read {
            true => SnapshotCheck::UnderWay(since, spawn_load(shared, id)),
            false => SnapshotCheck::Due(since),
        };
        let phase = LoadPhase::on_row(shared, snapshot.base, LinkSecurity::of(visit));
        Self { phase, check }
    }

    /// Returns the start state on a row that existed while the visit ran.
    pub(crate) fn remembered(
        shared: &SessionShared,
        base: Arc<BaseRow>,
        link: LinkSecurity,
    ) -> Self {
        let check = SnapshotCheck::Due(RowKnownSince::DuringVisit);
        let phase = LoadPhase::on_row(shared, base, link);
        Self { phase, check }
    }
}

impl LoadPhase {
    /// Opens a session without a row.
    pub(crate) fn without_row(
        shared: &SessionShared,
        row_state: RowState,
        link: LinkSecurity,
    ) -> Self {
        let cookie = shared.new_cookie(link);
        let limits = SessionLimits::of(&shared.options);
        Self::Open(Box::new(Transaction::without_row(
            row_state, &cookie, limits,
        )))
    }

    /// Opens the session of a row.
    pub(crate) fn on_row(shared: &SessionShared, base: Arc<BaseRow>, link: LinkSecurity) -> Self {
        let cookie = shared.new_cookie(link);
        let limits = SessionLimits::of(&shared.options);
        Self::Open(Box::new(Transaction::loaded(base, &cookie, limits)))
    }

    /// Starts to load a row. If there is no row, the session is in state `absent`.
    pub(crate) async fn loading(
        shared: &Arc<SessionShared>,
        id: SessionId,
        absent: RowState,
    ) -> Self {
        let row = PendingRow::start(shared, id.clone()).await;
        Self::Loading { id, row, absent }
    }

    /// Starts to ask which of several sessions exists. Snapshots are not used: each would have to be compared with the store.
    async fn among(
        shared: &Arc<SessionShared>,
        rivals: &Arc<RivalSessions>,
        link: LinkSecurity,
    ) -> Self {
        let Some(first) = rivals.ids.first().filter(|_| !rivals.are_too_many()) else {
            shared.note_several();
            return Self::without_row(shared, RowState::Several, link);
        };
        Self::Loading {
            id: first.clone(),
            row: PendingRow::start_among(shared, rivals).await,
            absent: RowState::New,
        }
    }
}

fn is_valid(shared: &SessionShared, base: &BaseRow) -> bool {
    let (record, now_s) = (&base.record, shared.clock.now_s());
    let is_outlived = policy::is_outlived(&shared.options, record.created_at_s, now_s);
    record.expires_at_s >= now_s && !is_outlived
}

/// Returns the one session of several that exists. If the store does not answer, returns `None`: the run encounters the
/// failure as well.
async fn session_among(shared: &SessionShared, rivals: &RivalSessions) -> Option<SessionId> {
    if rivals.are_too_many() {
        return None;
    }
    match load_among(shared, &rivals.ids).await {
        Ok(LoadedRow::Row(base)) => Some(base.id.clone()),
        Ok(LoadedRow::Absent | LoadedRow::Corrupt | LoadedRow::Several) | Err(_) => None,
    }
}

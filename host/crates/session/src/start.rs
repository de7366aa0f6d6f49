//! The state that a run starts from: no row, the store's row, or the row that this process remembers.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use crate::policy;
use crate::policy::{LinkSecurity, RowState};
use crate::record::{SessionId, SessionRecord};
use crate::rivals::{RivalSessions, RowClaim};
use crate::run::{
    LoadPhase, Loading, PendingRow, RowKnownSince, SnapshotCheck, StartState, VisitLock,
};
use crate::snapshots::{LastVisit, RowKnowledge};
use crate::store::StoreError;
use crate::transact::{LoadedRow, SessionManager};
use crate::transaction::{BaseRow, SessionLimits, Transaction};
use crate::{SessionAccessLevel, TransactionRefusal, Visit, VisitStart};

impl SessionManager {
    /// Opens a session without a row.
    pub(crate) fn fresh(&self, row_state: RowState, link: LinkSecurity) -> LoadPhase {
        let cookie = policy::new_cookie(&self.options.cookie, link, self.clock.now_ms());
        let limits = SessionLimits::of(&self.options);
        LoadPhase::Open(Box::new(Transaction::without_row(
            row_state, &cookie, limits,
        )))
    }

    /// Opens the session of a row.
    pub(crate) fn on_row(&self, base: Arc<BaseRow>, link: LinkSecurity) -> LoadPhase {
        let cookie = policy::new_cookie(&self.options.cookie, link, self.clock.now_ms());
        let limits = SessionLimits::of(&self.options);
        LoadPhase::Open(Box::new(Transaction::loaded(base, &cookie, limits)))
    }

    /// Returns the start state of the first run of a visit with valid cookies. Takes the session lock first if the visit
    /// starts exclusively.
    ///
    /// # Errors
    /// [`TransactionRefusal::Busy`] when the lock was not available in time.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        visit: &Visit,
        claim: &RowClaim,
        lock: &mut VisitLock,
    ) -> Result<StartState, TransactionRefusal> {
        let is_exclusive = visit.start == VisitStart::Exclusive;
        let session = match claim {
            RowClaim::One(id) if is_exclusive => Some(id.clone()),
            RowClaim::Several(rivals) if is_exclusive => self.session_among(rivals).await,
            _ => None,
        };
        if let Some(id) = session {
            let (deadline, place) = (visit.deadline.at(), visit.place.clone());
            let taken = lock.take(self, &id, deadline, place).await;
            taken.map_err(|_| TransactionRefusal::Busy)?;
        }
        Ok(match claim {
            RowClaim::Nothing => self.fresh(RowState::New, LinkSecurity::of(visit)).into(),
            RowClaim::One(id) => self.start_on(visit, id.clone()).await,
            RowClaim::Several(rivals) => self.start_among(rivals, LinkSecurity::of(visit)).await,
        })
    }

    /// Returns the start state of the first run of a visit to this session.
    async fn start_on(self: &Arc<Self>, visit: &Visit, id: SessionId) -> StartState {
        let snapshot = match visit.start {
            VisitStart::Optimistic => self.snapshots.take(&id),
            VisitStart::Fresh | VisitStart::Exclusive => None,
        };
        let Some(snapshot) = snapshot.filter(|it| self.is_valid(&it.base)) else {
            return self.loading(id, RowState::New).await.into();
        };
        self.counters.snapshots.add_one();
        // A visit that is expected to write is checked by its commit. A visit that is not is checked by a read while the guest runs.
        let is_read =
            snapshot.last == LastVisit::Read || visit.grant.access == SessionAccessLevel::Read;
        let since = RowKnownSince::BeforeVisit(Instant::now());
        let check = match is_read {
            true => SnapshotCheck::UnderWay(since, self.spawn_load(id)),
            false => SnapshotCheck::Due(since),
        };
        let phase = self.on_row(snapshot.base, LinkSecurity::of(visit));
        StartState { phase, check }
    }

    fn is_valid(&self, base: &BaseRow) -> bool {
        let (record, now_s) = (&base.record, self.clock.now_s());
        let is_outlived = policy::is_outlived(&self.options, record.created_at_s, now_s);
        record.expires_at_s >= now_s && !is_outlived
    }

    /// Starts to load a row, so that the guest's instance can be created meanwhile. If there is no row, the session is in state `absent`.
    pub(crate) async fn loading(self: &Arc<Self>, id: SessionId, absent: RowState) -> LoadPhase {
        let row = self
            .pending_row(Arc::clone(self).load_owned(id.clone()))
            .await;
        LoadPhase::Loading { id, row, absent }
    }

    async fn pending_row(
        &self,
        load: impl Future<Output = Result<LoadedRow, StoreError>> + Send + 'static,
    ) -> PendingRow {
        let mut load = Box::pin(load);
        // A store in memory answers at once, so no task is spawned for it.
        match futures_util::poll!(&mut load) {
            Poll::Ready(loaded) => PendingRow::Ready(Some(loaded)),
            Poll::Pending => PendingRow::Loading(AbortOnDropHandle::new(self.tasks.spawn(load))),
        }
    }

    /// Starts to ask which of several sessions exists. Snapshots are not used: each would have to be compared with the store.
    async fn start_among(
        self: &Arc<Self>,
        rivals: &Arc<RivalSessions>,
        link: LinkSecurity,
    ) -> StartState {
        let Some(first) = rivals.ids.first().filter(|_| !rivals.are_too_many()) else {
            self.note_several();
            return self.fresh(RowState::Several, link).into();
        };
        let load = Arc::clone(self).load_among_owned(Arc::clone(rivals));
        let phase = LoadPhase::Loading {
            id: first.clone(),
            row: self.pending_row(load).await,
            absent: RowState::New,
        };
        phase.into()
    }

    /// Returns the one session of several that exists. If the store does not answer, returns `None`: the run encounters the
    /// failure as well.
    async fn session_among(&self, rivals: &RivalSessions) -> Option<SessionId> {
        if rivals.are_too_many() {
            return None;
        }
        match self.load_among(&rivals.ids).await {
            Ok(LoadedRow::Row(base)) => Some(base.id.clone()),
            _ => None,
        }
    }

    /// Counts and logs a visit that came with several sessions, none of which is used.
    pub(crate) fn note_several(&self) {
        self.counters.ambiguous_cookies.add_one();
        self.log_rivals(
            "a request came with valid cookies of several sessions, and none of them is used; its browser is asked to drop them",
        );
    }

    /// Reads a row in a task that is aborted when its handle is dropped. Otherwise the read of a finished request would
    /// delay the reads of other requests.
    pub(crate) fn spawn_load(self: &Arc<Self>, id: SessionId) -> Loading {
        let load = Arc::clone(self).load_owned(id);
        AbortOnDropHandle::new(self.tasks.spawn(load))
    }

    async fn load_owned(self: Arc<Self>, id: SessionId) -> Result<LoadedRow, StoreError> {
        self.load(&id).await
    }

    async fn load_among_owned(
        self: Arc<Self>,
        rivals: Arc<RivalSessions>,
    ) -> Result<LoadedRow, StoreError> {
        self.load_among(&rivals.ids).await
    }

    /// Reads the rows of several ids in one call.
    async fn load_among(&self, ids: &[SessionId]) -> Result<LoadedRow, StoreError> {
        let rows = self.read(ids).await?;
        let each = ids.iter().zip(rows).map(|(id, row)| self.judge(id, row));
        Ok(each.fold(LoadedRow::Absent, LoadedRow::combine))
    }

    /// Reads a session's row.
    ///
    /// # Errors
    /// Fails when the store does not answer.
    pub(crate) async fn load(&self, id: &SessionId) -> Result<LoadedRow, StoreError> {
        let rows = self.read(std::slice::from_ref(id)).await?;
        Ok(self.judge(id, rows.into_iter().next().flatten()))
    }

    async fn read(&self, ids: &[SessionId]) -> Result<Vec<Option<SessionRecord>>, StoreError> {
        self.counters.loads.add_one();
        let rows = self.store.load_many(ids, self.clock.now_s()).await;
        rows.inspect_err(|error| self.log_store_fault("could not read a session", error))
    }

    /// Decides whether a row that was read is a session.
    fn judge(&self, id: &SessionId, row: Option<SessionRecord>) -> LoadedRow {
        let now_s = self.clock.now_s();
        let is_outlived =
            |row: &SessionRecord| policy::is_outlived(&self.options, row.created_at_s, now_s);
        let Some(record) = row.filter(|row| !is_outlived(row)) else {
            self.snapshots.forget(id);
            return LoadedRow::Absent;
        };
        match BaseRow::new(id.clone(), record, self.options.charset) {
            Ok(base) => {
                let base = Arc::new(base);
                self.snapshots.keep(&base, RowKnowledge::Loaded);
                LoadedRow::Row(base)
            }
            Err(error) => {
                self.snapshots.forget(id);
                self.counters.corrupt_rows.add_one();
                let session = self.keys.load().fingerprint(id);
                tracing::warn!(session, %error, "a row is not a valid session; it is left unchanged");
                LoadedRow::Corrupt
            }
        }
    }

    /// Returns the start state on a row that existed while the visit ran.
    pub(crate) fn remembered(&self, base: Arc<BaseRow>, link: LinkSecurity) -> StartState {
        let check = SnapshotCheck::Due(RowKnownSince::DuringVisit);
        let phase = self.on_row(base, link);
        StartState { phase, check }
    }
}

impl LoadedRow {
    /// Combines the results for two ids of one request.
    fn combine(self, other: Self) -> Self {
        match (self, other) {
            (Self::Several, _) | (_, Self::Several) | (Self::Row(_), Self::Row(_)) => Self::Several,
            (row @ Self::Row(_), _) | (_, row @ Self::Row(_)) => row,
            (Self::Corrupt, _) | (_, Self::Corrupt) => Self::Corrupt,
            (Self::Absent, Self::Absent) => Self::Absent,
        }
    }
}

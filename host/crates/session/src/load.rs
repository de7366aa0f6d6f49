//! Reads of rows, and the sessions that they contain. Remembers each row as a snapshot.

use std::sync::Arc;
use std::task::Poll;

use tokio_util::task::AbortOnDropHandle;

use crate::policy;
use crate::record::{SessionId, SessionRecord};
use crate::rivals::RivalSessions;
use crate::shared::SessionShared;
use crate::snapshots::RowKnowledge;
use crate::store::{StoreError, StoreErrorKind};
use crate::transaction::BaseRow;

/// The result of reading a row.
pub(crate) enum LoadedRow {
    Row(Arc<BaseRow>),
    Absent,
    Corrupt,
    /// More than one of several ids has a row.
    Several,
}

/// A task that reads a row. It is aborted when the run that waits for it is dropped, for example because its guest's
/// concurrency limit refused the request. Otherwise the read of a finished request would delay the reads of other requests.
pub(crate) type LoadTask = AbortOnDropHandle<Result<LoadedRow, StoreError>>;

/// A row that was requested from the store.
pub(crate) enum PendingRow {
    /// The store has answered. `None` once the answer was taken.
    Ready(Option<Result<LoadedRow, StoreError>>),
    /// The store is being asked.
    Loading(LoadTask),
}

impl PendingRow {
    /// Starts to read a session's row, so that the guest's instance can be created meanwhile.
    pub(crate) async fn start(shared: &Arc<SessionShared>, id: SessionId) -> Self {
        Self::of(shared, load_owned(Arc::clone(shared), id)).await
    }

    /// Starts to ask which of several sessions exists.
    pub(crate) async fn start_among(
        shared: &Arc<SessionShared>,
        rivals: &Arc<RivalSessions>,
    ) -> Self {
        let (owner, rivals) = (Arc::clone(shared), Arc::clone(rivals));
        let load = async move { load_among(&owner, &rivals.ids).await };
        Self::of(shared, load).await
    }

    async fn of(
        shared: &SessionShared,
        load: impl Future<Output = Result<LoadedRow, StoreError>> + Send + 'static,
    ) -> Self {
        let mut load = Box::pin(load);
        // A store in memory answers at once, so no task is spawned for it.
        match futures_util::poll!(&mut load) {
            Poll::Ready(loaded) => Self::Ready(Some(loaded)),
            Poll::Pending => Self::Loading(AbortOnDropHandle::new(shared.spawn(load))),
        }
    }

    /// Waits for the row. The row is returned once; later calls fail.
    pub(crate) async fn take(&mut self) -> Result<LoadedRow, StoreErrorKind> {
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

/// Reads a row in a task.
pub(crate) fn spawn_load(shared: &Arc<SessionShared>, id: SessionId) -> LoadTask {
    AbortOnDropHandle::new(shared.spawn(load_owned(Arc::clone(shared), id)))
}

async fn load_owned(shared: Arc<SessionShared>, id: SessionId) -> Result<LoadedRow, StoreError> {
    load(&shared, &id).await
}

/// Reads a session's row.
///
/// # Errors
/// Fails when the store does not answer.
pub(crate) async fn load(shared: &SessionShared, id: &SessionId) -> Result<LoadedRow, StoreError> {
    let rows = read(shared, std::slice::from_ref(id)).await?;
    Ok(judge(shared, id, rows.into_iter().next().flatten()))
}

/// Reads the rows of several ids in one call.
///
/// # Errors
/// Fails when the store does not answer.
pub(crate) async fn load_among(
    shared: &SessionShared,
    ids: &[SessionId],
) -> Result<LoadedRow, StoreError> {
    let rows = read(shared, ids).await?;
    let each = ids.iter().zip(rows).map(|(id, row)| judge(shared, id, row));
    Ok(each.fold(LoadedRow::Absent, LoadedRow::combine))
}

async fn read(
    shared: &SessionShared,
    ids: &[SessionId],
) -> Result<Vec<Option<SessionRecord>>, StoreError> {
    shared.counters.loads.add_one();
    let rows = shared.store.load_many(ids, shared.clock.now_s()).await;
    rows.inspect_err(|error| shared.log_store_fault("could not read a session", error))
}

/// Decides whether a row that was read is a session.
fn judge(shared: &SessionShared, id: &SessionId, row: Option<SessionRecord>) -> LoadedRow {
    let now_s = shared.clock.now_s();
    let is_outlived =
        |row: &SessionRecord| policy::is_outlived(&shared.options, row.created_at_s, now_s);
    let Some(record) = row.filter(|row| !is_outlived(row)) else {
        shared.snapshots.forget(id);
        return LoadedRow::Absent;
    };
    match BaseRow::new(id.clone(), record, shared.options.charset) {
        Ok(base) => {
            let base = Arc::new(base);
            shared.snapshots.keep(&base, RowKnowledge::Loaded);
            LoadedRow::Row(base)
        }
        Err(error) => {
            shared.snapshots.forget(id);
            shared.counters.corrupt_rows.add_one();
            let session = shared.fingerprint(id);
            tracing::warn!(session, %error, "a row is not a valid session; it is left unchanged");
            LoadedRow::Corrupt
        }
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

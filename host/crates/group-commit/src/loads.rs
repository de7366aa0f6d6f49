//! Batched reads: one `SELECT ... IN`.

use futures_util::{StreamExt as _, stream};

use super::batch_queue::{BatchEntry, BatchJob, unavailable};
use super::dialect::{Dialect, FailureScope, RowsById, StatementFailure as _};
use super::queue::Batchable;
use cloakroom_session::record::{SessionId, SessionRecord};
use cloakroom_session::store::StoreError;

/// A read of one row.
pub(crate) struct LoadJob {
    pub(crate) id: SessionId,
    pub(crate) now_s: i64,
}

impl Batchable for LoadJob {
    /// Any number of statements may read a row.
    fn changed_row(&self) -> Option<&SessionId> {
        None
    }

    fn is_contended(&self) -> bool {
        false
    }

    fn fits(&self, first: &Self) -> bool {
        self.now_s == first.now_s
    }

    fn bytes(&self) -> usize {
        self.id.as_str().len()
    }
}

impl BatchJob for LoadJob {
    const ENDS_WITH_CALLER: bool = true;

    type Outcome = Result<Option<SessionRecord>, StoreError>;

    fn refused(error: StoreError) -> Self::Outcome {
        Err(error)
    }

    fn interrupted() -> Self::Outcome {
        Err(unavailable("the read was interrupted"))
    }

    async fn run<'a, D: Dialect>(
        dialect: &'a D,
        connection: D::Connection<'a>,
        entries: Vec<BatchEntry<D, Self>>,
    ) {
        let loaded = load(dialect, connection, &entries).await;
        if entries.len() > 1
            && matches!(&loaded, Err(error) if error.scope() == FailureScope::OneRow)
        {
            return one_by_one(dialect, entries).await;
        }
        for entry in entries {
            let row = match &loaded {
                Ok(rows) => Ok(row_of(rows, &entry.job.id)),
                Err(error) => Err(error.to_store_error()),
            };
            entry.answer(row);
        }
    }
}

async fn load<'a, D: Dialect>(
    dialect: &'a D,
    connection: D::Connection<'a>,
    entries: &[BatchEntry<D, LoadJob>],
) -> Result<RowsById<SessionRecord>, D::Error> {
    let mut ids: Vec<_> = entries.iter().map(|entry| &entry.job.id).collect();
    ids.sort_unstable();
    ids.dedup();
    dialect
        .load_rows(connection, &ids, entries[0].job.now_s)
        .await
}

/// Reads each row in a separate statement, so that one unreadable row does not fail the other reads.
async fn one_by_one<D: Dialect>(dialect: &D, entries: Vec<BatchEntry<D, LoadJob>>) {
    let each = stream::iter(entries).for_each_concurrent(
        dialect.rows_in_flight_max(),
        |entry| async move {
            let row = load_one(dialect, &entry.job).await;
            entry.answer(row);
        },
    );
    each.await;
}

async fn load_one<D: Dialect>(
    dialect: &D,
    job: &LoadJob,
) -> Result<Option<SessionRecord>, StoreError> {
    let loaded = match dialect.acquire().await {
        Ok(connection) => dialect.load_rows(connection, &[&job.id], job.now_s).await,
        Err(error) => Err(error),
    };
    match loaded {
        Ok(rows) => Ok(row_of(&rows, &job.id)),
        Err(error) => Err(error.to_store_error()),
    }
}

fn row_of(rows: &RowsById<SessionRecord>, id: &SessionId) -> Option<SessionRecord> {
    rows.get(id.as_str().as_bytes()).cloned()
}

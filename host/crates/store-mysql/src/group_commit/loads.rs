//! Batched reads: one `SELECT ... IN`.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::batch_queue::{BatchEntry, BatchJob, unavailable};
use super::queue::Batchable;
use crate::MysqlShared;
use crate::error::StatementError;
use crate::rows;
use crate::rows::FoundRows;
use crate::servers::PooledConnection;
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

    async fn run(shared: &MysqlShared, link: PooledConnection<'_>, entries: Vec<BatchEntry<Self>>) {
        let loaded = load(shared, link, &entries).await;
        if entries.len() > 1 && matches!(&loaded, Err(fault) if fault.may_be_for_a_row()) {
            return one_by_one(shared, entries).await;
        }
        for entry in entries {
            let row = match &loaded {
                Ok(found) => Ok(found.row(&entry.job.id)),
                Err(fault) => Err(fault.to_store_error()),
            };
            entry.answer(row);
        }
    }
}

async fn load(
    shared: &MysqlShared,
    link: PooledConnection<'_>,
    entries: &[BatchEntry<LoadJob>],
) -> Result<FoundRows, StatementError> {
    let ids = entries.iter().map(|entry| &entry.job.id).collect();
    find(shared, link, ids, entries[0].job.now_s).await
}

async fn find(
    shared: &MysqlShared,
    link: PooledConnection<'_>,
    mut ids: Vec<&SessionId>,
    now_s: i64,
) -> Result<FoundRows, StatementError> {
    let MysqlShared { hosts, sql, .. } = shared;
    ids.sort_unstable();
    ids.dedup();
    rows::load(link, Instant::now(), hosts, sql, &ids, now_s).await
}

/// Reads each row in a separate statement, so that one unreadable row does not fail the other reads.
async fn one_by_one(shared: &MysqlShared, entries: Vec<BatchEntry<LoadJob>>) {
    let each =
        stream::iter(entries).for_each_concurrent(shared.rows_in_flight_max, |entry| async {
            let LoadJob { id, now_s } = &entry.job;
            let row = load_one(shared, id, *now_s).await;
            entry.answer(row);
        });
    each.await;
}

async fn load_one(
    shared: &MysqlShared,
    id: &SessionId,
    now_s: i64,
) -> Result<Option<SessionRecord>, StoreError> {
    let loaded = match shared.hosts.link().await {
        Ok(link) => find(shared, link, vec![id], now_s).await,
        Err(fault) => Err(fault),
    };
    match loaded {
        Ok(found) => Ok(found.row(id)),
        Err(fault) => Err(fault.to_store_error()),
    }
}

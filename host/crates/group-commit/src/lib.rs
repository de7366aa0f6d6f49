//! Group commit: the reads and commits that wait for the database are sent together in one statement, for any SQL store
//! that implements [`Dialect`]. Knows neither a driver nor the text of a statement.
//!
//! This is a crate and not a module of a store for two reasons. A second SQL store must not depend on the driver of the
//! first one. And this crate has no driver among its dependencies, so the compiler keeps drivers out of it, without a
//! rule in `tests/tidy/tests/tidy.rs`.

mod batch_queue;
mod commits;
mod contended;
mod dialect;
mod loads;
mod queue;
mod unresolved;
mod verdicts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join;
use futures_util::{StreamExt as _, stream};
use tokio_util::task::TaskTracker;

use batch_queue::{BatchQueue, interrupted_commit};
use cloakroom_session::record::{SessionId, SessionRecord};
use cloakroom_session::store::{Commit, CommitVerdict, StoreError};
use commits::CommitJob;
use contended::ContendedRows;
use loads::LoadJob;
use unresolved::UnresolvedCommits;

pub use dialect::{
    BatchLimits, Dialect, FailureScope, RowInsert, RowSwap, RowsById, StatementFailure,
};

/// Reads and commits the sessions of one table, in batches where that is possible.
///
/// Creations, updates in place and reads are batched. Each other change is a statement of its own. All of them run in
/// tasks of their own, so a caller that is dropped does not interrupt them.
pub struct GroupCommit<D: Dialect> {
    dialect: Arc<D>,
    tasks: TaskTracker,
    commits: Arc<BatchQueue<D, CommitJob>>,
    loads: Arc<BatchQueue<D, LoadJob>>,
    unresolved: UnresolvedCommits,
    contended: ContendedRows,
}

impl<D: Dialect> GroupCommit<D> {
    /// Creates the queues. `wait_max` is the longest time that a read or commit waits before it is sent.
    pub fn new(dialect: &Arc<D>, wait_max: Duration) -> Self {
        let tasks = TaskTracker::new();
        Self {
            commits: BatchQueue::new(dialect, &tasks, wait_max),
            loads: BatchQueue::new(dialect, &tasks, wait_max),
            dialect: Arc::clone(dialect),
            tasks,
            unresolved: UnresolvedCommits::default(),
            contended: ContendedRows::default(),
        }
    }

    /// Reads rows and returns one result per id, in the same order: `None` if the row is absent or expired before
    /// `now_s`.
    ///
    /// Cancel safety: if it is dropped, reads that have not been sent are withdrawn.
    ///
    /// # Errors
    /// Returns the first error of a row, in the order of the ids.
    pub async fn load_many(
        &self,
        ids: &[SessionId],
        now_s: i64,
    ) -> Result<Vec<Option<SessionRecord>>, StoreError> {
        let job = |id: &SessionId| LoadJob {
            id: id.clone(),
            now_s,
        };
        let jobs = ids.iter().map(job).collect();
        self.loads.run_all(jobs).await.into_iter().collect()
    }

    /// Applies each change and returns one verdict per change, in the same order. No id may occur twice.
    ///
    /// Cancel safety: if it is dropped, the commits still run, but their verdicts are not recorded: an unresolved
    /// commit may then be batched when it is sent again.
    pub async fn commit_many(&self, commits: &[Commit], now_s: i64) -> Vec<CommitVerdict> {
        let (mut jobs, mut job_indexes) = (Vec::new(), Vec::new());
        let (mut others, mut other_indexes) = (Vec::new(), Vec::new());
        let mut refused = Vec::new();
        for (index, commit) in commits.iter().enumerate() {
            if let Some(error) = self.dialect.refusal(commit) {
                refused.push((index, CommitVerdict::Failed(error)));
            } else if let Some(job) = CommitJob::new(self, commit, now_s) {
                jobs.push(job);
                job_indexes.push(index);
            } else {
                others.push(commit.clone());
                other_indexes.push(index);
            }
        }
        let (job_verdicts, other_verdicts) = join(
            self.commits.run_all(jobs),
            self.commit_separately(others, now_s),
        )
        .await;
        let indexes = job_indexes.into_iter().chain(other_indexes);
        let indexed = indexes.zip(job_verdicts.into_iter().chain(other_verdicts));
        let mut verdicts: Vec<_> = indexed.chain(refused).collect();
        verdicts.sort_by_key(|(index, _)| *index);
        let verdicts: Vec<_> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
        for (commit, verdict) in commits.iter().zip(&verdicts) {
            let now = Instant::now();
            self.unresolved.note(commit, verdict, now);
            self.contended.note(commit, verdict, now);
        }
        verdicts
    }

    /// Waits for the commits and reads that are in progress. New ones may still begin.
    pub async fn shutdown(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Runs each commit in a separate statement.
    async fn commit_separately(&self, commits: Vec<Commit>, now_s: i64) -> Vec<CommitVerdict> {
        if commits.is_empty() {
            return Vec::new();
        }
        let (dialect, count) = (Arc::clone(&self.dialect), commits.len());
        let task = (self.tasks).spawn(async move { commit_rows(&*dialect, &commits, now_s).await });
        match task.await {
            Ok(verdicts) => verdicts,
            // The task panicked or the runtime is shutting down, so its progress is unknown.
            Err(_) => (0..count)
                .map(|_| CommitVerdict::Ambiguous(interrupted_commit()))
                .collect(),
        }
    }
}

/// Commits row by row, with a limited number of rows at once, started in the order of their ids.
async fn commit_rows<D: Dialect>(
    dialect: &D,
    commits: &[Commit],
    now_s: i64,
) -> Vec<CommitVerdict> {
    let mut order: Vec<usize> = (0..commits.len()).collect();
    order.sort_by(|a, b| commits[*a].id.cmp(&commits[*b].id));
    let mut verdicts: Vec<_> = stream::iter(order)
        .map(|index| async move {
            let verdict = dialect.commit_row(&commits[index], now_s).await;
            (index, verdict)
        })
        .buffer_unordered(dialect.rows_in_flight_max())
        .collect()
        .await;
    verdicts.sort_by_key(|(index, _)| *index);
    verdicts.into_iter().map(|(_, verdict)| verdict).collect()
}

#[cfg(test)]
mod tests;

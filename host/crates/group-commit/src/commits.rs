//! Batched changes: one `UPDATE` that swaps each row if it still equals the version that was read, or one `INSERT`.
//! Derives the verdict for each caller.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::GroupCommit;
use super::batch_queue::{BatchEntry, BatchJob, interrupted_commit, unavailable};
use super::dialect::{Dialect, FailureScope, RowInsert, RowSwap, StatementFailure as _};
use super::queue::Batchable;
use super::verdicts::{SwapFinding, SwapTrace, resolve_by_count};
use cloakroom_session::record::{SessionId, TokenHistory};
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, StoreError};

/// A change to one row, of a kind that can be batched.
pub(crate) struct CommitJob {
    commit: Commit,
    now_s: i64,
    kind: CommitKind,
    is_contended: bool,
}

#[derive(Clone, Copy)]
enum CommitKind {
    Create,
    Swap(SwapTrace),
}

impl CommitJob {
    /// Returns `None` if the commit must run in a separate statement: it moves or deletes its row, leaves no token that
    /// identifies it, or may have been sent before.
    pub(crate) fn new<D: Dialect>(
        group_commit: &GroupCommit<D>,
        commit: &Commit,
        now_s: i64,
    ) -> Option<Self> {
        let kind = match &commit.change {
            RowChange::Create(_) => CommitKind::Create,
            RowChange::Update {
                base,
                record,
                new_id: None,
            } if group_commit.dialect.swaps_many() => CommitKind::Swap(SwapTrace {
                token: record.tokens.newest()?,
                base_token: base.tokens.newest(),
            }),
            RowChange::Update { .. } | RowChange::Delete { .. } => return None,
        };
        let now = Instant::now();
        if group_commit.unresolved.contain(&commit.id, now) {
            return None;
        }
        let is_swap = matches!(kind, CommitKind::Swap(_));
        Some(Self {
            commit: commit.clone(),
            now_s,
            kind,
            is_contended: is_swap && group_commit.contended.contain(&commit.id, now),
        })
    }
}

impl Batchable for CommitJob {
    fn changed_row(&self) -> Option<&SessionId> {
        Some(&self.commit.id)
    }

    fn is_contended(&self) -> bool {
        self.is_contended
    }

    fn fits(&self, first: &Self) -> bool {
        match (self.kind, first.kind) {
            (CommitKind::Create, CommitKind::Create) => true,
            (CommitKind::Swap(_), CommitKind::Swap(_)) => self.now_s == first.now_s,
            (CommitKind::Create, CommitKind::Swap(_))
            | (CommitKind::Swap(_), CommitKind::Create) => false,
        }
    }

    fn bytes(&self) -> usize {
        match &self.commit.change {
            RowChange::Create(record) | RowChange::Update { record, .. } => record.data.len(),
            RowChange::Delete { .. } => 0,
        }
    }
}

impl BatchJob for CommitJob {
    /// A commit may have been sent before, so it is completed even if its caller is dropped.
    const ENDS_WITH_CALLER: bool = false;

    type Outcome = CommitVerdict;

    fn refused(error: StoreError) -> CommitVerdict {
        CommitVerdict::Failed(error)
    }

    fn interrupted() -> CommitVerdict {
        CommitVerdict::Ambiguous(interrupted_commit())
    }

    async fn run<'a, D: Dialect>(
        dialect: &'a D,
        connection: D::Connection<'a>,
        mut entries: Vec<BatchEntry<D, Self>>,
    ) {
        // All statements that lock several rows lock them in this order.
        entries.sort_by(|a, b| a.job.commit.id.cmp(&b.job.commit.id));
        match entries[0].job.kind {
            CommitKind::Create => create(dialect, connection, entries).await,
            CommitKind::Swap(_) => swap(dialect, connection, entries).await,
        }
    }
}

async fn swap<'a, D: Dialect>(
    dialect: &'a D,
    connection: D::Connection<'a>,
    entries: Vec<BatchEntry<D, CommitJob>>,
) {
    let sent = {
        let rows: Vec<_> = entries.iter().filter_map(row_swap).collect();
        let now_s = entries[0].job.now_s;
        dialect.swap_rows(connection, &rows, now_s).await
    };
    let (swapped, mut connection) = match sent {
        Ok(sent) => sent,
        Err(error) => return answer_failure(dialect, entries, error).await,
    };
    let findings = swap_findings(dialect, &mut connection, swapped, &entries).await;
    // Release the connection before answering, so that a caller that continues at once finds it in the pool.
    drop(connection);
    match findings {
        Ok(findings) => {
            for (entry, finding) in entries.into_iter().zip(findings) {
                entry.answer(verdict_on(finding));
            }
        }
        Err(error) => {
            for entry in entries {
                entry.answer(CommitVerdict::Ambiguous(error.to_store_error()));
            }
        }
    }
}

fn row_swap<D: Dialect>(entry: &BatchEntry<D, CommitJob>) -> Option<RowSwap<'_>> {
    let Commit { id, change } = &entry.job.commit;
    match change {
        RowChange::Update { base, record, .. } => Some(RowSwap { id, base, record }),
        RowChange::Create(_) | RowChange::Delete { .. } => None,
    }
}

/// Determines which rows were swapped. If the count alone does not decide, reads the tokens over the connection that
/// swapped the rows.
///
/// # Errors
/// Returns an error if the connection broke in the meantime. The outcome is then unknown.
async fn swap_findings<D: Dialect>(
    dialect: &D,
    connection: &mut D::Connection<'_>,
    swapped: u64,
    entries: &[BatchEntry<D, CommitJob>],
) -> Result<Vec<SwapFinding>, D::Error> {
    if swapped == 0 {
        return Ok(vec![SwapFinding::NotApplied; entries.len()]);
    }
    if swapped == entries.len() as u64 {
        return Ok(vec![SwapFinding::Applied; entries.len()]);
    }
    let ids: Vec<_> = entries.iter().map(|entry| &entry.job.commit.id).collect();
    let tokens = dialect.read_tokens(connection, &ids).await?;
    let finding = |entry: &BatchEntry<D, CommitJob>| {
        let id = entry.job.commit.id.as_str();
        entry.job.finding(tokens.get(id.as_bytes()))
    };
    let mut findings: Vec<_> = entries.iter().map(finding).collect();
    resolve_by_count(swapped, &mut findings);
    Ok(findings)
}

async fn create<'a, D: Dialect>(
    dialect: &'a D,
    connection: D::Connection<'a>,
    mut entries: Vec<BatchEntry<D, CommitJob>>,
) {
    let mut connection = Some(connection);
    while !entries.is_empty() {
        let next = match connection.take() {
            Some(connection) => Ok(connection),
            None => dialect.acquire().await,
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => return answer_all(entries, &error),
        };
        let later = entries.split_off(dialect.insert_rows_max(entries.len()));
        let sent = {
            let rows: Vec<_> = entries.iter().filter_map(row_insert).collect();
            dialect.insert_rows(next, &rows).await
        };
        match sent {
            Ok(used) => {
                // Release the connection before answering, so that a caller that continues at once finds it in the pool.
                connection = (!later.is_empty()).then_some(used);
                for entry in entries {
                    entry.answer(CommitVerdict::Committed);
                }
            }
            Err(error) => answer_failure(dialect, entries, error).await,
        }
        entries = later;
    }
}

fn row_insert<D: Dialect>(entry: &BatchEntry<D, CommitJob>) -> Option<RowInsert<'_>> {
    let Commit { id, change } = &entry.job.commit;
    match change {
        RowChange::Create(record) => Some(RowInsert { id, record }),
        RowChange::Update { .. } | RowChange::Delete { .. } => None,
    }
}

/// Answers the jobs of a statement that failed, after another attempt for each of them if that may help.
async fn answer_failure<D: Dialect>(
    dialect: &D,
    entries: Vec<BatchEntry<D, CommitJob>>,
    error: D::Error,
) {
    let is_swap = matches!(entries[0].job.kind, CommitKind::Swap(_));
    match error.scope() {
        // Sending the same swap again is safe: it applies only to the unchanged base. If it does not match, the row's
        // tokens show the outcome of the first one.
        FailureScope::MayStillApply if is_swap => {
            one_by_one(dialect, entries, FirstStatement::MayApply).await;
        }
        FailureScope::OneRow if entries.len() > 1 => {
            one_by_one(dialect, entries, FirstStatement::Finished).await;
        }
        FailureScope::MayStillApply | FailureScope::OneRow | FailureScope::AllRows => {
            answer_all(entries, &error);
        }
    }
}

/// The possible effect of a batch statement that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstStatement {
    /// It will not change any more rows.
    Finished,
    /// It may still change rows: other members of the group may apply it.
    MayApply,
}

/// Runs each job in a separate statement, so that only the job that caused the failure fails.
async fn one_by_one<D: Dialect>(
    dialect: &D,
    entries: Vec<BatchEntry<D, CommitJob>>,
    first: FirstStatement,
) {
    let each = stream::iter(entries).for_each_concurrent(
        dialect.rows_in_flight_max(),
        |entry| async move {
            let CommitJob { commit, now_s, .. } = &entry.job;
            let verdict = match dialect.commit_row(commit, *now_s).await {
                CommitVerdict::RolledBack(error) if first == FirstStatement::MayApply => {
                    CommitVerdict::Ambiguous(error)
                }
                CommitVerdict::Conflict | CommitVerdict::RolledBack(_) => {
                    recheck(dialect, &entry.job, first).await
                }
                verdict => verdict,
            };
            entry.answer(verdict);
        },
    );
    each.await;
}

/// Returns the verdict on a conflict after a first statement has failed. Some rows of that statement may have been
/// swapped nevertheless: it may have run on several servers at once (Vitess), or on a group member that rolled it back
/// while leaving the group.
async fn recheck<D: Dialect>(dialect: &D, job: &CommitJob, first: FirstStatement) -> CommitVerdict {
    if matches!(job.kind, CommitKind::Create) {
        // The session is created under another id, and the reaper deletes the row.
        return CommitVerdict::Conflict;
    }
    let id = &job.commit.id;
    let found = match dialect.acquire().await {
        Ok(mut connection) => dialect.read_tokens(&mut connection, &[id]).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(tokens) => match (job.finding(tokens.get(id.as_str().as_bytes())), first) {
            // The row's token history does not reach that far back: the commit's base was old, so the first statement
            // did not match the row.
            (SwapFinding::Unknown, FirstStatement::Finished) => CommitVerdict::Conflict,
            (finding, _) => verdict_on(finding),
        },
        Err(error) => CommitVerdict::Ambiguous(error.to_store_error()),
    }
}

impl CommitJob {
    fn finding(&self, tokens: Option<&TokenHistory>) -> SwapFinding {
        match self.kind {
            CommitKind::Swap(trace) => trace.finding(tokens),
            CommitKind::Create => SwapFinding::Unknown,
        }
    }
}

fn verdict_on(finding: SwapFinding) -> CommitVerdict {
    match finding {
        SwapFinding::Applied => CommitVerdict::Committed,
        SwapFinding::NotApplied => CommitVerdict::Conflict,
        SwapFinding::Unknown => CommitVerdict::Ambiguous(unavailable(
            "some rows of a statement were swapped, and this one is gone or was rewritten since",
        )),
    }
}

fn answer_all<D: Dialect>(entries: Vec<BatchEntry<D, CommitJob>>, error: &D::Error) {
    for entry in entries {
        entry.answer(error.to_verdict());
    }
}

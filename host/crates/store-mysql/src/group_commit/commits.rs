//! Batched changes: one `UPDATE` that swaps each row if it still equals the version that was read, or one `INSERT`.
//! Derives the verdict for each caller.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::batch_queue::{BatchEntry, BatchJob, unavailable};
use super::queue::Batchable;
use super::verdicts::{SwapFinding, SwapTrace, resolve_by_count};
use crate::commit::verdict_of;
use crate::error::{StatementError, StatementErrorClass};
use crate::execute::{RetryRule, execute_over};
use crate::link::{Statement, StatementResult};
use crate::servers::PooledConnection;
use crate::{MysqlShared, interrupted, rows};
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
    pub(crate) fn new(shared: &MysqlShared, commit: &Commit, now_s: i64) -> Option<Self> {
        let kind = match &commit.change {
            RowChange::Create(_) => CommitKind::Create,
            RowChange::Update {
                base,
                record,
                new_id: None,
            } if shared.sql.swaps_many() => CommitKind::Swap(SwapTrace {
                token: record.tokens.newest()?,
                base_token: base.tokens.newest(),
            }),
            RowChange::Update { .. } | RowChange::Delete { .. } => return None,
        };
        let now = Instant::now();
        if shared.unresolved.contain(&commit.id, now) {
            return None;
        }
        let is_swap = matches!(kind, CommitKind::Swap(_));
        Some(Self {
            commit: commit.clone(),
            now_s,
            kind,
            is_contended: is_swap && shared.contended.contain(&commit.id, now),
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
            _ => false,
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
        CommitVerdict::Ambiguous(interrupted())
    }

    async fn run(
        shared: &MysqlShared,
        link: PooledConnection<'_>,
        mut entries: Vec<BatchEntry<Self>>,
    ) {
        // All statements that lock several rows lock them in this order.
        entries.sort_by(|a, b| a.job.commit.id.cmp(&b.job.commit.id));
        match entries[0].job.kind {
            CommitKind::Create => create(shared, link, entries).await,
            CommitKind::Swap(_) => swap(shared, link, entries).await,
        }
    }
}

async fn swap(
    shared: &MysqlShared,
    link: PooledConnection<'_>,
    entries: Vec<BatchEntry<CommitJob>>,
) {
    let committer = shared.committer(entries[0].job.now_s);
    let rows = entries.iter().filter_map(|entry| match &entry.job.commit {
        Commit {
            id,
            change: RowChange::Update { base, record, .. },
        } => Some((id, base, record)),
        _ => None,
    });
    let statement = committer.update_many(&rows.collect::<Vec<_>>());
    let sent = send(shared, link, &statement, entries).await;
    let Some((answer, mut link, entries)) = sent else {
        return;
    };
    let findings = swap_findings(shared, &mut link, &answer, &entries).await;
    // Release the link before answering, so that a caller that continues at once finds it in the pool.
    drop(link);
    match findings {
        Ok(findings) => {
            for (entry, finding) in entries.into_iter().zip(findings) {
                entry.answer(verdict_on(finding));
            }
        }
        Err(fault) => {
            for entry in entries {
                entry.answer(CommitVerdict::Ambiguous(fault.to_store_error()));
            }
        }
    }
}

/// Determines which rows were swapped. If the count alone does not decide, reads the tokens over the link that swapped
/// the rows.
///
/// # Errors
/// Returns an error if the link broke in the meantime. The outcome is then unknown.
async fn swap_findings(
    shared: &MysqlShared,
    link: &mut PooledConnection<'_>,
    answer: &StatementResult,
    entries: &[BatchEntry<CommitJob>],
) -> Result<Vec<SwapFinding>, StatementError> {
    let swapped = answer.affected_rows;
    if swapped == 0 {
        return Ok(vec![SwapFinding::NotApplied; entries.len()]);
    }
    if swapped == entries.len() as u64 {
        return Ok(vec![SwapFinding::Applied; entries.len()]);
    }
    let ids: Vec<_> = entries.iter().map(|entry| &entry.job.commit.id).collect();
    let tokens = rows::tokens(link, &shared.sql, &ids).await?;
    let mut findings: Vec<_> = (entries.iter())
        .map(|entry| {
            entry
                .job
                .finding(tokens.get(entry.job.commit.id.as_str().as_bytes()))
        })
        .collect();
    resolve_by_count(swapped, &mut findings);
    Ok(findings)
}

async fn create(
    shared: &MysqlShared,
    link: PooledConnection<'_>,
    mut entries: Vec<BatchEntry<CommitJob>>,
) {
    let committer = shared.committer(entries[0].job.now_s);
    let mut link = Some(link);
    while !entries.is_empty() {
        let next = match link.take() {
            Some(link) => Ok(link),
            None => shared.hosts.link().await,
        };
        let next = match next {
            Ok(next) => next,
            Err(fault) => return answer_all(entries, &fault),
        };
        let (count, _) = shared.sql.insert_many(entries.len());
        let later = entries.split_off(count);
        let rows = entries.iter().filter_map(|entry| match &entry.job.commit {
            Commit {
                id,
                change: RowChange::Create(record),
            } => Some((id, record)),
            _ => None,
        });
        let statement = committer.insert_many(&rows.collect::<Vec<_>>());
        if let Some((_, used, entries)) = send(shared, next, &statement, entries).await {
            // Release the link before answering, so that a caller that continues at once finds it in the pool.
            link = (!later.is_empty()).then_some(used);
            for entry in entries {
                entry.answer(CommitVerdict::Committed);
            }
        }
        entries = later;
    }
}

/// Sends a statement for one or more jobs. Returns `None` if it failed; all jobs have then been answered.
async fn send<'a>(
    shared: &'a MysqlShared,
    link: PooledConnection<'a>,
    statement: &Statement<'_>,
    entries: Vec<BatchEntry<CommitJob>>,
) -> Option<(
    StatementResult,
    PooledConnection<'a>,
    Vec<BatchEntry<CommitJob>>,
)> {
    let is_alone = entries.len() == 1;
    let is_swap = matches!(entries[0].job.kind, CommitKind::Swap(_));
    let repeat = match is_alone {
        true => RetryRule::IfNotApplied,
        false => RetryRule::IfNotForItsRows,
    };
    let sent = execute_over(link, Instant::now(), &shared.hosts, statement, repeat).await;
    if is_alone || sent.is_ok() {
        // If a statement with several rows fails, one of them may have been locked. The rows are retried one by one and
        // recorded then.
        let outcome = sent.as_ref().map(|_| ());
        shared.hosts.note_change(&entries[0].job.commit.id, outcome);
    }
    match sent {
        Ok((answer, link)) => Some((answer, link, entries)),
        // Sending the same swap again is safe: it applies only to the unchanged base. If it does not match, the row's
        // tokens show the outcome of the first one.
        Err(fault) if fault.class == StatementErrorClass::RolledBackHere && is_swap => {
            one_by_one(shared, entries, FirstStatement::MayApply).await;
            None
        }
        Err(fault) if is_alone || fault.is_undecided() || !fault.may_be_for_a_row() => {
            answer_all(entries, &fault);
            None
        }
        Err(_) => {
            one_by_one(shared, entries, FirstStatement::Finished).await;
            None
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
async fn one_by_one(
    shared: &MysqlShared,
    entries: Vec<BatchEntry<CommitJob>>,
    first: FirstStatement,
) {
    let each =
        stream::iter(entries).for_each_concurrent(shared.rows_in_flight_max, |entry| async {
            let committer = shared.committer(entry.job.now_s);
            let verdict = match committer.commit(&entry.job.commit).await {
                CommitVerdict::RolledBack(error) if first == FirstStatement::MayApply => {
                    CommitVerdict::Ambiguous(error)
                }
                CommitVerdict::Conflict | CommitVerdict::RolledBack(_) => {
                    recheck(shared, &entry.job, first).await
                }
                verdict => verdict,
            };
            entry.answer(verdict);
        });
    each.await;
}

/// Returns the verdict on a conflict after a first statement has failed. Some rows of that statement may have been
/// swapped nevertheless: it may have run on several servers at once (Vitess), or on a group member that rolled it back
/// while leaving the group.
async fn recheck(shared: &MysqlShared, job: &CommitJob, first: FirstStatement) -> CommitVerdict {
    if matches!(job.kind, CommitKind::Create) {
        // The session is created under another id, and the reaper deletes the row.
        return CommitVerdict::Conflict;
    }
    let id = &job.commit.id;
    let found = match shared.hosts.link().await {
        Ok(mut link) => rows::tokens(&mut link, &shared.sql, &[id]).await,
        Err(fault) => Err(fault),
    };
    match found {
        Ok(tokens) => match (job.finding(tokens.get(id.as_str().as_bytes())), first) {
            // The row's token history does not reach that far back: the commit's base was old, so the first statement
            // did not match the row.
            (SwapFinding::Unknown, FirstStatement::Finished) => CommitVerdict::Conflict,
            (finding, _) => verdict_on(finding),
        },
        Err(fault) => CommitVerdict::Ambiguous(fault.to_store_error()),
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

fn answer_all(entries: Vec<BatchEntry<CommitJob>>, fault: &StatementError) {
    for entry in entries {
        entry.answer(verdict_of(fault));
    }
}

//! Group commit over a table in memory: batches, failures, lost replies, and the contract of a store.

mod fake;
mod store;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_base::limits::STORE_WORKERS;
use cloakroom_session::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::contract::check_all;
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, RowVersion, SessionStore};
use tokio::sync::Notify;

use crate::GroupCommit;
use fake::{FakeDialect, FakeFault, FakeStatement};
use store::TestStore;

const NOW_S: i64 = 1_000;

fn record(data: &str) -> SessionRecord {
    SessionRecord {
        data: Bytes::copy_from_slice(data.as_bytes()),
        expires_at_s: NOW_S + 60,
        tokens: TokenHistory::default().push(CommitToken::generate()),
        created_at_s: Some(NOW_S),
    }
}

fn create(data: &str) -> Commit {
    Commit {
        id: SessionId::generate(),
        change: RowChange::Create(record(data)),
    }
}

fn update(id: &SessionId, base: &SessionRecord) -> Commit {
    let mut record = record("{\"n\":2}");
    record.tokens = base.tokens.push(CommitToken::generate());
    Commit {
        id: id.clone(),
        change: RowChange::Update {
            base: RowVersion::of(base),
            record,
            new_id: None,
        },
    }
}

struct TestGroup {
    table: Arc<FakeDialect>,
    group_commit: GroupCommit<FakeDialect>,
}

impl TestGroup {
    fn new() -> Self {
        let table = FakeDialect::new();
        let group_commit = GroupCommit::new(&table, Duration::from_secs(10));
        Self {
            table,
            group_commit,
        }
    }

    /// Inserts this many rows, sorted by id.
    async fn rows(&self, count: usize) -> Vec<(SessionId, SessionRecord)> {
        let mut rows: Vec<_> = (0..count)
            .map(|_| (SessionId::generate(), record("{\"n\":1}")))
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let commit = |(id, record): &(SessionId, SessionRecord)| Commit {
            id: id.clone(),
            change: RowChange::Create(record.clone()),
        };
        let commits: Vec<_> = rows.iter().map(commit).collect();
        self.table.rows.commit_many(&commits, NOW_S).await;
        rows
    }

    /// Commits while all connections are taken, so that the jobs wait for each other. Then gives the connections back.
    async fn commit_waiting(&self, commits: &[Commit]) -> Vec<CommitVerdict> {
        let connections = self.table.take_connections().await;
        let committed = self.group_commit.commit_many(commits, NOW_S);
        let (verdicts, ()) = tokio::join!(committed, async { drop(connections) });
        verdicts
    }
}

fn updates(rows: &[(SessionId, SessionRecord)]) -> Vec<Commit> {
    rows.iter().map(|(id, base)| update(id, base)).collect()
}

fn ids(rows: &[(SessionId, SessionRecord)]) -> Vec<SessionId> {
    rows.iter().map(|(id, _)| id.clone()).collect()
}

fn is_committed(verdict: &CommitVerdict) -> bool {
    matches!(verdict, CommitVerdict::Committed)
}

fn is_ambiguous(verdict: &CommitVerdict) -> bool {
    matches!(verdict, CommitVerdict::Ambiguous(_))
}

#[tokio::test]
async fn group_commit_keeps_the_store_contract() {
    check_all(async || {
        let store: Arc<dyn SessionStore> = Arc::new(TestStore(TestGroup::new()));
        store
    })
    .await;
}

#[tokio::test]
async fn waiting_swaps_are_batched_up_to_the_limit_of_rows() {
    let group = TestGroup::new();
    let rows = group.rows(10).await;
    let verdicts = group.commit_waiting(&updates(&rows)).await;
    assert!(verdicts.iter().all(is_committed));
    let ids = ids(&rows);
    let batches = [&ids[..4], &ids[4..8], &ids[8..]];
    let expected = batches.map(|ids| FakeStatement::Swap(ids.to_vec()));
    assert_eq!(group.table.take_statements(), expected);
}

#[tokio::test]
async fn a_batch_of_inserts_is_split_into_the_numbers_that_the_dialect_takes() {
    let group = TestGroup::new();
    let commits = [create("a"), create("b"), create("c")];
    assert!(
        group
            .commit_waiting(&commits)
            .await
            .iter()
            .all(is_committed)
    );
    let statements = group.table.take_statements();
    let rows: Vec<_> = statements.iter().map(|it| it.ids().len()).collect();
    assert_eq!(rows, [2, 1]);
}

#[tokio::test]
async fn a_row_over_the_limit_of_bytes_is_alone_in_its_statement() {
    let group = TestGroup::new();
    let commits = [create(&"x".repeat(101)), create("a"), create("b")];
    assert!(
        group
            .commit_waiting(&commits)
            .await
            .iter()
            .all(is_committed)
    );
    let statements = group.table.take_statements();
    let large = &commits[0].id;
    let with_large: Vec<_> = (statements.iter())
        .filter(|it| it.ids().contains(large))
        .collect();
    assert_eq!(with_large, [&FakeStatement::Insert(vec![large.clone()])]);
}

#[tokio::test]
async fn contended_rows_are_never_in_one_statement() {
    let group = TestGroup::new();
    let rows = group.rows(4).await;
    // The bases of these commits are outdated, so both rows count as contended from here on.
    let outdated = record("{}");
    let late = [update(&rows[0].0, &outdated), update(&rows[1].0, &outdated)];
    let verdicts = group.commit_waiting(&late).await;
    assert!(
        verdicts
            .iter()
            .all(|it| matches!(it, CommitVerdict::Conflict))
    );
    group.table.take_statements();

    let verdicts = group.commit_waiting(&updates(&rows)).await;
    assert!(verdicts.iter().all(is_committed));
    let ids = ids(&rows);
    let first = vec![ids[0].clone(), ids[2].clone(), ids[3].clone()];
    let expected = [first, vec![ids[1].clone()]].map(FakeStatement::Swap);
    assert_eq!(group.table.take_statements(), expected);
}

#[tokio::test]
async fn the_tokens_show_which_rows_of_a_batch_were_swapped() {
    let group = TestGroup::new();
    let rows = group.rows(3).await;
    let other_host = [update(&rows[1].0, &rows[1].1)];
    group.table.rows.commit_many(&other_host, NOW_S).await;
    let verdicts = group.commit_waiting(&updates(&rows)).await;
    assert!(is_committed(&verdicts[0]) && is_committed(&verdicts[2]));
    assert!(matches!(verdicts[1], CommitVerdict::Conflict));
}

#[tokio::test]
async fn a_lost_reply_is_ambiguous_for_all_rows_and_no_row_is_batched_when_sent_again() {
    let group = TestGroup::new();
    let rows = group.rows(3).await;
    let commits = updates(&rows);
    group.table.set_fault(&rows[1].0, FakeFault::LostReply);
    let verdicts = group.commit_waiting(&commits).await;
    assert!(verdicts.iter().all(is_ambiguous));
    assert_eq!(group.table.take_statements().len(), 1);

    group.commit_waiting(&commits).await;
    let expected = ids(&rows).into_iter().map(FakeStatement::Single);
    let expected: Vec<_> = expected.collect();
    assert_eq!(group.table.take_statements(), expected);
}

#[tokio::test]
async fn a_failure_of_one_row_fails_only_that_row() {
    let group = TestGroup::new();
    let rows = group.rows(3).await;
    group.table.set_fault(&rows[0].0, FakeFault::RowFault);
    let verdicts = group.commit_waiting(&updates(&rows)).await;
    assert!(matches!(verdicts[0], CommitVerdict::Failed(_)));
    assert!(verdicts[1..].iter().all(is_committed));

    let loaded = group.group_commit.load_many(&ids(&rows)[1..], NOW_S).await;
    assert!(loaded.is_ok_and(|rows| rows.iter().all(Option::is_some)));
}

#[tokio::test]
async fn an_id_that_exists_is_a_conflict_only_for_its_own_creation() {
    let group = TestGroup::new();
    let existing = group.rows(1).await.remove(0);
    let mut commits = vec![create("a"), create("b")];
    commits.push(Commit {
        id: existing.0,
        change: RowChange::Create(existing.1),
    });
    let verdicts = group.commit_waiting(&commits).await;
    assert!(verdicts[..2].iter().all(is_committed));
    assert!(matches!(verdicts[2], CommitVerdict::Conflict));
}

#[tokio::test]
async fn after_a_rollback_on_one_member_the_tokens_decide() {
    for fault in [FakeFault::AppliedByOthers, FakeFault::RolledBackHere] {
        let group = TestGroup::new();
        let rows = group.rows(2).await;
        group.table.set_fault(&rows[0].0, fault);
        let verdicts = group.commit_waiting(&updates(&rows)).await;
        assert!(verdicts.iter().all(is_committed), "{verdicts:?}");
    }
}

#[tokio::test]
async fn an_interrupted_batch_answers_all_its_callers_and_frees_its_rows() {
    let group = TestGroup::new();
    let mut commits = [create("a"), create("b"), create("c")];
    commits.sort_by(|a, b| a.id.cmp(&b.id));
    // Creations are batched again after an ambiguous verdict, so each call needs the rows and workers of the ones before.
    for _ in 0..=STORE_WORKERS {
        group.table.set_fault(&commits[0].id, FakeFault::Panic);
        let verdicts = group.commit_waiting(&commits).await;
        assert!(verdicts.iter().all(is_ambiguous), "{verdicts:?}");
    }
    let verdicts = group.commit_waiting(&commits).await;
    assert!(verdicts.iter().all(is_committed), "{verdicts:?}");

    let id = commits[0].id.clone();
    group.table.set_fault(&id, FakeFault::Panic);
    assert!(group.group_commit.load_many(&[id], NOW_S).await.is_err());
}

#[tokio::test]
async fn statements_without_a_reply_give_their_workers_to_later_jobs() {
    let group = Arc::new(TestGroup::new());
    let rows = group.rows(STORE_WORKERS + 1).await;
    let reply = Arc::new(Notify::new());
    let mut stalled = Vec::new();
    for row in &rows[..STORE_WORKERS] {
        let fault = FakeFault::Stall(Arc::clone(&reply));
        group.table.set_fault(&row.0, fault);
        let (commit, group_of_task) = (update(&row.0, &row.1), Arc::clone(&group));
        stalled.push(tokio::spawn(async move {
            let commits = [commit];
            group_of_task
                .group_commit
                .commit_many(&commits, NOW_S)
                .await
        }));
        group.table.wait_for_statements(stalled.len()).await;
    }
    let later = updates(&rows[STORE_WORKERS..]);
    let verdicts = group.group_commit.commit_many(&later, NOW_S).await;
    assert!(is_committed(&verdicts[0]));

    reply.notify_waiters();
    for task in stalled {
        assert!(is_committed(&task.await.unwrap()[0]));
    }
}

#[tokio::test]
async fn a_read_is_withdrawn_when_its_caller_is_dropped_and_a_commit_is_not() {
    let group = TestGroup::new();
    let rows = group.rows(2).await;
    let (ids, commits) = (ids(&rows), updates(&rows[..1]));
    let connections = group.table.take_connections().await;
    {
        let read = std::pin::pin!(group.group_commit.load_many(&ids[1..], NOW_S));
        let commit = std::pin::pin!(group.group_commit.commit_many(&commits, NOW_S));
        assert!(futures_util::poll!(read).is_pending());
        assert!(futures_util::poll!(commit).is_pending());
    }
    drop(connections);
    group.group_commit.shutdown().await;
    let expected = [FakeStatement::Swap(ids[..1].to_vec())];
    assert_eq!(group.table.take_statements(), expected);
}

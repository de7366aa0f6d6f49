//! Waiting calls are batched, and each call still gets its own verdict: none suffers from another call of its batch.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cloakroom_session::record::{SessionId, SessionRecord};
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, SessionStore as _, StoreErrorKind,
};
use cloakroom_store_mysql::MysqlStore;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::mariadb::{Database, Mariadb};
use cloakroom_tests::wait::wait_until;
use futures_util::future::join_all;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

use super::contract::EXPRESS_TABLE;
use super::{
    NOW_S, assert_ambiguous, assert_committed, assert_conflict, assert_failed, commit, connect,
    created, load, options, record, update,
};

const DATA: &str = r#"{"cookie":{},"n":0}"#;
const NEXT: &str = r#"{"cookie":{},"n":1}"#;
/// Longest wait until a statement has reached the server.
const STATEMENT_WAIT_MAX: Duration = Duration::from_secs(5);

type Row = (SessionId, SessionRecord);

async fn database() -> (Database, Conn) {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let mut admin = mariadb.admin().await;
    let used = admin.query_drop(format!("USE {}", database.name)).await;
    used.unwrap();
    (database, admin)
}

async fn rows(store: &MysqlStore, count: usize) -> Vec<Row> {
    join_all((0..count).map(|_| created(store, DATA))).await
}

/// Commits all changes concurrently, with one call each, as requests do.
async fn commit_all<'a>(
    store: &MysqlStore,
    changes: impl IntoIterator<Item = (&'a SessionId, RowChange)>,
) -> Vec<CommitVerdict> {
    join_all((changes.into_iter()).map(|(id, change)| commit(store, id, change))).await
}

fn updates(rows: &[Row]) -> impl Iterator<Item = (&SessionId, RowChange)> {
    rows.iter().map(|(id, row)| (id, update(row, NEXT)))
}

async fn lock(admin: &mut Conn, id: &SessionId) {
    admin.query_drop("BEGIN").await.unwrap();
    let lock = "SELECT * FROM sessions WHERE session_id = ? FOR UPDATE";
    admin.exec_drop(lock, (id.as_str(),)).await.unwrap();
}

/// Waits until this many of the database's statements wait for a lock or run.
async fn until_updating(database: &Database, count: usize) {
    let mut admin = Mariadb::shared().await.admin().await;
    let running =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = ? AND info LIKE 'UPDATE%'";
    let what = format!("{count} statements run");
    wait_until(&what, STATEMENT_WAIT_MAX, async || {
        let found: Option<usize> = admin.exec_first(running, (&database.name,)).await.unwrap();
        ensure!(found == Some(count), "{found:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_statements_only_while_all_connections_are_busy() {
    // The server's counters include all clients, so this server is not shared with other tests.
    let mariadb = Mariadb::start().await;
    let mut options = options(&mariadb.fresh_database().await.url);
    // All calls wait while this connection is in use.
    options.connection_limit = 1;
    let store = connect(&options).await;
    let mut admin = mariadb.admin().await;
    let mut count = async |what: &str| {
        let sql = format!("SHOW GLOBAL STATUS LIKE 'Com_{what}'");
        let (_, count): (String, usize) = admin.query_first(sql).await.unwrap().unwrap();
        count
    };
    const CALLERS: usize = 64;
    const TURNS: usize = 20;
    let rows = rows(&store, CALLERS).await;
    let inserts = count("insert").await;
    assert!(inserts <= CALLERS / 2, "{inserts} statements");
    let in_turn = async |(id, row): &Row| {
        let mut row = row.clone();
        for n in 0..TURNS {
            let data = format!(r#"{{"cookie":{{}},"n":{n}}}"#);
            assert_committed(&commit(&store, id, update(&row, &data)).await);
            row = load(&store, id).await.unwrap();
            assert_eq!(row.data, data.as_bytes());
        }
    };

    let (updates, selects) = (count("update").await, count("select").await);
    join_all(rows.iter().map(in_turn)).await;
    let updates = count("update").await - updates;
    let selects = count("select").await - selects;
    assert!(updates <= CALLERS * TURNS / 4, "{updates} statements");
    assert!(selects <= CALLERS * TURNS / 4, "{selects} statements");

    let lone = created(&store, DATA).await;
    let (updates, started_at) = (count("update").await, Instant::now());
    in_turn(&lone).await;
    assert_eq!(count("update").await - updates, TURNS);
    assert!(
        started_at.elapsed() < Duration::from_secs(1),
        "a single call does not wait for others"
    );
}

#[tokio::test]
async fn each_caller_of_a_batch_gets_the_verdict_of_its_own_row() {
    let (database, _) = database().await;
    let store = connect(&options(&database.url)).await;
    let rows = rows(&store, 40).await;
    let (gone, _) = &rows[7];
    assert_committed(&commit(&store, gone, RowChange::Delete { base: None }).await);
    let is_stale = |n: usize| n.is_multiple_of(5);
    let changes = rows.iter().enumerate().map(|(n, (id, row))| {
        let base = match is_stale(n) {
            true => record(DATA),
            false => row.clone(),
        };
        (id, update(&base, NEXT))
    });

    let verdicts = commit_all(&store, changes).await;

    for (n, (verdict, (id, row))) in verdicts.iter().zip(&rows).enumerate() {
        let found = load(&store, id).await;
        if n == 7 {
            assert_conflict(verdict);
            assert_eq!(found, None);
        } else if is_stale(n) {
            assert_conflict(verdict);
            assert_eq!(found.as_ref(), Some(row));
        } else {
            assert_committed(verdict);
            assert_eq!(found.unwrap().data, NEXT.as_bytes());
        }
    }
}

#[tokio::test]
async fn a_row_that_the_server_refuses_fails_alone() {
    let (database, mut admin) = database().await;
    let ddl = EXPRESS_TABLE.replace(
        "mediumtext COLLATE utf8mb4_bin",
        "mediumtext CHARSET latin1",
    );
    admin.query_drop(ddl).await.unwrap();
    let mut options = options(&database.url);
    options.alter_table = true;
    let store = connect(&options).await;
    let mut rows = rows(&store, 21).await;
    let poisoned = rows.pop().unwrap();
    let poison = update(&poisoned.1, r#"{"cookie":{},"n":"😀"}"#);
    let changes = updates(&rows[..9])
        .chain([(&poisoned.0, poison)])
        .chain(updates(&rows[9..]));

    let mut verdicts = commit_all(&store, changes).await;

    assert_failed(&verdicts.remove(9), StoreErrorKind::Refused);
    verdicts.iter().for_each(assert_committed);
    assert_eq!(load(&store, &poisoned.0).await, Some(poisoned.1));
    for (id, _) in &rows {
        assert_eq!(load(&store, id).await.unwrap().data, NEXT.as_bytes());
    }
}

#[tokio::test]
async fn creating_an_existing_row_fails_without_affecting_its_batch() {
    let (database, _) = database().await;
    let store = connect(&options(&database.url)).await;
    let (taken, row) = created(&store, DATA).await;
    let ids: Vec<_> = (0..20).map(|_| SessionId::generate()).collect();
    let create = |id| (id, RowChange::Create(record(NEXT)));
    let changes = ids.iter().chain([&taken]).map(create);

    let mut verdicts = commit_all(&store, changes).await;

    assert_conflict(&verdicts.pop().unwrap());
    verdicts.iter().for_each(assert_committed);
    assert_eq!(load(&store, &taken).await, Some(row));
    let found = store.load_many(&ids, NOW_S).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_delays_its_own_batch_for_a_while_and_no_other_call() {
    let (database, mut holder) = database().await;
    let store = connect(&options(&database.url)).await;
    let rows = rows(&store, 60).await;
    let (batch_rows, others) = rows.split_at(10);
    lock(&mut holder, &batch_rows[0].0).await;

    let started_at = Instant::now();
    let held_up = commit_all(&store, updates(batch_rows));
    let meanwhile = async {
        until_updating(&database, 1).await;
        let started_at = Instant::now();
        // A second commit for the locked row delays no other call.
        let again = commit(&store, &batch_rows[0].0, update(&batch_rows[0].1, NEXT));
        let others = commit_all(&store, updates(others));
        let is_first = tokio::select! {
            biased;
            _ = again => false,
            verdicts = others => {
                verdicts.iter().for_each(assert_committed);
                true
            }
        };
        assert!(is_first, "the row is locked");
        // It was not even sent: a commit for a row that is in an unfinished statement waits in the host.
        until_updating(&database, 1).await;
        assert!(started_at.elapsed() < Duration::from_millis(900));
    };
    let (verdicts, ()) = futures_util::future::join(held_up, meanwhile).await;

    assert!(
        started_at.elapsed() > Duration::from_millis(900),
        "the lock held"
    );
    assert!(started_at.elapsed() < Duration::from_millis(3_500));
    assert_failed(&verdicts[0], StoreErrorKind::Unavailable);
    verdicts[1..].iter().for_each(assert_committed);
    holder.query_drop("ROLLBACK").await.unwrap();
    store.shutdown().await;
    // The commit whose caller had already received a failure.
    assert_eq!(
        load(&store, &batch_rows[0].0).await.unwrap().data,
        NEXT.as_bytes()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_commits_of_one_row_one_succeeds_and_the_others_conflict() {
    let (database, mut holder) = database().await;
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, DATA).await;
    lock(&mut holder, &id).await;
    let changes: Vec<_> = (0..20).map(|_| (&id, update(&row, NEXT))).collect();
    let all = commit_all(&store, changes);
    let release = async {
        until_updating(&database, 1).await;
        holder.query_drop("ROLLBACK").await.unwrap();
    };
    let (verdicts, ()) = futures_util::future::join(all, release).await;
    let committed = |verdict: &&CommitVerdict| matches!(verdict, CommitVerdict::Committed);
    assert_eq!(verdicts.iter().filter(committed).count(), 1);
    let conflicts = verdicts
        .iter()
        .filter(|v| matches!(v, CommitVerdict::Conflict));
    assert_eq!(conflicts.count(), 19, "{verdicts:?}");
}

#[tokio::test]
async fn after_a_lost_reply_of_a_batch_each_commit_is_ambiguous_then_sent_alone() {
    let (database, _) = database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let store = connect(&options(&database.url_through(proxy.port()))).await;
    for (loss, arrived) in [(Loss::Reply, true), (Loss::Request, false)] {
        let rows = rows(&store, 20).await;
        let changes: Vec<_> = updates(&rows).collect();
        let before = proxy.losses();
        proxy.disturb(Disturbance {
            loss,
            prefix: "UPDATE".to_owned(),
            every: 1,
            times: 1,
        });
        let verdicts = commit_all(&store, changes.clone()).await;
        verdicts.iter().for_each(assert_ambiguous);
        assert_eq!(proxy.losses() - before, 1, "they were in one statement");

        // Retried unchanged. Each is sent alone, so one more loss affects one of them.
        proxy.lose_next_reply("UPDATE");
        let verdicts = commit_all(&store, changes.clone()).await;
        let in_doubt = |verdict: &&CommitVerdict| matches!(verdict, CommitVerdict::Ambiguous(_));
        assert_eq!(verdicts.iter().filter(in_doubt).count(), 1);
        for (verdict, (id, change)) in verdicts.iter().zip(&changes) {
            match verdict {
                CommitVerdict::Ambiguous(_) => {}
                verdict if arrived => assert_conflict(verdict),
                verdict => assert_committed(verdict),
            }
            let RowChange::Update { record, .. } = change else {
                unreachable!("it is an update")
            };
            assert_eq!(load(&store, id).await.as_ref(), Some(record));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_callers_do_not_cancel_the_commits_of_their_batch() {
    let (database, mut holder) = database().await;
    let store = connect(&options(&database.url)).await;
    let rows = rows(&store, 20).await;
    lock(&mut holder, &rows[0].0).await;
    {
        let commits = commit_all(&store, updates(&rows));
        tokio::select! {
            biased;
            () = until_updating(&database, 1) => {}
            _ = commits => panic!("a row is locked"),
        }
    }
    holder.query_drop("ROLLBACK").await.unwrap();
    store.shutdown().await;
    let ids: Vec<_> = rows.iter().map(|(id, _)| id.clone()).collect();
    let found = store.load_many(&ids, NOW_S).await.unwrap();
    assert!(
        found
            .iter()
            .all(|row| row.as_ref().unwrap().data == NEXT.as_bytes())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_dropped_callers_delay_no_other_call_and_hold_no_place() {
    // The server's counters include all clients, so this server is not shared with other tests.
    let mariadb = Mariadb::start().await;
    let database = mariadb.fresh_database().await;
    let mut options = options(&database.url);
    options.connection_limit = 1;
    let store = connect(&options).await;
    let (id, row) = created(&store, DATA).await;
    let (mut holder, mut admin) = (mariadb.admin().await, mariadb.admin().await);
    let used = holder.query_drop(format!("USE {}", database.name)).await;
    used.unwrap();
    let selects = "SHOW GLOBAL STATUS LIKE 'Com_select'";
    lock(&mut holder, &id).await;
    let blocked = commit(&store, &id, update(&row, NEXT));
    let burst = async {
        let running =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE%'";
        wait_until("the update runs", STATEMENT_WAIT_MAX, async || {
            let updates: Option<usize> = admin.query_first(running).await.unwrap();
            ensure!(updates == Some(1), "{updates:?}");
            Ok(())
        })
        .await;
        let before: Option<(String, usize)> = admin.query_first(selects).await.unwrap();
        for _ in 0..2 {
            let ids: Vec<_> = (0..4_096).map(|_| SessionId::generate()).collect();
            let calls = ids.iter().map(std::slice::from_ref);
            let mut calls: Vec<_> = calls.map(|id| store.load_many(id, NOW_S)).collect();
            for call in &mut calls {
                // A call waits from its first poll.
                let polled = futures_util::poll!(call);
                assert!(polled.is_pending(), "the connection is taken");
            }
        }
        let release = async { holder.query_drop("ROLLBACK").await.unwrap() };
        let (found, ()) = futures_util::future::join(load(&store, &id), release).await;
        assert!(found.is_some());
        let after: Option<(String, usize)> = admin.query_first(selects).await.unwrap();
        let read = after.unwrap().1 - before.unwrap().1;
        assert!(
            read <= 2,
            "{read} statements for one row that is waited for"
        );
    };
    let (verdict, ()) = futures_util::future::join(blocked, burst).await;
    assert_committed(&verdict);
    // The connection is still usable.
    assert_eq!(load(&store, &id).await.unwrap().data, NEXT.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_the_queue_limit_are_refused_and_a_large_call_is_not() {
    let (database, mut holder) = database().await;
    let mut options = options(&database.url);
    options.connection_limit = 1;
    let store = connect(&options).await;
    let (id, row) = created(&store, DATA).await;
    lock(&mut holder, &id).await;
    let blocked = commit(&store, &id, update(&row, NEXT));
    let flood = async {
        until_updating(&database, 1).await;
        let creates = (0..5_000).map(|_| SessionId::generate()).map(|id| Commit {
            id,
            change: RowChange::Create(record(DATA)),
        });
        let creates: Vec<_> = creates.collect();
        let each = creates.iter().map(std::slice::from_ref);
        let waiting = join_all(each.map(|commit| store.commit_many(commit, NOW_S)));
        let release = async {
            // All of them wait by now: a call waits from its first poll.
            holder.query_drop("ROLLBACK").await.unwrap();
        };
        let (verdicts, ()) = futures_util::future::join(waiting, release).await;
        let refused = verdicts
            .iter()
            .filter(|v| matches!(v[0], CommitVerdict::Failed(_)));
        let refused = refused.count();
        assert!(
            (1..=5_000 - 4_096).contains(&refused),
            "{refused} were refused"
        );
        let ids: Vec<_> = creates.into_iter().map(|commit| commit.id).collect();
        let found = store.load_many(&ids, NOW_S).await.unwrap();
        assert_eq!(found.iter().flatten().count(), 5_000 - refused);
    };
    let (verdict, ()) = futures_util::future::join(blocked, flood).await;
    assert_committed(&verdict);
}

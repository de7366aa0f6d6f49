//! The store while servers and connections fail: verdicts on commits are true, every wait ends, and the store recovers by itself.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, SessionStore as _, StoreErrorKind,
};
use cloakroom_store_mysql::MysqlStore;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::mariadb::{Database, Mariadb};
use cloakroom_tests::wait::{pause, wait_until};
use mysql_async::prelude::Queryable as _;

use super::{
    NOW_S, assert_ambiguous, assert_committed, assert_conflict, assert_failed, commit, connect,
    created, load, options, record, update, with_hosts,
};

const DATA: &str = r#"{"cookie":{},"n":0}"#;
const NEXT: &str = r#"{"cookie":{},"n":1}"#;
/// Longest time for a call whose server is gone, including a margin for the circuit breaker and a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Returns a store that reaches the shared server through a proxy, and one that reaches it directly.
async fn through_a_proxy() -> (ChaosProxy, MysqlStore, MysqlStore) {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let straight = connect(&options(&database.url)).await;
    let store = connect(&options(&database.url_through(proxy.port()))).await;
    (proxy, store, straight)
}

/// Calls `attempt` until it reports that the store is back.
async fn until_back(mut attempt: impl AsyncFnMut() -> bool) {
    wait_until("the store is back", Duration::from_secs(10), async || {
        ensure!(attempt().await);
        Ok(())
    })
    .await;
}

async fn is_back(store: &MysqlStore) -> bool {
    store
        .load_many(&[SessionId::generate()], NOW_S)
        .await
        .is_ok()
}

#[tokio::test]
async fn a_lost_reply_is_ambiguous_and_the_token_decides_its_outcome() {
    let (proxy, store, straight) = through_a_proxy().await;
    let (id, row) = created(&store, DATA).await;
    let change = update(&row, NEXT);
    let RowChange::Update { record: sent, .. } = &change else {
        unreachable!("it is an update")
    };

    proxy.lose_next_reply("UPDATE");
    assert_ambiguous(&commit(&store, &id, change.clone()).await);
    let found = load(&straight, &id).await.unwrap();
    assert_eq!(found.data, NEXT.as_bytes());
    assert!(found.tokens.contains(sent.tokens.newest().unwrap()));
    assert_conflict(&commit(&store, &id, change.clone()).await);

    proxy.lose_next_reply("DELETE");
    let base = Some(cloakroom_session::store::RowVersion::of(&found));
    assert_ambiguous(&commit(&store, &id, RowChange::Delete { base }).await);
    assert_eq!(load(&store, &id).await, None);

    let id = SessionId::generate();
    proxy.lose_next_reply("INSERT");
    assert_ambiguous(&commit(&store, &id, RowChange::Create(record(DATA))).await);
    assert!(load(&store, &id).await.is_some());
    assert_eq!(proxy.losses(), 3);
}

#[tokio::test]
async fn a_statement_that_was_cut_off_is_ambiguous_though_it_never_arrived() {
    let (proxy, store, _) = through_a_proxy().await;
    let (id, row) = created(&store, DATA).await;
    proxy.disturb(Disturbance {
        loss: Loss::Request,
        prefix: "UPDATE".to_owned(),
        every: 1,
        times: 1,
    });
    let change = update(&row, NEXT);
    assert_ambiguous(&commit(&store, &id, change.clone()).await);
    assert_eq!(load(&store, &id).await, Some(row));
    assert_committed(&commit(&store, &id, change).await);
}

#[tokio::test]
async fn a_statement_that_arrives_late_is_ambiguous_in_time() {
    let (proxy, store, straight) = through_a_proxy().await;
    let (id, row) = created(&store, DATA).await;
    proxy.disturb(Disturbance {
        loss: Loss::Late(Duration::from_secs(3)),
        prefix: "UPDATE".to_owned(),
        every: 1,
        times: 1,
    });
    let started_at = Instant::now();
    let change = update(&row, NEXT);
    assert_ambiguous(&commit(&store, &id, change.clone()).await);
    assert!(started_at.elapsed() < Duration::from_millis(2_900));
    // The same swap again is its own fence: the late statement finds no row with its base version.
    assert_committed(&commit(&straight, &id, change).await);
    let committed = load(&straight, &id).await.unwrap();
    proxy.wait_for_losses(1).await;
    assert_eq!(load(&straight, &id).await, Some(committed));
}

#[tokio::test]
async fn reads_and_plain_deletes_survive_a_lost_reply_unseen() {
    let (proxy, store, _) = through_a_proxy().await;
    let (id, row) = created(&store, DATA).await;
    proxy.lose_next_reply("SELECT `session_id`");
    assert_eq!(load(&store, &id).await, Some(row));
    proxy.lose_next_reply("DELETE");
    assert_committed(&commit(&store, &id, RowChange::Delete { base: None }).await);
    assert_eq!(proxy.losses(), 2);
}

#[tokio::test]
async fn a_forgotten_prepared_statement_is_prepared_again() {
    let (proxy, store, _) = through_a_proxy().await;
    let (id, row) = created(&store, DATA).await;
    let forget_next = |prefix: &str| {
        proxy.disturb(Disturbance {
            loss: Loss::Forgotten,
            prefix: prefix.to_owned(),
            every: 1,
            times: 1,
        });
    };
    forget_next("UPDATE");
    assert_committed(&commit(&store, &id, update(&row, NEXT)).await);
    forget_next("SELECT `session_id`");
    let row = load(&store, &id).await.unwrap();
    assert_eq!(row.data, NEXT.as_bytes());
    assert_committed(&commit(&store, &id, update(&row, DATA)).await);
    assert_eq!(proxy.losses(), 2);
}

#[tokio::test]
async fn a_stopped_server_fails_at_once_and_comes_back_by_itself() {
    let mariadb = Mariadb::start().await;
    let database = mariadb.fresh_database().await;
    for is_socket in [false, true] {
        let mut options = options(&database.url);
        if is_socket {
            options.hosts.clear();
            options.socket = Some(mariadb.socket());
        }
        let store = connect(&options).await;
        let (id, row) = created(&store, DATA).await;

        mariadb.stop().await;
        let started_at = Instant::now();
        for _ in 0..20 {
            let verdict = commit(&store, &id, update(&row, NEXT)).await;
            assert_failed(&verdict, StoreErrorKind::Unavailable);
            let error = store.load_many(std::slice::from_ref(&id), NOW_S).await;
            let error = error.expect_err("no server listens there");
            assert_eq!(error.kind, StoreErrorKind::Unavailable);
            assert!(!error.to_string().contains(&database.password));
        }
        assert!(started_at.elapsed() < AT_ONCE);

        mariadb.start_again().await;
        until_back(async || is_back(&store).await).await;
        assert_committed(&commit(&store, &id, update(&row, NEXT)).await);
    }
}

#[tokio::test]
async fn a_restart_between_two_calls_goes_unseen() {
    let mariadb = Mariadb::start().await;
    let database = mariadb.fresh_database().await;
    let store = connect(&options(&database.url)).await;
    let (id, mut row) = created(&store, DATA).await;
    for _ in 0..2 {
        mariadb.kill().await;
        mariadb.start_again().await;
        pause(
            Duration::from_millis(1500),
            "a store that noticed the outage tries the server again within a second",
        )
        .await;
        assert_committed(&commit(&store, &id, update(&row, NEXT)).await);
        row = load(&store, &id).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_in_bounds_then_given_up() {
    let mariadb = Mariadb::start().await;
    let database = mariadb.fresh_database().await;
    let mut options = options(&database.url);
    options.connect_timeout = Duration::from_millis(400);
    options.statement_timeout = Duration::from_millis(400);
    options.acquire_timeout = Duration::from_millis(400);
    let store = connect(&options).await;
    let (id, row) = created(&store, DATA).await;
    // Prepares the statement, so that it is sent at once and only its answer is missing.
    assert_committed(&commit(&store, &id, update(&row, DATA)).await);
    let row = load(&store, &id).await.unwrap();

    mariadb.pause();
    let started_at = Instant::now();
    let change = update(&row, NEXT);
    assert_ambiguous(&commit(&store, &id, change.clone()).await);
    assert!(started_at.elapsed() < Duration::from_millis(900));
    let mut verdicts = Vec::new();
    for _ in 0..20 {
        verdicts.push(commit(&store, &id, change.clone()).await);
    }
    // The circuit is open: no statement is sent any more, and no call waits.
    let started_at = Instant::now();
    let verdict = verdicts.last().unwrap();
    assert_failed(verdict, StoreErrorKind::Unavailable);
    let error = store.load_many(std::slice::from_ref(&id), NOW_S).await;
    assert!(error.is_err() && started_at.elapsed() < AT_ONCE);

    mariadb.resume();
    until_back(async || is_back(&store).await).await;
    // One of the unanswered swaps has been applied, or none: never two, and never another change.
    let verdict = commit(&store, &id, change).await;
    assert!(
        matches!(verdict, CommitVerdict::Committed | CommitVerdict::Conflict),
        "{verdict:?}"
    );
    assert_eq!(load(&store, &id).await.unwrap().data, NEXT.as_bytes());
}

#[tokio::test]
async fn a_server_that_drops_all_packets_is_waited_for_in_bounds() {
    let (proxy, store, straight) = through_a_proxy().await;
    let (id, row) = created(&straight, DATA).await;
    proxy.cut();
    proxy.blackhole();
    let started_at = Instant::now();
    let verdict = commit(&store, &id, update(&row, NEXT)).await;
    assert_failed(&verdict, StoreErrorKind::Unavailable);
    assert!(started_at.elapsed() < Duration::from_secs(4));
    let started_at = Instant::now();
    assert!(!is_back(&store).await);
    assert!(started_at.elapsed() < Duration::from_secs(3));
    proxy.cut();
    proxy.forward().await;
    until_back(async || is_back(&store).await).await;
    assert_committed(&commit(&store, &id, update(&row, NEXT)).await);
}

#[tokio::test]
async fn the_next_host_is_used_when_one_refuses_and_kept_when_that_is_back() {
    let database = Mariadb::shared().await.fresh_database().await;
    let first = ChaosProxy::to_port(database.port).await;
    let second = ChaosProxy::to_port(database.port).await;
    let store = connect(&with_hosts(&database, &[first.port(), second.port()])).await;
    let (id, row) = created(&store, DATA).await;

    first.refuse().await;
    let started_at = Instant::now();
    assert_committed(&commit(&store, &id, update(&row, NEXT)).await);
    assert!(started_at.elapsed() < AT_ONCE);
    first.forward().await;
    assert!(is_back(&store).await);
    let in_use = |store: &MysqlStore| store.servers().iter().position(|it| it.is_in_use);
    assert_eq!(in_use(&store), Some(1), "it is kept");

    // The operator switches back to the first server although the other one serves.
    until_back(async || store.prefer_first().await.is_ok()).await;
    assert_eq!(in_use(&store), Some(0));
    assert!(is_back(&store).await);
    first.refuse().await;
    until_back(async || is_back(&store).await).await;
    assert_eq!(in_use(&store), Some(1));
}

#[tokio::test]
async fn a_read_only_server_is_passed_over_at_connect_and_left_when_it_becomes_one() {
    let (one, other) = (Mariadb::start().await, Mariadb::start().await);
    let (at_one, at_other) = (one.fresh_database().await, other.fresh_database().await);
    // The tables exist on both, as with replication.
    connect(&options(&at_one.url)).await;
    connect(&options(&at_other.url)).await;
    let set = async |mariadb: &Mariadb, value: u8| {
        let sql = format!("SET GLOBAL read_only = {value}");
        mariadb.admin().await.query_drop(sql).await.unwrap();
    };

    set(&one, 1).await;
    let store = connect(&with_hosts(&at_one, &[one.port(), other.port()])).await;
    let (id, row) = created(&store, DATA).await;
    let rows = async |mariadb: &Mariadb, database: &Database| {
        let sql = format!("SELECT COUNT(*) FROM {}.sessions", database.name);
        let rows: Option<u64> = mariadb.admin().await.query_first(sql).await.unwrap();
        rows.unwrap()
    };
    assert_eq!(
        (rows(&one, &at_one).await, rows(&other, &at_other).await),
        (0, 1)
    );
    assert_committed(&commit(&store, &id, update(&row, NEXT)).await);

    // The roles change: a call that finds the old primary read-only uses the new one.
    set(&other, 1).await;
    set(&one, 0).await;
    until_back(async || {
        let verdict = commit(
            &store,
            &SessionId::generate(),
            RowChange::Create(record(DATA)),
        )
        .await;
        matches!(verdict, CommitVerdict::Committed)
    })
    .await;
    assert_eq!(
        (rows(&one, &at_one).await, rows(&other, &at_other).await),
        (1, 1)
    );
}

#[tokio::test]
async fn a_locked_row_fails_alone_and_in_time() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let store = connect(&options(&database.url)).await;
    let (locked, row) = created(&store, DATA).await;
    let (free, free_row) = created(&store, DATA).await;
    let mut holder = mariadb.admin().await;
    holder
        .query_drop(format!("USE {}", database.name))
        .await
        .unwrap();
    holder.query_drop("BEGIN").await.unwrap();
    let lock = "SELECT * FROM sessions WHERE session_id = ? FOR UPDATE";
    holder.exec_drop(lock, (locked.as_str(),)).await.unwrap();

    let started_at = Instant::now();
    let commits = [(&locked, &row), (&free, &free_row)].map(|(id, row)| Commit {
        id: id.clone(),
        change: update(row, NEXT),
    });
    let verdicts = store.commit_many(&commits, NOW_S).await;
    assert_failed(&verdicts[0], StoreErrorKind::Unavailable);
    assert_committed(&verdicts[1]);
    assert!(started_at.elapsed() < Duration::from_millis(2_500));

    holder.query_drop("ROLLBACK").await.unwrap();
    assert_committed(&commit(&store, &locked, update(&row, NEXT)).await);
}

#[tokio::test]
async fn a_commit_goes_on_when_its_caller_goes_away() {
    let mariadb = Mariadb::shared().await;
    let database = mariadb.fresh_database().await;
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, DATA).await;
    let mut holder = mariadb.admin().await;
    holder
        .query_drop(format!("USE {}", database.name))
        .await
        .unwrap();
    holder.query_drop("BEGIN").await.unwrap();
    let lock = "SELECT * FROM sessions WHERE session_id = ? FOR UPDATE";
    holder.exec_drop(lock, (id.as_str(),)).await.unwrap();

    let left = tokio::time::timeout(
        Duration::from_millis(200),
        commit(&store, &id, update(&row, NEXT)),
    );
    assert!(left.await.is_err(), "the row is locked");
    holder.query_drop("ROLLBACK").await.unwrap();
    store.shutdown().await;
    assert_eq!(load(&store, &id).await.unwrap().data, NEXT.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_callers_than_connections_are_all_served() {
    let database = Mariadb::shared().await.fresh_database().await;
    let mut options = options(&database.url);
    options.connection_limit = 2;
    let store = connect(&options).await;
    let calls = (0..100).map(|_| created(&store, DATA));
    assert_eq!(futures_util::future::join_all(calls).await.len(), 100);
}

#[tokio::test]
async fn a_row_larger_than_the_server_takes_fails_alone() {
    let mariadb = Mariadb::start_with(&["--max-allowed-packet=64K"]).await;
    let database = mariadb.fresh_database().await;
    let store = connect(&options(&database.url)).await;
    let (id, row) = created(&store, DATA).await;
    let long = format!(r#"{{"cookie":{{}},"x":"{}"}}"#, "x".repeat(100_000));
    let verdict = commit(&store, &id, update(&row, &long)).await;
    assert_failed(&verdict, StoreErrorKind::TooLarge);
    assert_committed(&commit(&store, &id, update(&row, NEXT)).await);
}

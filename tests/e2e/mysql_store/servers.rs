//! The selection of a server from the list and its number of connections, with a full server, a demoted server, a server whose rows are all
//! locked, and a server that the store has switched away from.

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{
    CommitVerdict, RowChange, ServerStanding, SessionStore as _, StoreErrorKind,
};
use cloakroom_store_mysql::MysqlStore;
use cloakroom_tests::admin::{Operator, json};
use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::{Database, Mariadb};
use cloakroom_tests::wait::wait_until;
use futures_util::future::join_all;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use reqwest::Method;
use serde_json::Value;

use super::{
    NOW_S, assert_committed, assert_failed, commit, connect, created, load, options, record,
    update, with_hosts,
};
use crate::run_script;

const DATA: &str = r#"{"cookie":{},"n":0}"#;
const NEXT: &str = r#"{"cookie":{},"n":1}"#;
/// Longest wait until the store detects a change by itself on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// Two servers that both have the table, as with replication, and a store over both.
struct Pair {
    one: Mariadb,
    other: Mariadb,
    at_one: Database,
    store: MysqlStore,
}

impl Pair {
    async fn start() -> Self {
        let (one, other) = (Mariadb::start().await, Mariadb::start().await);
        let (at_one, at_other) = (one.fresh_database().await, other.fresh_database().await);
        assert_eq!(at_one.name, at_other.name);
        connect(&options(&at_one.url)).await;
        connect(&options(&at_other.url)).await;
        let store = connect(&with_hosts(&at_one, &[one.port(), other.port()])).await;
        Self {
            one,
            other,
            at_one,
            store,
        }
    }

    /// Returns the URL of both servers.
    fn url(&self) -> String {
        let one = format!("127.0.0.1:{}", self.one.port());
        let both = format!("{one},127.0.0.1:{}", self.other.port());
        self.at_one.url.replace(&one, &both)
    }

    fn in_use(&self) -> usize {
        let servers = self.store.servers();
        let in_use = servers.iter().position(|server| server.is_in_use);
        in_use.expect("one of them is in use")
    }
}

fn only(store: &MysqlStore) -> ServerStanding {
    let mut servers = store.servers();
    assert_eq!(servers.len(), 1);
    servers.remove(0)
}

/// Opens all connections that the server still accepts.
async fn strangers(database: &Database) -> Vec<Conn> {
    let mut strangers = Vec::new();
    let url = || Opts::from_url(&database.url).expect("the URL of a test's database");
    while let Ok(stranger) = Conn::new(url()).await {
        strangers.push(stranger);
    }
    assert!(!strangers.is_empty());
    strangers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_fails_no_request_while_existing_connections_work() {
    let mariadb = Mariadb::start_with(&["--max-connections=12"]).await;
    let database = mariadb.fresh_database().await;
    let store = connect(&options(&database.url)).await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(created(&store, DATA).await);
    }
    assert_eq!(only(&store).connections_max, 10);

    let strangers = strangers(&database).await;
    for data in [NEXT, DATA, NEXT] {
        let commits = (sessions.iter()).map(|(id, row)| commit(&store, id, update(row, data)));
        for verdict in join_all(commits).await {
            assert_committed(&verdict);
        }
        for (id, row) in &mut sessions {
            *row = load(&store, id).await.expect("it was committed");
        }
    }
    let full = only(&store);
    assert!(full.connections >= 1, "{full:?}");
    assert!(full.connections_max < 10, "{full:?}");

    for stranger in strangers {
        stranger.disconnect().await.expect("a goodbye");
    }
    // The limit grows only under load, so the loads follow each other without a wait.
    let started_at = Instant::now();
    while only(&store).connections_max <= full.connections_max {
        assert!(started_at.elapsed() < PATIENCE, "it does not grow again");
        let ids: Vec<_> = sessions.iter().map(|(id, _)| id.clone()).collect();
        let loads = ids
            .iter()
            .map(|id| store.load_many(std::slice::from_ref(id), NOW_S));
        assert!(join_all(loads).await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_demoted_server_is_replaced_at_once_even_if_the_host_only_reads() {
    let pair = Pair::start().await;
    let (id, _) = created(&pair.store, DATA).await;
    assert_eq!(pair.in_use(), 0);

    let sql = "SET GLOBAL read_only = 1";
    pair.one.admin().await.query_drop(sql).await.unwrap();
    wait_until("it no longer reads from a replica", PATIENCE, async || {
        let loaded = pair.store.load_many(std::slice::from_ref(&id), NOW_S).await;
        loaded.expect("one of the two serves");
        ensure!(pair.in_use() != 0);
        Ok(())
    })
    .await;
    // The server is not barred, because it did not fail: when the roles change again it may serve.
    assert!(!pair.store.servers()[0].is_barred);
    let (new, _) = created(&pair.store, DATA).await;
    let sql = "SELECT COUNT(*) FROM test_0.sessions";
    let rows: Option<u64> = pair.other.admin().await.query_first(sql).await.unwrap();
    assert_eq!(rows, Some(1));
    assert!(load(&pair.store, &new).await.is_some());
}

#[tokio::test]
async fn a_server_whose_rows_are_all_locked_is_left_after_three_sessions() {
    let pair = Pair::start().await;
    let mut backup = pair.one.admin().await;
    backup
        .query_drop("FLUSH TABLES WITH READ LOCK")
        .await
        .unwrap();
    let create = async || {
        let id = SessionId::generate();
        commit(&pair.store, &id, RowChange::Create(record(DATA))).await
    };
    for _ in 0..3 {
        assert_eq!(pair.in_use(), 0);
        assert_failed(&create().await, StoreErrorKind::Unavailable);
    }
    assert_committed(&create().await);
    assert_eq!(pair.in_use(), 1);
    drop(backup);
}

#[tokio::test]
async fn a_single_server_that_failed_is_used_again_only_by_prefer_first() {
    let pair = Pair::start().await;
    pair.one.kill().await;
    let create = async || {
        let id = SessionId::generate();
        commit(&pair.store, &id, RowChange::Create(record(DATA))).await
    };
    wait_until("the other one serves", PATIENCE, async || {
        let verdict = create().await;
        ensure!(matches!(verdict, CommitVerdict::Committed), "{verdict:?}");
        Ok(())
    })
    .await;
    let refused = pair.store.prefer_first().await;
    refused.expect_err("the first server is down");
    assert_eq!(pair.in_use(), 1);
    assert!(pair.store.servers()[0].is_barred);

    pair.one.start_again().await;
    pair.other.stop().await;
    let mut refusals = 0;
    wait_until("the operator is told 20 times", PATIENCE, async || {
        match create().await {
            // The error tells the operator the remedy.
            CommitVerdict::Failed(error) if error.detail.contains("/store/prefer-first") => {
                refusals += 1
            }
            // A statement that was in progress when the server stopped.
            CommitVerdict::Failed(_) | CommitVerdict::Ambiguous(_) if refusals == 0 => {}
            verdict => panic!("an old primary has a history of its own: {verdict:?}"),
        }
        ensure!(refusals == 20, "told {refusals} times");
        Ok(())
    })
    .await;

    wait_until("the first one is in use again", PATIENCE, async || {
        let preferred = pair.store.prefer_first().await;
        preferred.map_err(|error| anyhow!("{error}"))
    })
    .await;
    assert_eq!(pair.in_use(), 0);
    assert_committed(&create().await);
}

/// Returns for each server, as the admin interface reports it, whether it is in use and whether it is barred.
async fn standing(operator: &Operator) -> Vec<(bool, bool)> {
    let body = json(&operator.get("/store").await);
    let servers = body["servers"].as_array().expect("a list");
    let is = |server: &Value, what: &str| server[what].as_bool().expect("yes or no");
    let standing = |server| (is(server, "in_use"), is(server, "left"));
    servers.iter().map(standing).collect()
}

async fn prefer_first(operator: &Operator) -> Answer {
    let path = "/store/prefer-first";
    operator.send(Method::POST, path, &[], "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_interface_shows_the_server_in_use_and_restores_the_first() {
    const PREFERRED: &str = "cloakroom_store_server_preferred";
    let pair = Pair::start().await;
    let config = Config::over(&pair.url()).guest("/s", "fixture-session");
    let host = config.admin("").start();
    let operator = Operator::of(&host);
    let log_in = async || {
        let answer = run_script(&Browser::new(), &host, &["set n 1"]).await;
        answer.status == 200
    };
    assert!(log_in().await);
    assert_eq!(standing(&operator).await, [(true, false), (false, false)]);
    let body = json(&operator.get("/store").await);
    let first = &body["servers"][0];
    let name = format!("127.0.0.1:{}", pair.one.port());
    assert_eq!(first["name"], name.as_str());
    let is = first["is"].as_str().unwrap();
    assert!(is.starts_with("a single server, version "), "{is}");
    assert!(first["connections"].as_u64() >= Some(1), "{first}");
    assert_eq!(first["failure"], Value::Null);
    assert_eq!(operator.metric(PREFERRED).await, Some(1.0));

    pair.one.kill().await;
    wait_until("the other one serves", PATIENCE, async || {
        ensure!(log_in().await);
        Ok(())
    })
    .await;
    assert_eq!(standing(&operator).await, [(false, true), (true, false)]);
    assert_eq!(operator.metric(PREFERRED).await, Some(0.0));
    host.wait_for_log("uses a server that is not the first of its list")
        .await;
    let refused = prefer_first(&operator).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains(&name), "{}", refused.text);
    assert_eq!(standing(&operator).await, [(false, true), (true, false)]);

    pair.one.start_again().await;
    assert!(log_in().await);
    assert_eq!(standing(&operator).await, [(false, true), (true, false)]);
    let before = pair.at_one.sessions().await.len();
    let preferred = wait_until("the first one is in use again", PATIENCE, async || {
        let answer = prefer_first(&operator).await;
        ensure!(answer.status == 200, "{}", answer.text);
        Ok(json(&answer))
    })
    .await;
    assert_eq!(preferred["in_use"], name.as_str());
    assert_eq!(standing(&operator).await, [(true, false), (false, false)]);
    assert_eq!(operator.metric(PREFERRED).await, Some(1.0));
    assert!(log_in().await);
    assert_eq!(pair.at_one.sessions().await.len(), before + 1);
}

#[tokio::test]
async fn a_locked_server_is_kept_where_no_other_one_takes_writes() {
    let pair = Pair::start().await;
    let (id, _) = created(&pair.store, DATA).await;
    let sql = "SET GLOBAL read_only = 1";
    pair.other.admin().await.query_drop(sql).await.unwrap();
    let mut backup = pair.one.admin().await;
    backup
        .query_drop("FLUSH TABLES WITH READ LOCK")
        .await
        .unwrap();
    for _ in 0..4 {
        let new = SessionId::generate();
        let verdict = commit(&pair.store, &new, RowChange::Create(record(DATA))).await;
        assert_failed(&verdict, StoreErrorKind::Unavailable);
        // The server still answers reads.
        assert!(load(&pair.store, &id).await.is_some());
        assert_eq!(pair.in_use(), 0);
        assert!(!pair.store.servers()[0].is_barred);
    }
    backup.query_drop("UNLOCK TABLES").await.unwrap();
    created(&pair.store, DATA).await;
}

#[tokio::test]
async fn a_server_that_refuses_to_write_is_left_as_one_that_is_read_only() {
    let pair = Pair::start().await;
    created(&pair.store, DATA).await;
    let mut admin = pair.one.admin().await;
    admin
        .query_drop("SET GLOBAL tx_read_only = 1")
        .await
        .unwrap();
    // Open connections keep the old value, so they are killed.
    let ours = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'app'";
    let ours: Vec<u64> = admin.query(ours).await.unwrap();
    for connection in ours {
        // A connection may have closed by itself.
        let _ = admin.query_drop(format!("KILL {connection}")).await;
    }
    wait_until("the other one is in use", PATIENCE, async || {
        let id = SessionId::generate();
        commit(&pair.store, &id, RowChange::Create(record(DATA))).await;
        ensure!(pair.in_use() != 0);
        Ok(())
    })
    .await;
    created(&pair.store, DATA).await;
}

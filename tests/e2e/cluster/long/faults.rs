//! One fault of one node per test, with visitors at three hosts. The first host prefers the node that fails.

use std::time::Duration;

use anyhow::ensure;
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, SessionStore as _};
use cloakroom_store_mysql::ServerAddress;
use cloakroom_tests::galera::{Galera, NODES};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::{pause, wait_until};
use mysql_async::prelude::Queryable as _;

use crate::cluster::{CALM, FAULT, Stage};
use crate::mysql_store::{NOW_S, connect, options, record};

/// The connection limit of a node that is full.
const CONNECTIONS_MAX: usize = 40;
/// Longest time until a host again uses the first node of its list once that node is healthy. The host waits 30 seconds.
const RETURN_TIME_MAX: Duration = Duration::from_secs(90);

async fn change(node: &Mariadb, statement: &str) {
    let mut admin = node.admin().await;
    admin.query_drop(statement).await.unwrap();
}

/// Waits until a host sends its changes to a restarted node. Writes replicated from other nodes are not counted there.
async fn is_used_again(node: &Mariadb) {
    let mut admin = node.admin().await;
    wait_until("a host is back at the node", RETURN_TIME_MAX, async || {
        let row: Option<(String, u64)> = admin
            .query_first("SHOW GLOBAL STATUS LIKE 'Com_update'")
            .await
            .unwrap();
        ensure!(row.is_some_and(|(_, updates)| updates > 0));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_comes_back_with_a_copy_of_the_state() {
    let stage = Stage::set().await;
    stage.cluster.node(0).kill().await;
    pause(FAULT, "the fault lasts").await;
    stage.cluster.start_again(0).await;
    is_used_again(stage.cluster.node(0)).await;
    stage
        .end("`kill -9` of a node, and its return with a copy of another's state")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halted_node_goes_on() {
    let stage = Stage::set().await;
    stage.cluster.node(0).pause();
    pause(FAULT, "the fault lasts").await;
    stage.cluster.node(0).resume();
    // At first the node reports that it is a synced member. That is false: the others have continued without it.
    pause(FAULT, "the node notices that it was dropped").await;
    stage.cluster.wait_until_synced(0).await;
    stage.end("SIGSTOP of a node for 15 s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_cut_off_from_the_others() {
    let stage = Stage::set().await;
    stage.cluster.isolate(0).await;
    pause(FAULT, "the fault lasts").await;
    stage.cluster.rejoin(0).await;
    stage.end("a node cut off from the others for 15 s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_restarted() {
    let stage = Stage::set().await;
    stage.cluster.restart(0).await;
    stage.end("a node stopped in order and started again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_locks_the_tables_of_a_node() {
    let stage = Stage::set().await;
    let lock = stage.cluster.lock(0).await;
    pause(FAULT, "the fault lasts").await;
    lock.disconnect().await.unwrap();
    stage.cluster.wait_until_synced(0).await;
    stage
        .end("`FLUSH TABLES WITH READ LOCK` on a node for 15 s")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_made_read_only() {
    let stage = Stage::set().await;
    stage.cluster.demote(0).await;
    pause(FAULT, "the fault lasts").await;
    stage.cluster.promote(0).await;
    stage.end("`read_only` on a node for 15 s").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_of_a_node_are_taken() {
    let stage = Stage::set().await;
    let strangers = stage
        .cluster
        .fill(0, &stage.database, CONNECTIONS_MAX)
        .await;
    pause(FAULT, "the fault lasts").await;
    stage.cluster.empty(0, strangers).await;
    let figures = stage
        .end("all connections of a node taken by others for 15 s")
        .await;
    assert_eq!(figures.refused, 0, "the connections that are there go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_gets_a_column_and_an_index_and_loses_them() {
    let stage = Stage::set().await;
    let table = format!("{}.sessions", stage.database.name);
    for alteration in [
        "ADD COLUMN note VARCHAR(20) NULL",
        "ADD INDEX of_notes (note)",
        "DROP INDEX of_notes",
        "DROP COLUMN note",
    ] {
        let statement = format!("ALTER TABLE {table} {alteration}");
        change(stage.cluster.node(1), &statement).await;
        pause(CALM, "the visitors go on with the changed table").await;
    }
    stage
        .end("four changes of the table's columns and indexes")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_runs_outside_of_its_cluster_is_passed_over() {
    let cluster = Galera::start().await;
    let database = cluster.fresh_database().await;
    let host = |n: usize| ServerAddress {
        name: "127.0.0.1".to_owned(),
        port: cluster.node(n).port(),
    };
    let mut options = options(&database.url);
    options.hosts = (0..NODES).map(host).collect();
    let store = connect(&options).await;
    let is_used = |n: usize| store.servers()[n].is_in_use;
    // Waits until this node commits a new session.
    let until_used = async |n: usize| {
        let what = format!("node {n} is used");
        wait_until(&what, RETURN_TIME_MAX, async || {
            let commit = Commit {
                id: SessionId::generate(),
                change: RowChange::Create(record(r#"{"cookie":{}}"#)),
            };
            let made = store.commit_many(&[commit], NOW_S).await;
            let is_made = matches!(made[..], [CommitVerdict::Committed]);
            ensure!(is_made && is_used(n), "{made:?} {:?}", store.servers());
            Ok(())
        })
        .await;
    };
    until_used(0).await;
    cluster.node(0).kill().await;
    until_used(1).await;
    cluster.start_alone(0).await;
    let count = format!("SELECT COUNT(*) FROM {}.sessions", database.name);
    let mut alone = cluster.node(0).admin().await;
    let before: Option<u64> = alone.query_first(&count).await.unwrap();
    // A graceful stop, so that the last node continues alone.
    cluster.node(1).stop().await;
    until_used(2).await;
    let after: Option<u64> = alone.query_first(&count).await.unwrap();
    assert_eq!(after, before, "nothing is written outside of the cluster");
}

//! The checker on MySQL: Group Replication with one primary and with several, and a replica that takes over from its primary.
//!
//! `CLOAKROOM_MYSQL` names the folder with an unpacked server (`tests/mysql.sh unpack`); without it these tests say so and end.

use cloakroom_tests::ledger::{Ledger, Plan};
use cloakroom_tests::mysql_group::MysqlCluster;
use tokio::time::sleep;

use crate::cluster::{CALM, FAULT, VISITORS, entrances, hosts, logs, wrong_answers};

async fn start(command: &[&str]) -> Option<MysqlCluster> {
    let cluster = MysqlCluster::start(command).await;
    if cluster.is_none() {
        eprintln!("not run: CLOAKROOM_MYSQL names no unpacked MySQL");
    }
    cluster
}

/// How the others go on without the first server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// They have all that it acknowledged, and agree on it.
    Group,
    /// The second one has all that it acknowledged, and takes over at our word.
    Replica,
    /// As [`After::Replica`], but it may lack what was acknowledged last.
    LaggingReplica,
}

/// Kills the first server under visitors at three hosts, perhaps lets the second one take over, and prints the line of the table.
/// Says how many answers showed a loss; none where nothing may be lost.
///
/// # Errors
/// The answers that cannot be true.
async fn kill_the_first(cluster: &MysqlCluster, fault: &str, after: After) -> Result<u64, String> {
    let urls = cluster.urls().await;
    let hosts = hosts(|n| urls[n].clone());
    let ledger = Ledger::open(Plan::at(entrances(&hosts), VISITORS));
    sleep(CALM).await;
    let calm = ledger.take();
    assert!(calm.answered > 0, "{calm:?}\n{}", logs(&hosts));
    // A failed certification leaves a doubt where a row has gone on by more commits than it remembers.
    assert!(
        calm.refused * 200 <= calm.answered,
        "{calm:?}\n{}",
        logs(&hosts)
    );
    cluster.run(&["kill", "1"]).await;
    if after == After::LaggingReplica {
        ledger.may_lose_until_now();
    }
    if after != After::Group {
        sleep(CALM).await;
        cluster.run(&["promote", "2"]).await;
    }
    sleep(FAULT).await;
    if let Err(what) = ledger.all_are_served().await {
        panic!("{fault}: {what}\n{}", logs(&hosts));
    }
    eprintln!("{}", ledger.take().row(fault));
    ledger.close().await
}

/// What one host has answered the next one knows, and the death of the first server changes nothing of that.
async fn holds(mode: &str, fault: &str) {
    let Some(cluster) = start(&["group", mode]).await else {
        return;
    };
    let urls = cluster.urls().await;
    {
        let hosts = hosts(|n| urls[n].clone());
        let wrong = wrong_answers(&hosts).await;
        assert!(wrong.is_empty(), "{}: {wrong:?}", wrong.len());
    }
    if let Err(what) = kill_the_first(&cluster, fault, After::Group).await {
        panic!("{fault}: {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_one_primary_loses_it_and_nothing_else() {
    holds("single", "`kill -9` of the primary of a group").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_several_primaries_loses_one_and_nothing_else() {
    holds("multi", "`kill -9` of one of three primaries of a group").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_semi_synchronous_replica_takes_over_with_every_answer() {
    let Some(cluster) = start(&["pair", "semisync"]).await else {
        return;
    };
    let fault = "`kill -9` of a primary whose semi-synchronous replica takes over";
    if let Err(what) = kill_the_first(&cluster, fault, After::Replica).await {
        panic!("{fault}: {what}");
    }
}

/// Asynchronous replication may lose answers: how many is a figure of `SCALING.md`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_replica_takes_over_and_what_it_lacks_is_counted() {
    let Some(cluster) = start(&["pair", "async"]).await else {
        return;
    };
    let fault = "`kill -9` of a primary whose asynchronous replica takes over";
    // A doubled count, and anything missing that was acknowledged after the kill, is wrong here as well.
    match kill_the_first(&cluster, fault, After::LaggingReplica).await {
        Ok(losses) => eprintln!("{fault}: {losses} answers lacked what had been acknowledged"),
        Err(what) => panic!("{fault}: {what}"),
    }
}

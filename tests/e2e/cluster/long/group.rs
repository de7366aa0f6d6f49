//! The ledger on MySQL: Group Replication with one primary and with several, and a replica that replaces its primary.
//!
//! `CLOAKROOM_MYSQL` names the folder with an unpacked server (`tests/mysql.sh unpack`). Without it these tests print a message and end.

use cloakroom_tests::ledger::{Ledger, Plan};
use cloakroom_tests::mysql_group::MysqlCluster;
use cloakroom_tests::wait::pause;

use crate::cluster::{CALM, FAULT, VISITORS, entrances, hosts, logs, wrong_answers};

async fn start(command: &[&str]) -> Option<MysqlCluster> {
    let cluster = MysqlCluster::start(command).await;
    if cluster.is_none() {
        eprintln!("not run: CLOAKROOM_MYSQL names no unpacked MySQL");
    }
    cluster
}

/// The state of the other servers after the first one has died.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// The others have all acknowledged commits and agree on them.
    Group,
    /// The second server has all acknowledged commits and becomes the primary when the test promotes it.
    Replica,
    /// Like [`After::Replica`], but the last acknowledged commits may be missing.
    LaggingReplica,
}

/// Kills the first server under visitors at three hosts, promotes the second one where `after` requires it, and prints the row of the
/// table. Returns the number of answers that showed a loss, which is 0 where no loss is allowed.
///
/// # Errors
/// A description of the answers that cannot be correct.
async fn kill_the_first(cluster: &MysqlCluster, fault: &str, after: After) -> Result<u64, String> {
    let urls = cluster.urls().await;
    let hosts = hosts(|n| urls[n].clone());
    let ledger = Ledger::open(Plan::at(entrances(&hosts), VISITORS));
    pause(CALM, "the visitors meet no fault").await;
    let calm = ledger.take();
    assert!(calm.answered > 0, "{calm:?}\n{}", logs(&hosts));
    // A failed certification leaves a commit unresolved when its row has had more later commits than the row remembers.
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
        pause(CALM, "there is no primary").await;
        cluster.run(&["promote", "2"]).await;
    }
    pause(FAULT, "the visitors go on without the first server").await;
    if let Err(what) = ledger.all_are_served().await {
        panic!("{fault}: {what}\n{}", logs(&hosts));
    }
    eprintln!("{}", ledger.take().row(fault));
    ledger.close().await
}

/// Checks that the next host sees each commit that one host has answered, and that the death of the first server does not change that.
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

/// Asynchronous replication may lose answered commits. `SCALING.md` reports how many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_replica_takes_over_and_its_lost_commits_are_counted() {
    let Some(cluster) = start(&["pair", "async"]).await else {
        return;
    };
    let fault = "`kill -9` of a primary whose asynchronous replica takes over";
    // A doubled count is an error here as well, and so is a missing commit that was acknowledged after the kill.
    match kill_the_first(&cluster, fault, After::LaggingReplica).await {
        Ok(losses) => eprintln!("{fault}: {losses} answers lacked acknowledged commits"),
        Err(what) => panic!("{fault}: {what}"),
    }
}

//! The cost of a cluster: visits per second with one host and with three, and the time of a causal read. Prints lines for `SCALING.md`.

use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::galera::Galera;
use cloakroom_tests::host::Host;
use cloakroom_tests::mariadb::{Database, Mariadb};
use futures_util::future::{join, join_all};
use mysql_async::prelude::Queryable as _;

use crate::cluster::{hosts, scripted};

const CLIENTS: usize = 64;
const LENGTH: Duration = Duration::from_secs(10);
/// The number of statements whose mean time is measured.
const READS: u32 = 1_000;

async fn count(url: String, end: Instant) -> u32 {
    let browser = Browser::new();
    let mut visits = 0;
    while Instant::now() < end {
        let answer = browser.post(&url, "increment n 1").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        visits += 1;
    }
    visits
}

/// Returns the visits per second. Each client counts in a session of its own, always at the same host.
async fn visits_a_second(hosts: &[Host]) -> u64 {
    let end = Instant::now() + LENGTH;
    let clients = (0..CLIENTS).map(|n| {
        let url = hosts[n % hosts.len()].url("/s");
        tokio::spawn(count(url, end))
    });
    let visits = join_all(clients).await;
    let total: u64 = visits.into_iter().map(|n| u64::from(n.unwrap())).sum();
    total / LENGTH.as_secs()
}

/// Returns the mean time of a read by id at a node with this value of `wsrep_sync_wait`.
async fn read_time(node: &Mariadb, database: &Database, wait: u32) -> Duration {
    let mut admin = node.admin().await;
    let set = format!("SET SESSION wsrep_sync_wait = {wait}");
    admin.query_drop(set).await.unwrap();
    let select = format!(
        "SELECT data FROM {}.sessions WHERE session_id = 'absent'",
        database.name
    );
    let began_at = Instant::now();
    for _ in 0..READS {
        admin.query_drop(select.as_str()).await.unwrap();
    }
    began_at.elapsed() / READS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_measured_beside_one_server() {
    let alone = Mariadb::start().await;
    let database = alone.fresh_database().await;
    let host = [scripted(&database.url).start()];
    let rate = visits_a_second(&host).await;
    eprintln!("| one MariaDB, one host | {rate}/s |");
    drop(host);

    let cluster = Galera::start().await;
    let database = cluster.fresh_database().await;
    let hosts = hosts(|n| cluster.urls(&database, n));
    let rate = visits_a_second(&hosts[..1]).await;
    eprintln!("| Galera of three, one host | {rate}/s |");
    let rate = visits_a_second(&hosts).await;
    eprintln!("| Galera of three, three hosts on a node each | {rate}/s |");

    for (wait, name) in [(0, "as the node has it"), (7, "causal")] {
        let at_rest = read_time(cluster.node(1), &database, wait).await;
        let beside = read_time(cluster.node(1), &database, wait);
        let (beside, _) = join(beside, visits_a_second(&hosts[..1])).await;
        eprintln!(
            "| a read by id, {name} | {at_rest:?} at rest, {beside:?} during writes at another node |"
        );
    }
}

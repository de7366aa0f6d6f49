//! HAProxy in front of three hosts, and in front of the database, where it closes idle connections.

use std::fmt::Write as _;
use std::time::Duration;

use cloakroom_tests::galera::{Galera, NODES};
use cloakroom_tests::haproxy::Haproxy;
use cloakroom_tests::host::Host;
use cloakroom_tests::ledger::{Ledger, Plan};
use cloakroom_tests::port::Port;
use cloakroom_tests::wait::pause;

use crate::cluster::{CALM, FAULT, VISITORS, entrances, hosts, logs, scripted};

/// Longer than the balancer's time limit for idle database connections.
const PAUSE: Duration = Duration::from_secs(3);
/// The time for which connections become idle and are closed.
const REST: Duration = Duration::from_secs(30);

/// Waits until all visitors are served, stops them, and prints the row of the table.
async fn end(ledger: Ledger, fault: &str, hosts: &[Host]) {
    let served = ledger.all_are_served().await;
    let figures = ledger.take();
    let closed = ledger.close().await;
    if let Err(what) = served.and(closed) {
        panic!("{fault}: {what}\n{}", logs(hosts));
    }
    eprintln!("{}", figures.row(fault));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_balancer_a_killed_host_loses_no_count_and_no_logout() {
    let cluster = Galera::start().await;
    let database = cluster.fresh_database().await;
    let ports = [(); NODES].map(|()| Port::free());
    let start = |n: usize| {
        scripted(&cluster.urls(&database, n))
            .env(
                "CLOAKROOM_LISTEN",
                &format!("127.0.0.1:{}", ports[n].number()),
            )
            .start()
    };
    let mut hosts: [Host; NODES] = std::array::from_fn(start);
    let mut lines =
        "    mode http\n    balance roundrobin\n    option redispatch\n    retries 3\n    \
                     timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n"
            .to_owned();
    for (n, port) in ports.iter().enumerate() {
        let port = port.number();
        let check = "check inter 200ms";
        writeln!(lines, "    server host{n} 127.0.0.1:{port} {check}").unwrap();
    }
    let balancer = Haproxy::start(&lines);
    let plan = Plan::at(vec![balancer.url()], VISITORS).behind_a_balancer();
    let ledger = Ledger::open(plan);
    pause(CALM, "the visitors meet no fault").await;
    let calm = ledger.take();
    assert_eq!(calm.refused, 0, "{calm:?}\n{}", logs(&hosts));
    hosts[0].kill();
    pause(CALM, "the host is down").await;
    hosts[0] = tokio::task::block_in_place(|| start(0));
    pause(CALM, "the visitors meet no fault").await;
    end(ledger, "`kill -9` of a host behind HAProxy", &hosts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_of_the_database_drops_idle_connections_and_loses_a_node() {
    let cluster = Galera::start().await;
    let database = cluster.fresh_database().await;
    // The balancer distributes a host's connections over all nodes.
    let mut lines =
        "    mode tcp\n    balance roundrobin\n    option redispatch\n    timeout connect 2s\n    \
                     timeout client 1s\n    timeout server 1s\n"
            .to_owned();
    for n in 0..NODES {
        let port = cluster.node(n).port();
        let check = "check inter 200ms fall 2 on-marked-down shutdown-sessions";
        writeln!(lines, "    server node{n} 127.0.0.1:{port} {check}").unwrap();
    }
    let balancer = Haproxy::start(&lines);
    let hosts = hosts(|_| database.url_through(balancer.port()));
    let ledger = Ledger::open(Plan::at(entrances(&hosts), VISITORS / 4).pause(PAUSE));
    pause(REST, "idle connections are closed").await;
    let rest = ledger.take();
    assert!(rest.answered > 0, "{rest:?}\n{}", logs(&hosts));
    assert_eq!(rest.refused, 0, "{rest:?}\n{}", logs(&hosts));
    cluster.node(0).kill().await;
    pause(FAULT, "the fault lasts").await;
    end(ledger, "`kill -9` of a node behind HAProxy", &hosts).await;
}

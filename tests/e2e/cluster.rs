//! Sessions in a database of three nodes: a commit that one host has answered is visible to the next host, whatever happens to a node.
//!
//! Three of these tests run with `make test`. Each test of [`long`] injects one fault into its own cluster and prints a row of the table in
//! `host/docs/src/cluster.md`; `make test-cluster` runs them.

mod long;

use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::galera::{Galera, NODES};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::ledger::{Account, Figures, Ledger, Plan, Wrong};
use cloakroom_tests::mariadb::Database;
use cloakroom_tests::wait::pause;
use futures_util::future::join_all;
use mysql_async::prelude::Queryable as _;

use crate::{run_script, script};

/// The number of sessions of a causality check.
const SESSIONS: usize = 400;
/// The number of concurrent sessions, so that the nodes have writes of other sessions to apply.
const AT_ONCE: usize = 8;
/// The number of visitors during a fault.
const VISITORS: usize = 24;
/// The time for which visitors run on a healthy cluster before and after a fault.
const CALM: Duration = Duration::from_secs(4);
/// The duration of a fault that the test ends: longer than the 5 seconds after which a group drops a member.
const FAULT: Duration = Duration::from_secs(15);
/// Longest time in which a visitor may be refused while two of three nodes are healthy.
const GAP_MAX: Duration = Duration::from_secs(30);
/// Most lines in a host's log for one fault: one for each change of state, none for a request.
const LOG_LINES_MAX: usize = 200;

/// Returns a host whose log contains changes of its store's state and no requests.
fn scripted(url: &str) -> Config {
    Config::over(url)
        .guest("/s", "fixture-session")
        .top("[log]\nlevel = \"warn,cloakroom::access=off\"")
}

/// Starts one host for each URL.
fn hosts(url: impl Fn(usize) -> String) -> [Host; NODES] {
    std::array::from_fn(|n| scripted(&url(n)).start())
}

fn entrances(hosts: &[Host]) -> Vec<String> {
    hosts.iter().map(|host| host.url("")).collect()
}

fn logs(hosts: &[Host]) -> String {
    hosts.iter().map(|host| host.log() + "\n").collect()
}

/// A cluster, three hosts that each prefer a different node of it, and visitors at all of them.
struct Stage {
    cluster: Galera,
    database: Database,
    hosts: [Host; NODES],
    ledger: Ledger,
}

impl Stage {
    /// Starts all parts. On a healthy cluster no visitor is refused.
    async fn set() -> Self {
        let cluster = Galera::start().await;
        let database = cluster.fresh_database().await;
        let hosts = hosts(|n| cluster.urls(&database, n));
        let ledger = Ledger::open(Plan::at(entrances(&hosts), VISITORS));
        let stage = Self {
            cluster,
            database,
            hosts,
            ledger,
        };
        stage.are_served().await;
        pause(CALM, "the visitors meet no fault").await;
        let calm = stage.ledger.take();
        assert_eq!(calm.refused, 0, "{calm:?}\n{}", logs(&stage.hosts));
        stage
    }

    async fn are_served(&self) {
        if let Err(what) = self.ledger.all_are_served().await {
            panic!("{what}\n{}", logs(&self.hosts));
        }
    }

    /// Waits until all visitors are served again, prints the fault's row of the table, and checks the properties that every fault must
    /// keep.
    async fn end(self, fault: &str) -> Figures {
        self.are_served().await;
        pause(CALM, "the visitors meet no fault").await;
        let figures = self.ledger.take();
        if let Err(what) = self.ledger.close().await {
            panic!("{fault}: {what}\n{}", logs(&self.hosts));
        }
        eprintln!("{}", figures.row(fault));
        assert!(figures.logouts > 0, "{figures:?}");
        assert!(figures.gap_max < GAP_MAX, "{figures:?}");
        for host in &self.hosts {
            let lines = host.log().lines().count();
            assert!(lines <= LOG_LINES_MAX, "{lines} lines:\n{}", host.log());
        }
        figures
    }
}

/// Logs in at one host, in every second session reads at the next, logs out there at once, and reads at the third. Returns the errors.
async fn wander(hosts: &[Host; NODES], session: usize) -> Vec<&'static str> {
    let turn = |n: usize| &hosts[(session + n) % NODES];
    // Created first, because creating a client takes longer than the lag of a cluster.
    let (browser, replay) = (Browser::new(), Browser::new());
    let mut wrong = Vec::new();
    script(&browser, turn(0), &["set n 7"]).await;
    let cookie = browser.cookies(&turn(0).url("/")).expect("a cookie");
    if session.is_multiple_of(2) && script(&browser, turn(1), &["get n"]).await != ["7"] {
        wrong.push("a session was not found by the next host");
    }
    let logout = run_script(&browser, turn(1), &["destroy"]).await;
    replay.keep(&turn(2).url("/"), &cookie);
    if script(&replay, turn(2), &["get n"]).await != ["none"] {
        wrong.push("a session was served after its logout");
    }
    if logout.status != 200 {
        wrong.push("a logout was refused");
    }
    wrong
}

/// Returns the errors in the answers of the hosts to [`SESSIONS`] sessions.
async fn wrong_answers(hosts: &[Host; NODES]) -> Vec<&'static str> {
    let mut wrong = Vec::new();
    for first in (0..SESSIONS).step_by(AT_ONCE) {
        let some = (first..first + AT_ONCE).map(|session| wander(hosts, session));
        wrong.extend(join_all(some).await.into_iter().flatten());
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_answered_by_one_host_is_read_by_the_next_one() {
    let cluster = Galera::start().await;
    let database = cluster.fresh_database().await;
    // Each host uses a different node, so that only the cluster connects them.
    let hosts = hosts(|n| cluster.url(&database, n));
    let wrong = wrong_answers(&hosts).await;
    assert!(wrong.is_empty(), "{} of {SESSIONS}: {wrong:?}", wrong.len());
    let mut admin = cluster.node(0).admin().await;
    let wait = "SET SESSION wsrep_sync_wait = 7";
    admin.query_drop(wait).await.unwrap();
    let left = format!("SELECT COUNT(*) FROM {}.sessions", database.name);
    let left: Option<u64> = admin.query_first(left).await.unwrap();
    assert_eq!(left, Some(0), "each logout deletes its row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_may_not_set_causality_is_refused_with_a_remedy() {
    let cluster = Galera::alone().await;
    let database = cluster.fresh_database().await;
    // MariaDB itself never denies this statement to an account, but a proxy in front of it may.
    let proxy = ChaosProxy::to_port(cluster.node(0).port()).await;
    proxy.disturb(Disturbance {
        loss: Loss::Denied,
        prefix: "SET SESSION wsrep_sync_wait".to_owned(),
        every: 1,
        times: u32::MAX,
    });
    let config = scripted(&database.url_through(proxy.port()));

    let (code, text) = config.refused().await;

    assert_eq!(code, Some(2), "{text}");
    for part in [
        "store.user",
        "server error 1227",
        "GRANT SESSION_VARIABLES_ADMIN ON *.* TO 'app'@'%'",
        "SET GLOBAL wsrep_sync_wait = 7",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The second of the two remedies: the host does not need to send the statement.
    let mut admin = cluster.node(0).admin().await;
    let remedy = "SET GLOBAL wsrep_sync_wait = 7";
    admin.query_drop(remedy).await.unwrap();
    let denials = proxy.losses();
    let host = config.start();
    script(&Browser::new(), &host, &["set n 1"]).await;
    assert_eq!(proxy.losses(), denials);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_loses_no_count_and_no_logout() {
    let stage = Stage::set().await;
    stage.cluster.node(0).kill().await;
    pause(FAULT, "the fault lasts").await;
    stage.end("`kill -9` of a node").await;
}

/// The ledger proves something only if it detects wrong answers.
#[test]
fn the_ledger_detects_lost_stale_and_doubled_counts() {
    let mut account = Account::default();
    assert_eq!(account.counted(&[1], 0), Ok(()));
    assert_eq!(account.counted(&[3, 2], 1), Ok(()));
    // A count that is too large is not a loss.
    let is_loss = |outcome| match outcome {
        Ok(()) => None,
        Err(Wrong::Lacks(_)) => Some(true),
        Err(Wrong::False(_)) => Some(false),
    };
    for (sums, expected) in [
        (vec![3], true),
        (vec![4, 4], true),
        (vec![6], false),
        (vec![3, 9], false),
    ] {
        let mut other = account;
        assert_eq!(is_loss(other.counted(&sums, 0)), Some(expected), "{sums:?}");
    }
    for (count, expected) in [(0, true), (2, true), (5, false)] {
        let mut other = account;
        assert_eq!(is_loss(other.read(count)), Some(expected), "{count}");
    }
    assert_eq!(account.read(4), Ok(()));
    assert!(account.read(3).is_err(), "older than an earlier read");
}

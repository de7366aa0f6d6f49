//! Database faults during a request: a restart, a deadlock, slowness, half-open connections, and a proxy that closes idle connections.

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::{pause, wait_until};
use futures_util::future::{join, join_all};
use mysql_async::prelude::Queryable as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{number, scripted, until};
use crate::{id_of, run_script, script};

/// Longest wait until a statement waits for a lock.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// Fault 2: the database restarts between a request's read and its commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_read_and_commit_is_not_seen_by_the_visitor() {
    let server = Mariadb::start().await;
    let database = server.fresh_database().await;
    let gate = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gate.local_addr().unwrap();
    let keys = format!(
        "session = \"write\"\noutbound_hosts = [\"{address}\"]\nlimits = {{ deadline = \"120s\" }}"
    );
    let host = Config::over(&database.url)
        .guest_with("/s", "fixture-session", &keys)
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    // The guest waits for an answer, which the test sends when the database has restarted.
    let fetch = format!("fetch http://{address}/");
    let lines = ["get n", &fetch, "increment n 1"];
    let restart = async {
        let (mut asked, _) = gate.accept().await.unwrap();
        server.stop().await;
        server.start_again().await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        asked.write_all(answer).await.unwrap();
        // The connection must be read to its end before it is closed: unread bytes would reset it, and the answer would be lost.
        asked.shutdown().await.unwrap();
        asked.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (answer, ()) = join(run_script(&browser, &host, &lines), restart).await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, "1\n200\n2\n"),
        "{}",
        host.log()
    );

    // This time the server is killed and returns only after the commit was attempted. The answer is a 503, or the commit happened once.
    let lines = ["get n", "sleep 500", "increment n 1"];
    let before = operator.loads().await;
    let restart = async {
        operator.wait_for_loads(before + 1).await;
        server.kill().await;
        pause(Duration::from_millis(1500), "the commit meets the outage").await;
        server.start_again().await;
    };
    let (answer, ()) = join(run_script(&browser, &host, &lines), restart).await;
    let expected = match answer.status {
        200 => "3",
        503 => "2",
        other => panic!("{other}: {}", answer.text),
    };
    until(&host, "it recovers", async || {
        run_script(&browser, &host, &["get n"]).await.status == 200
    })
    .await;
    assert_eq!(script(&browser, &host, &["get n"]).await, [expected]);
}

/// Fault 7: a real deadlock whose victim is the host's statement. The host sends it again without another run of the guest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlocks_victim_is_sent_again_without_another_run() {
    let server = Mariadb::shared().await;
    let database = server.fresh_database().await;
    let host = scripted(&database.url).admin("").start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let id = id_of(&browser, &host);

    let mut other = server.admin().await;
    other
        .query_drop(format!("USE {}", database.name))
        .await
        .unwrap();
    for statement in [
        "CREATE TABLE taken (id INT PRIMARY KEY, n INT) ENGINE=InnoDB",
        "INSERT INTO taken VALUES (1, 0)",
        "CREATE TABLE weight (id INT PRIMARY KEY AUTO_INCREMENT, n INT) ENGINE=InnoDB",
        // Makes the host's statement hold the session's row and then request another row.
        "CREATE TRIGGER takes BEFORE UPDATE ON sessions FOR EACH ROW UPDATE taken SET n = n + 1 WHERE id = 1",
        "START TRANSACTION",
        // The server rolls back the transaction that has done less work.
        "INSERT INTO weight (n) SELECT seq FROM seq_1_to_1000",
        "UPDATE taken SET n = n + 1 WHERE id = 1",
    ] {
        other.query_drop(statement).await.unwrap();
    }
    let lock = async {
        let waits = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
             ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = '{}'",
            database.name
        );
        let mut looker = server.admin().await;
        wait_until("ours waits for the lock", LOCK_WAIT_MAX, async || {
            let waiting: Option<u64> = looker.query_first(&waits).await.unwrap();
            if waiting != Some(1) {
                // The server caches this table for a moment.
                pause(Duration::from_millis(200), "sooner queries return old data").await;
            }
            ensure!(waiting == Some(1), "{waiting:?} wait");
            Ok(())
        })
        .await;
        let select = "SELECT session_id FROM sessions WHERE session_id = ? FOR UPDATE";
        let locked: Option<String> = other.exec_first(select, (&id,)).await.unwrap();
        assert_eq!(locked, Some(id.clone()), "ours was rolled back");
        other.query_drop("COMMIT").await.unwrap();
    };
    let (answer, ()) = join(
        run_script(&browser, &host, &["get n", "increment n 1"]),
        lock,
    )
    .await;

    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, "1\n2\n"),
        "{}",
        host.log()
    );
    assert_eq!(script(&browser, &host, &["get n"]).await, ["2"]);
    let deadlocks = operator.metric("cloakroom_store_deadlocks_total").await;
    assert_eq!(deadlocks, Some(1.0));
    assert_eq!(
        operator.metric("cloakroom_session_reruns_total").await,
        Some(0.0)
    );
}

/// Fault 16: a store that takes most of a second for each statement. The number of waiting requests is bounded, further requests are
/// refused, and no visitor with a session is served without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_slow_store_excess_requests_are_refused_and_memory_is_bounded() {
    const VISITORS: usize = 400;
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let limits = "session = \"write\"\nlimits = { instances = 32, waiting = 64, wait = \"1s\" }";
    let host = Config::over(&database.url_through(proxy.port()))
        .guest_with("/s", "fixture-session", limits)
        .top("[log]\nlevel = \"error\"")
        .start();
    let visitors: Vec<_> = (0..VISITORS).map(|_| Browser::new()).collect();
    for some in visitors.chunks(20) {
        join_all(some.iter().map(|v| script(v, &host, &["set n 0"]))).await;
    }
    let before = host.resident_kib();
    proxy.disturb(Disturbance {
        loss: Loss::Late(Duration::from_millis(800)),
        prefix: String::new(),
        every: 1,
        times: u32::MAX,
    });
    let mut served = vec![0_u64; VISITORS];
    let mut refused = 0;
    for _ in 0..2 {
        let answers = join_all(
            visitors
                .iter()
                .map(|v| run_script(v, &host, &["increment n 1"])),
        )
        .await;
        for (served, answer) in served.iter_mut().zip(&answers) {
            match answer.status {
                200 => {
                    *served += 1;
                    // An increment answered with 503 may have been committed. An anonymous session would start at 1 each time.
                    assert!(number(&answer.text) >= *served, "{}", answer.text);
                }
                503 => {
                    refused += 1;
                    assert!(answer.header("retry-after").is_some());
                }
                other => panic!("{other}: {}", answer.text),
            }
        }
    }
    let grown = host.resident_kib().saturating_sub(before);
    eprintln!(
        "{} served, {refused} refused, {grown} KiB more",
        served.iter().sum::<u64>()
    );
    assert!(served.iter().sum::<u64>() > 0 && refused > 0);
    assert!(grown < 128 << 10, "grew by {grown} KiB");

    proxy.calm();
    until(&host, "it recovers", async || {
        run_script(&visitors[0], &host, &["get n"]).await.status == 200
    })
    .await;
    for some in visitors.iter().zip(&served).collect::<Vec<_>>().chunks(20) {
        join_all(some.iter().map(async |(visitor, served)| {
            let n = number(&script(visitor, &host, &["get n"]).await[0]);
            assert!((**served..=2).contains(&n), "{n} of {served} to 2");
        }))
        .await;
    }
}

/// Fault 17: the host gives up a half-open connection to a silent database within a bounded time, and probes idle connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_probed_and_a_dead_one_is_given_up() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port())).start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;

    // The kernel's table: local address, remote address, state 01 (established), timer 02 (keepalive).
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to_proxy = format!("0100007F:{:04X}", proxy.port());
    let links: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[2] == to_proxy && fields[3] == "01")
        .collect();
    assert!(!links.is_empty(), "{table}");
    for link in &links {
        assert!(link[5].starts_with("02:"), "no keepalive timer: {link:?}");
    }

    proxy.blackhole();
    let answer = run_script(&browser, &host, &["get n"]).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    // New connections work; the old ones stay silent forever.
    proxy.cut();
    proxy.forward().await;
    until(&host, "it recovers", async || {
        run_script(&browser, &host, &["get n"]).await.text == "1\n"
    })
    .await;
}

/// Fault 41: a proxy in front of the database that closes idle connections and forgets prepared statements causes no errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_drops_idle_connections_causes_no_error() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port())).start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 0"]).await;
    for round in 1..=10_u32 {
        proxy.cut();
        if round % 2 == 0 {
            proxy.disturb(Disturbance {
                loss: Loss::Forgotten,
                prefix: "UPDATE".into(),
                every: 1,
                times: 1,
            });
        }
        let lines = ["get n", "increment n 1"];
        let answer = run_script(&browser, &host, &lines).await;
        let expected = format!("{}\n{round}\n", round - 1);
        assert_eq!(
            (answer.status, answer.text),
            (200, expected),
            "{}",
            host.log()
        );
    }
    assert_eq!(proxy.losses(), 5, "statements were forgotten");
}

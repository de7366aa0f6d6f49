//! A session whose data makes its guest trap every time, and visitors that disconnect in each phase of a request.

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::{pause, wait_until};
use mysql_async::prelude::Queryable as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{number, scripted, until};
use crate::{id_of, run_script, script};

/// Fault 28: each request of such a session fails after one run, other sessions are unaffected, and an operator repairs it by deleting the
/// row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_makes_its_guest_trap_fails_alone_and_without_a_loop() {
    let server = Mariadb::shared().await;
    let database = server.fresh_database().await;
    let host = scripted(&database.url).admin("").start();
    let operator = Operator::of(&host);
    let (poisoned, healthy) = (Browser::new(), Browser::new());
    script(&healthy, &host, &["set n 1"]).await;
    script(&poisoned, &host, &["set bad 1"]).await;
    let runs = async || {
        operator
            .metric("cloakroom_session_runs_total")
            .await
            .unwrap()
    };
    let before = runs().await;
    let held = database.sessions().await;
    for _ in 0..30 {
        let answer = run_script(&poisoned, &host, &["set n 5", "trap-if bad"]).await;
        assert_eq!(answer.status, 500, "{}", answer.text);
        assert!(answer.set_cookies().is_empty());
    }
    #[expect(clippy::float_cmp, reason = "they count")]
    let is_one_each = runs().await - before == 30.0;
    assert!(
        is_one_each,
        "{} runs for 30 requests",
        runs().await - before
    );
    assert_eq!(database.sessions().await, held, "nothing was written");
    assert_eq!(
        script(&healthy, &host, &["trap-if bad", "get n"]).await,
        ["ok", "1"]
    );
    assert_eq!(operator.guest("fixture-session0").await["live"], 1);

    let id = id_of(&poisoned, &host);
    let mut admin = server.admin().await;
    let delete = format!(
        "DELETE FROM {}.sessions WHERE session_id = ?",
        database.name
    );
    admin.exec_drop(delete, (id,)).await.unwrap();
    assert_eq!(
        script(&poisoned, &host, &["trap-if bad", "get bad"]).await,
        ["ok", "none"]
    );
}

/// Longest wait until the count no longer changes.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Returns the count once it no longer changes: a commit completes even when its instance and its visitor are gone.
async fn settled(browser: &Browser, host: &Host) -> u64 {
    let count = async || number(&script(browser, host, &["get n"]).await[0]);
    wait_until("no commit is under way", SETTLE_TIME_MAX, async || {
        let before = count().await;
        pause(Duration::from_secs(2), "the count does not change").await;
        let now = count().await;
        ensure!(now == before);
        Ok(now)
    })
    .await
}

/// The time in which the host reads a part of a request.
const PART_TIME: Duration = Duration::from_millis(150);
/// The guest's instances in use, and the requests that wait for one.
const INSTANCES: &str = "cloakroom_guest_instances{guest=\"fixture-session0\"}";
const WAITERS: &str = "cloakroom_guest_instance_waiters{guest=\"fixture-session0\"}";

/// The phase of a request in which its visitor disconnects.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Connected,
    HalfHead,
    HalfBody,
    InTheQueue,
    InTheGuest,
    InTheCommit,
    InTheAnswer,
}

/// Fault 30: when a visitor disconnects, the commit happens or not, the instance is free again, and database connections return to their
/// pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_that_disconnects_in_any_phase_holds_no_resource() {
    use Phase::{Connected, HalfBody, HalfHead, InTheAnswer, InTheCommit, InTheGuest, InTheQueue};
    let server = Mariadb::shared().await;
    let database = server.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let limits = "session = \"write\"\nlimits = { instances = 8 }";
    let host = Config::over(&database.url_through(proxy.port()))
        .store("connection_limit = 4")
        .guest_with("/s", "fixture-session", limits)
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set n 0"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let mut held = 0;
    for phase in [
        Connected,
        HalfHead,
        HalfBody,
        InTheQueue,
        InTheGuest,
        InTheCommit,
        InTheAnswer,
    ] {
        let body = match phase {
            InTheQueue => "increment n 1\nsleep 300",
            InTheGuest => "increment n 1\nsleep 300",
            InTheAnswer => "increment n 1\nhead\nbody 8000000",
            _ => "increment n 1",
        };
        let (loads, disturbed) = (operator.loads().await, proxy.disturbances());
        if matches!(phase, InTheCommit) {
            proxy.disturb(Disturbance {
                loss: Loss::Late(Duration::from_millis(300)),
                prefix: "UPDATE".into(),
                every: 1,
                times: u32::MAX,
            });
        }
        let visitors: u64 = match phase {
            // More than the number of instances.
            InTheQueue => 24,
            _ => 4,
        };
        let mut streams = Vec::new();
        for _ in 0..visitors {
            let mut stream = TcpStream::connect(host.address()).await.unwrap();
            let request = format!(
                "POST /s HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let sent = match phase {
                Connected => 0,
                HalfHead => 20,
                HalfBody => request.len() - 5,
                _ => request.len(),
            };
            stream.write_all(&request.as_bytes()[..sent]).await.unwrap();
            streams.push(stream);
        }
        match phase {
            Connected | HalfHead | HalfBody => {
                pause(PART_TIME, "the host reads the part that was sent").await;
            }
            InTheQueue => {
                until(&host, "requests wait", async || {
                    operator.metric(WAITERS).await > Some(0.0)
                })
                .await;
            }
            InTheGuest => operator.wait_for_loads(loads + visitors).await,
            InTheCommit => proxy.wait_for_disturbances(disturbed + 1).await,
            InTheAnswer => {
                for stream in &mut streams {
                    let mut first = [0; 15];
                    stream.read_exact(&mut first).await.unwrap();
                    let line = String::from_utf8_lossy(&first);
                    assert_eq!(line, "HTTP/1.1 200 OK", "{}", host.log());
                }
            }
        }
        drop(streams);
        until(&host, "slots are free", async || {
            operator.metric(INSTANCES).await == Some(0.0)
                && operator.metric(WAITERS).await == Some(0.0)
        })
        .await;
        proxy.calm();
        // Each request took effect completely or not at all, and the next request succeeds.
        let now = settled(&browser, &host).await;
        eprintln!(
            "{phase:?}: {visitors} left, {} of their commits were made",
            now - held
        );
        match phase {
            Connected | HalfHead => assert_eq!(now, held, "{phase:?}"),
            HalfBody => assert_eq!(
                now, held,
                "{phase:?}: the guest cannot have read its script"
            ),
            // A released answer is committed.
            InTheAnswer => assert_eq!(now, held + visitors, "{phase:?}"),
            _ => assert!((held..=held + visitors).contains(&now), "{phase:?}: {now}"),
        }
        held = now;
        let links = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}'",
            database.name
        );
        let mut admin = server.admin().await;
        let links: u64 = admin.query_first(links).await.unwrap().unwrap();
        assert!(links <= 4, "{phase:?}: {links} links to the database");
    }
}

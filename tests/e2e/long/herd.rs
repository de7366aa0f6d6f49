//! Faults 20 and 21: 100,000 visitors return at once after a restart, and a million sessions expire at once while another session is in
//! use.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cloakroom_session::cookie::{KeyRing, Secret};
use cloakroom_session::record::SessionId;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::{Config, SECRET};
use cloakroom_tests::mariadb::{Database, Mariadb};
use cloakroom_tests::wait::{pause, wait_until};
use mysql_async::prelude::Queryable as _;

use crate::script;

/// With this deadline even late requests are answered, also on a slow machine.
const PATIENT: &str = "session = \"write\"\nlimits = { deadline = \"120s\" }";

/// Inserts sessions that this host has not seen, each with its number as its content. Returns their cookies.
pub(crate) async fn cold_sessions(
    server: &Mariadb,
    database: &Database,
    count: usize,
) -> Vec<String> {
    let ring = KeyRing::new(vec![Secret::new(SECRET.into())]).unwrap();
    let mut admin = server.admin().await;
    let mut cookies = Vec::with_capacity(count);
    for first in (0..count).step_by(1_000) {
        let rows: Vec<_> = (first..count.min(first + 1_000))
            .map(|n| {
                let id = SessionId::generate();
                cookies.push(format!("connect.sid={}", ring.sign(&id)));
                let data = r#"{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}"#;
                format!("('{}', 4000000000, '{data},\"n\":{n}}}')", id.as_str())
            })
            .collect();
        let insert = format!(
            "INSERT INTO {}.sessions (session_id, expires, data) VALUES {}",
            database.name,
            rows.join(",")
        );
        admin.query_drop(insert).await.unwrap();
    }
    cookies
}

/// Checks that every visitor reads its own session, and that visitors share statements: there are far fewer statements than requests.
pub(crate) async fn all_come_at_once(count: usize, at_once: usize) {
    let server = Mariadb::shared().await;
    let database = server.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .top("[log]\nlevel = \"error\"")
        .guest_with("/s", "fixture-session", PATIENT)
        .store("clear_expired = false")
        .start();
    let cookies = cold_sessions(server, &database, count).await;
    proxy.disturb(Disturbance {
        loss: Loss::Late(Duration::ZERO),
        prefix: "SELECT".into(),
        every: 1,
        times: u32::MAX,
    });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let start = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let visitors = (0..at_once).map(async |_| {
        loop {
            let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(cookie) = cookies.get(n) else { return };
            let request = client
                .post(host.url("/s"))
                .header("cookie", cookie)
                .body("get n");
            let answer = request.send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!((status.as_u16(), text), (200, format!("{n}\n")));
        }
    });
    futures_util::future::join_all(visitors).await;
    let statements = proxy.losses() as usize;
    eprintln!(
        "{count} cold sessions in {:?} by {statements} statements",
        start.elapsed()
    );
    assert!(
        statements < count / 2,
        "{statements} statements for {count} sessions"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_cold_sessions_at_a_restart_are_read_together() {
    all_come_at_once(100_000, 250).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_sessions_that_expire_at_once_do_not_delay_requests() {
    let server = Mariadb::start_with(&["--innodb-buffer-pool-size=512M"]).await;
    let database = server.fresh_database().await;
    let config = Config::over(&database.url)
        .store("check_expiration_interval = \"1s\"")
        .guest("/s", "fixture-session");
    let host = config.start();
    let mut admin = server.admin().await;
    // The sequence's table is resolved in the current database.
    let select = format!("USE {}", database.name);
    admin.query_drop(select).await.unwrap();
    let insert = format!(
        "INSERT INTO {}.sessions (session_id, expires, data) SELECT MD5(seq), 1000000000, '{{\"cookie\":{{}},\"n\":1}}' \
         FROM seq_1_to_1000000",
        database.name
    );
    admin.query_drop(insert).await.unwrap();
    let first = Browser::new();
    script(&first, &host, &["set n 0"]).await;
    let cookie = first.cookies(&host.url("/")).unwrap();
    let count_due = format!(
        "SELECT COUNT(*) FROM {}.sessions WHERE expires = 1000000000",
        database.name
    );
    let mut waits = Vec::new();
    let mut n = 0;
    let time_max = Duration::from_secs(1_800);
    wait_until("no ended row is left", time_max, async || {
        // A new connection each time: counting the rows may take longer than a connection may be idle.
        let browser = Browser::with_cookie(&host.url("/"), &cookie);
        for _ in 0..200 {
            let asked_at = Instant::now();
            n += 1;
            assert_eq!(
                script(&browser, &host, &["increment n 1"]).await,
                [n.to_string()]
            );
            waits.push(asked_at.elapsed());
        }
        let due: u64 = admin.query_first(&count_due).await.unwrap().unwrap();
        if due > 0 {
            pause(Duration::from_secs(1), "the database does not only count").await;
        }
        ensure!(due == 0, "{due} rows are left");
        Ok(())
    })
    .await;
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    eprintln!(
        "{} visits while a million rows went, p99 {p99:?}",
        waits.len()
    );
    // A request takes milliseconds, so this leaves a wide margin for a slow machine.
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}");
    assert_eq!(
        database.sessions().await.len(),
        1,
        "the visitor's own is left"
    );
}

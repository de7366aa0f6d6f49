//! Several hosts over one table: replaced in turn behind a load balancer, of two releases, and three under heavy contention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::nginx::Nginx;
use cloakroom_tests::port::Port;
use cloakroom_tests::wait::pause;
use futures_util::future::join_all;
use mysql_async::prelude::Queryable as _;

use super::{number, scripted};
use crate::{run_script, script};

/// Fault 24: two hosts behind a load balancer are restarted in turn under load. No visitor sees an error, and each count is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_a_balancer_fails_no_request() {
    const VISITORS: usize = 12;
    const LOAD: Duration = Duration::from_millis(300);
    let database = Mariadb::shared().await.fresh_database().await;
    let kept = [Port::free(), Port::free()];
    let ports = kept.each_ref().map(Port::number);
    let start = |n: usize| {
        Config::over(&database.url)
            .env("CLOAKROOM_LISTEN", &format!("127.0.0.1:{}", ports[n]))
            .top("[log]\nlevel = \"info,cloakroom::access=off\"")
            .guest("/session", "counter")
            .start()
    };
    let mut hosts = [start(0), start(1)];
    let nginx = Nginx::start(
        &format!(
            "upstream hosts {{ server 127.0.0.1:{} max_fails=0; server 127.0.0.1:{} max_fails=0; }}",
            ports[0], ports[1]
        ),
        "location / { proxy_pass http://hosts; proxy_next_upstream error; proxy_http_version 1.1; }",
    );
    let is_over = Arc::new(AtomicBool::new(false));
    // Separate tasks, because starting a host blocks this one.
    let visits: Vec<_> = (0..VISITORS)
        .map(|_| tokio::spawn(visit(nginx.url("/session"), Arc::clone(&is_over))))
        .collect();
    for round in 0..4 {
        let n = round % 2;
        hosts[n].signal("TERM");
        let status = hosts[n].ended(Duration::from_secs(35)).await;
        assert!(status.success(), "{}", hosts[n].log());
        pause(LOAD, "the other host serves all visitors").await;
        hosts[n] = tokio::task::block_in_place(|| start(n));
        pause(LOAD, "both hosts serve").await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut total = 0;
    for visit in visits {
        let count = visit
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", nginx.log()));
        assert!(count > 4, "{count} visits");
        total += count;
    }
    eprintln!("{total} visits while hosts were replaced");
}

/// Counts visits until `is_over`. Each answer must contain the number of the visit. Returns the count.
async fn visit(url: String, is_over: Arc<AtomicBool>) -> u64 {
    let visitor = Browser::new();
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        let answer = visitor.get(&url).await;
        count += 1;
        assert_eq!(
            (answer.status, answer.text),
            (200, format!("{count}번 접속"))
        );
    }
    count
}

/// Fault 25: one host does not know Cloakroom's extra columns (it started before they were added and compares only the data), and another
/// host adds them. Both serve the same sessions, and neither loses a write of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_from_before_our_columns_and_one_that_adds_them_share_their_sessions() {
    let server = Mariadb::shared().await;
    let database = server.fresh_database().await;
    let mut admin = server.admin().await;
    let express = format!(
        "CREATE TABLE {}.sessions (session_id VARCHAR(128) COLLATE utf8mb4_bin NOT NULL, expires INT(11) UNSIGNED NOT NULL, \
         data MEDIUMTEXT COLLATE utf8mb4_bin, PRIMARY KEY (session_id)) ENGINE=InnoDB",
        database.name
    );
    admin.query_drop(express).await.unwrap();
    let old = scripted(&database.url).start();
    let before = Browser::new();
    script(&before, &old, &["set n 0", "set from \"old\""]).await;

    let new = scripted(&database.url).store("alter_table = true").start();
    let columns = database.columns("sessions").await;
    assert!(
        columns.contains(&"cloakroom_token".to_owned()),
        "{columns:?}"
    );
    let after = Browser::new();
    script(&after, &new, &["set n 0", "set from \"new\""]).await;

    for (visitor, host, from) in [(&before, &old, "\"old\""), (&after, &new, "\"new\"")] {
        let cookie = visitor.cookies(&host.url("/")).unwrap();
        let twins = [&old, &new].map(|host| (host, Browser::with_cookie(&host.url("/"), &cookie)));
        for (host, twin) in &twins {
            assert_eq!(script(twin, host, &["get from"]).await, [from]);
        }
        let sums = join_all((0..60).map(async |n| {
            let (host, twin) = &twins[n % 2];
            let answer = run_script(twin, host, &["increment n 1"]).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            number(&answer.text)
        }))
        .await;
        let mut sorted = sums;
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            (1..=60).collect::<Vec<_>>(),
            "each sum was given once"
        );
        // The new host sees a logout on the old one and does not undo it.
        script(&twins[0].1, twins[0].0, &["destroy"]).await;
        let replay = Browser::with_cookie(&new.url("/"), &cookie);
        assert_eq!(script(&replay, &new, &["get n"]).await, ["none"]);
    }
    assert!(database.sessions().await.is_empty());
}

/// Fault 29: three hosts and 200 concurrent increments of one session, repeatedly. Each increment is counted once, and the number of guest
/// runs is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_three_hosts_counts_each_request_once() {
    const CLIENTS: usize = 200;
    const ROUNDS: usize = 3;
    let database = Mariadb::shared().await.fresh_database().await;
    let config = scripted(&database.url)
        .admin("")
        .session("[session.limits]\nslot_waiters = 256")
        .top("[log]\nlevel = \"error\"");
    let hosts = [config.start(), config.start(), config.start()];
    let browser = Browser::new();
    script(&browser, &hosts[0], &["set n 0"]).await;
    let cookie = browser.cookies(&hosts[0].url("/")).unwrap();
    let mut sums = Vec::new();
    for _ in 0..ROUNDS {
        let answers = join_all((0..CLIENTS).map(async |n| {
            let host = &hosts[n % 3];
            let twin = Browser::with_cookie(&host.url("/"), &cookie);
            run_script(&twin, host, &["increment n 1"]).await
        }))
        .await;
        for answer in answers {
            assert_eq!(answer.status, 200, "{}", answer.text);
            sums.push(number(&answer.text));
        }
    }
    sums.sort_unstable();
    let expected: Vec<_> = (1..=(CLIENTS * ROUNDS) as u64).collect();
    assert_eq!(sums, expected, "each sum was given once");
    let mut runs = 0.0;
    for host in &hosts {
        runs += total(host, "cloakroom_session_runs_total").await;
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let requests = (CLIENTS * ROUNDS) as f64;
    eprintln!("{runs} runs for {requests} requests");
    assert!(runs < requests * 6.0, "{runs} runs for {requests} requests");
}

async fn total(host: &Host, series: &str) -> f64 {
    Operator::of(host).metric(series).await.unwrap()
}

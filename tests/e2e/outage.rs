//! Failures of the store: sessions are refused and never invented, other requests are served, and the host recovers by itself.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::wait_until;
use futures_util::future::join_all;

use crate::{run_script, script};

/// Longest time until a host serves sessions again once its database does.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_store_refuses_sessions_and_nothing_else() {
    let server = Mariadb::start().await;
    let database = server.fresh_database().await;
    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .guest_with("/hello", "fixture-hello", "")
        .guest("/faults", "fixture-faults")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;

    server.stop().await;
    for lines in [
        &["get n"][..],
        &["set n 2"],
        &["get n", "status 204"],
        &["destroy"],
        &["save"],
    ] {
        let start = Instant::now();
        let answer = run_script(&browser, &host, lines).await;
        assert_eq!(answer.status, 503, "{lines:?}: {}", answer.text);
        assert!(answer.header("retry-after").is_some(), "{lines:?}");
        assert!(answer.set_cookies().is_empty(), "{lines:?}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{lines:?} took {:?}",
            start.elapsed()
        );
        assert!(
            !answer.text.contains("127.0.0.1") && !answer.text.contains("sessions"),
            "{}",
            answer.text
        );
    }
    assert_eq!(
        browser.get(&host.url("/hello")).await.text,
        "hello\n",
        "a guest without sessions"
    );
    assert_eq!(
        browser.get(&host.url("/faults/x")).await.status,
        200,
        "a request that makes no session call"
    );
    assert_eq!(
        script(&Browser::new(), &host, &["get n"]).await,
        ["none"],
        "a visitor without a session, only reading"
    );
    assert_eq!(
        run_script(&Browser::new(), &host, &["set n 1"])
            .await
            .status,
        503,
        "a visitor without a session, writing"
    );

    server.start_again().await;
    let text = recovered(&browser, &host).await;
    assert_eq!(text, "1\n", "nothing was changed");
}

/// Repeats a read until the host answers it. Returns the text of the answer.
async fn recovered(browser: &Browser, host: &Host) -> String {
    wait_until("the host recovers", RECOVERY_TIME_MAX, async || {
        let answer = run_script(browser, host, &["get n"]).await;
        assert!([200, 503].contains(&answer.status), "{}", answer.text);
        ensure!(answer.status == 200, "{}", host.log());
        Ok(answer.text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_is_answered_within_the_deadline() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    proxy.blackhole();
    let start = Instant::now();
    let answer = run_script(&browser, &host, &["increment n 1"]).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
    );
    proxy.forward().await;
    recovered(&browser, &host).await;
    assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_decided_by_the_commit_token() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 0"]).await;
    proxy.disturb(Disturbance {
        loss: Loss::Reply,
        prefix: "UPDATE".into(),
        every: 2,
        times: 20,
    });
    let mut counted = 0;
    for _ in 0..40 {
        let answer = run_script(&browser, &host, &["increment n 1"]).await;
        match answer.status {
            200 => counted += 1,
            503 => {}
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert!(
        proxy.losses() >= 15,
        "replies were lost: {}",
        proxy.losses()
    );
    proxy.calm();
    let value: usize = script(&browser, &host, &["get n"]).await[0]
        .parse()
        .unwrap();
    assert_eq!(value, 40, "{counted} of 40 answered 200");
    assert_eq!(counted, 40, "every lost reply was decided");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lost_reply_of_batched_commits_is_decided() {
    const VISITORS: usize = 24;
    const VISITS: usize = 10;
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    // Few connections, so that commits wait for each other.
    let host = Config::over(&database.url_through(proxy.port()))
        .store("connection_limit = 2")
        .guest("/s", "fixture-session")
        .start();
    let visitors: Vec<_> = (0..VISITORS).map(|_| Browser::new()).collect();
    join_all(visitors.iter().map(|v| script(v, &host, &["set n 0"]))).await;
    for (round, loss) in [Loss::Reply, Loss::Request].into_iter().enumerate() {
        proxy.disturb(Disturbance {
            loss,
            prefix: "UPDATE".into(),
            every: 3,
            times: 20,
        });
        join_all(visitors.iter().map(async |visitor| {
            for _ in 0..VISITS {
                let answer = run_script(visitor, &host, &["increment n 1"]).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
        }))
        .await;
        proxy.calm();
        let counted = ((round + 1) * VISITS).to_string();
        for visitor in &visitors {
            assert_eq!(script(visitor, &host, &["get n"]).await, [&*counted]);
        }
    }
    assert!(proxy.losses() >= 20, "{} were lost", proxy.losses());
}

/// Fault 1 in the log: one line when the store starts to fail and one when it answers again, however many requests fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_logged_at_its_start_and_end_and_not_per_request() {
    let server = Mariadb::start().await;
    let database = server.fresh_database().await;
    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let before = host.log().len();
    server.stop().await;
    let mut refused = 0;
    for _ in 0..30 {
        let answers = (0..20).map(|_| run_script(&browser, &host, &["get n"]));
        let answers = join_all(answers).await;
        refused += answers.iter().filter(|a| a.status == 503).count();
    }
    assert!(refused >= 500, "{refused} of 600 met the outage");
    server.start_again().await;
    wait_until(
        "the log tells the end",
        Duration::from_secs(30),
        async || {
            run_script(&browser, &host, &["get n"]).await;
            let count_of = host.log_count("the session store answers again");
            ensure!(count_of > 0, "{}", host.log());
            Ok(())
        },
    )
    .await;
    let log = host.log().split_off(before);
    let count_of = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    // A database that is still starting may fail once more.
    assert!(
        (1..=2).contains(&count_of("the session store fails")),
        "{log}"
    );
    assert!(log.contains("failed_calls="), "{log}");
    // The access log has a line for each request, with its client.
    let others = log.lines().filter(|line| !line.contains("peer=")).count();
    assert!(
        others <= 20,
        "{others} lines other than the access log:\n{log}"
    );
}

//! Two hosts, one MariaDB, one session, 64 clients: no update is lost, and a logout in the middle stays in effect.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::{Database, Mariadb};

use crate::{run_script, script};

const CLIENTS: usize = 64;
const REQUESTS_EACH: usize = 50;
const STORM_MAX: Duration = Duration::from_secs(300);

async fn two_hosts(database: &Database) -> (Host, Host) {
    let config = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .guest("/session", "counter")
        .admin("");
    (config.start(), config.start())
}

/// Creates a session and returns its cookie as `name=value`.
async fn session_on(host: &Host) -> String {
    let browser = Browser::new();
    script(&browser, host, &["set n 0"]).await;
    browser.cookies(&host.url("/")).expect("a cookie was set")
}

/// Runs `request` [`REQUESTS_EACH`] times for each of [`CLIENTS`] clients of one session, half of them on each host.
async fn storm<F>(
    hosts: [&Host; 2],
    cookie: &str,
    request: impl Fn(Browser, String) -> F,
) -> Vec<(u16, String)>
where
    F: Future<Output = (u16, String)>,
{
    let start = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let host = hosts[client % 2];
        let browser = Browser::with_cookie(&host.url("/"), cookie);
        let request = &request;
        async move {
            let mut answers = Vec::new();
            for _ in 0..REQUESTS_EACH {
                answers.push(request(browser.clone(), host.url("")).await);
            }
            answers
        }
    });
    let answers: Vec<_> = futures_util::future::join_all(clients)
        .await
        .into_iter()
        .flatten()
        .collect();
    let took = start.elapsed();
    eprintln!(
        "{} requests on one session over two hosts in {took:?}",
        answers.len()
    );
    assert!(took < STORM_MAX, "the storm took {took:?}");
    answers
}

async fn all_are_counted(operation: &str) -> Vec<String> {
    let database = Mariadb::shared().await.fresh_database().await;
    let (one, two) = two_hosts(&database).await;
    let cookie = session_on(&one).await;
    let answers = storm([&one, &two], &cookie, |browser, host| async move {
        let answer = browser
            .post(&format!("{host}/s"), operation.to_owned())
            .await;
        (answer.status, answer.text.trim().to_owned())
    })
    .await;
    let failed: Vec<_> = answers
        .iter()
        .filter(|(status, _)| *status != 200)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:?}",
        failed.len(),
        answers.len(),
        failed.first()
    );
    let reader = Browser::with_cookie(&one.url("/"), &cookie);
    let total = CLIENTS * REQUESTS_EACH;
    assert_eq!(script(&reader, &one, &["get n"]).await, [total.to_string()]);
    answers.into_iter().map(|(_, text)| text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_of_one_session_over_two_hosts_are_all_kept() {
    let sums: BTreeSet<_> = all_are_counted("increment n 1").await.into_iter().collect();
    assert_eq!(
        sums.len(),
        CLIENTS * REQUESTS_EACH,
        "each sum was returned once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn additions_to_one_session_over_two_hosts_are_all_kept() {
    all_are_counted("add n 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_and_set_of_one_session_over_two_hosts_lose_nothing() {
    let database = Mariadb::shared().await.fresh_database().await;
    let (one, two) = two_hosts(&database).await;
    let browser = Browser::new();
    assert_eq!(browser.get(&one.url("/session")).await.text, "1번 접속");
    let cookie = browser.cookies(&one.url("/")).unwrap();
    let answers = storm([&one, &two], &cookie, |browser, host| async move {
        let answer = browser.get(&format!("{host}/session")).await;
        (answer.status, answer.text)
    })
    .await;
    let texts: BTreeSet<_> = answers
        .iter()
        .filter(|(status, _)| *status == 200)
        .map(|(_, text)| text.clone())
        .collect();
    let expected: BTreeSet<_> = (2..=CLIENTS * REQUESTS_EACH + 1)
        .map(|n| format!("{n}번 접속"))
        .collect();
    let refused = answers.iter().filter(|(status, _)| *status != 200).count();
    assert_eq!(refused, 0, "every request was answered 200");
    assert!(texts == expected, "each number was answered once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_during_concurrent_writes_is_not_undone() {
    let database = Mariadb::shared().await.fresh_database().await;
    let (one, two) = two_hosts(&database).await;
    let cookie = session_on(&one).await;
    // Every request has read the session before the logout and writes after it.
    let clients = (0..CLIENTS).map(|client| {
        let host = [&one, &two][client % 2];
        let browser = Browser::with_cookie(&host.url("/"), &cookie);
        let lines = ["get n", "sleep 700", "increment n 1"];
        async move { run_script(&browser, host, &lines).await }
    });
    let logout = async {
        for host in [&one, &two] {
            let half = CLIENTS as u64 / 2;
            Operator::of(host).wait_for_loads(half).await;
        }
        run_script(
            &Browser::with_cookie(&two.url("/"), &cookie),
            &two,
            &["destroy"],
        )
        .await
    };
    let (answers, logged_out) =
        futures_util::future::join(futures_util::future::join_all(clients), logout).await;
    assert_eq!(logged_out.status, 200, "{}", logged_out.text);
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(
            answer.text, "none\nok\n1\n",
            "it ran again without a session"
        );
        assert!(
            answer.set_cookies().is_empty(),
            "{:?}",
            answer.set_cookies()
        );
    }
    assert_eq!(
        database.sessions().await.len(),
        0,
        "the old row is gone and no new one came"
    );
    let late = Browser::with_cookie(&one.url("/"), &cookie);
    assert_eq!(script(&late, &one, &["get n"]).await, ["none"]);
}

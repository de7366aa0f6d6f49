//! One suite for the counter in every language and on every store: all counters behave identically.
//!
//! A counter answers `GET /session` with the number of this visitor's visits, stores the number under `num`, and ends the session at
//! `/session/delete`. It reads and writes in two calls, so concurrent requests must run again.

use std::collections::BTreeSet;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use reqwest::Method;

use crate::sqlite_rows;

/// The number of concurrent clients of one session, and the requests of each.
const CLIENTS: usize = 8;
const REQUESTS_EACH: usize = 12;

/// The store of a counter's sessions.
#[derive(Clone, Copy)]
enum Store {
    Memory,
    Sqlite,
    Mysql,
}

/// Runs the whole suite for one counter on one store.
async fn counts_like_every_other(component: &str, store: Store) {
    let url = match store {
        Store::Memory => "memory:".to_owned(),
        Store::Sqlite => "sqlite:sessions.sqlite".to_owned(),
        Store::Mysql => Mariadb::shared().await.fresh_database().await.url,
    };
    let config = Config::over(&url).guest("/", component);
    let host = config.start();
    visitors_are_counted_apart(&host).await;
    a_logout_starts_anew(&host).await;
    a_head_request_counts(&host).await;
    let number = match store {
        Store::Memory | Store::Sqlite => parallel_requests_lose_nothing([&host, &host]).await,
        // Two hosts contend for the rows in the database.
        Store::Mysql => parallel_requests_lose_nothing([&host, &config.start()]).await,
    };
    if let Store::Sqlite = store {
        let rows = sqlite_rows(&host.directory.path().join("sessions.sqlite"));
        let kept = format!(",\"num\":{number}}}");
        assert!(
            rows.iter().any(|(_, _, data)| data.ends_with(&kept)),
            "the number is kept under `num`: {rows:?}"
        );
    }
}

async fn visitors_are_counted_apart(host: &Host) {
    let (anna, bela) = (Browser::new(), Browser::new());
    for n in 1..=3 {
        let answer = anna.get(&host.url("/session")).await;
        assert_eq!(
            (answer.status, answer.text),
            (200, format!("{n}번 접속")),
            "{}",
            host.log()
        );
    }
    assert_eq!(bela.get(&host.url("/session")).await.text, "1번 접속");
}

async fn a_logout_starts_anew(host: &Host) {
    let anna = Browser::new();
    anna.get(&host.url("/session")).await;
    let stale = anna.cookies(&host.url("/")).expect("a cookie was set");
    let out = anna.get(&host.url("/session/delete")).await;
    assert_eq!(
        (out.status, out.header("location")),
        (302, Some("/session"))
    );
    assert_eq!(anna.cookies(&host.url("/")), None, "the cookie is expired");
    assert_eq!(anna.get(&host.url("/session")).await.text, "1번 접속");
    let thief = Browser::with_cookie(&host.url("/"), &stale);
    assert_eq!(thief.get(&host.url("/session")).await.text, "1번 접속");
}

async fn a_head_request_counts(host: &Host) {
    let anna = Browser::new();
    anna.get(&host.url("/session")).await;
    let head = anna.try_send(Method::HEAD, &host.url("/session"), "").await;
    let head = head.expect("an answer");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(anna.get(&host.url("/session")).await.text, "3번 접속");
}

/// Checks that each number is answered once. Returns the last one.
async fn parallel_requests_lose_nothing(hosts: [&Host; 2]) -> usize {
    let first = Browser::new();
    first.get(&hosts[0].url("/session")).await;
    let cookie = first.cookies(&hosts[0].url("/")).expect("a cookie was set");
    let clients = (0..CLIENTS).map(|client| {
        let host = hosts[client % 2];
        let browser = Browser::with_cookie(&host.url("/"), &cookie);
        async move {
            let mut texts = Vec::new();
            for _ in 0..REQUESTS_EACH {
                let answer = browser.get(&host.url("/session")).await;
                assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
                texts.push(answer.text);
            }
            texts
        }
    });
    let clients = futures_util::future::join_all(clients).await;
    let texts: BTreeSet<_> = clients.into_iter().flatten().collect();
    let last = CLIENTS * REQUESTS_EACH + 1;
    let expected: BTreeSet<_> = (2..=last).map(|n| format!("{n}번 접속")).collect();
    assert_eq!(texts, expected);
    last
}

/// Defines a test for a counter on each store.
macro_rules! counters {
    ($($name:ident: $component:literal,)*) => {$(
        mod $name {
            use super::{Store, counts_like_every_other};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn visits_are_counted_in_memory() {
                counts_like_every_other($component, Store::Memory).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn visits_are_counted_on_sqlite() {
                counts_like_every_other($component, Store::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn visits_are_counted_on_mysql() {
                counts_like_every_other($component, Store::Mysql).await;
            }
        }
    )*};
}

counters! {
    rust: "counter",
    rust_of_the_newer_world: "counter-service",
    javascript_on_quickjs: "counter-js",
    javascript_on_starlingmonkey: "counter-js-starlingmonkey",
    python: "counter-python",
}

//! The classic: a counter per visitor on every store and across crashes, and cookies that are not the host's.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;

use crate::sqlite_rows;

fn counter(url: &str) -> Config {
    Config::over(url).guest("/", "counter")
}

/// Checks that two browsers count separately, and that the count restarts after `/session/delete`.
async fn counts_per_browser(config: Config) {
    let host = config.start();
    let (anna, bela) = (Browser::new(), Browser::new());
    for n in 1..=3 {
        assert_eq!(
            anna.get(&host.url("/session")).await.text,
            format!("{n}번 접속")
        );
    }
    assert_eq!(bela.get(&host.url("/session")).await.text, "1번 접속");

    let deleted = anna.get(&host.url("/session/delete")).await;
    assert_eq!(
        (deleted.status, deleted.header("location")),
        (302, Some("/session"))
    );
    let cookies = deleted.set_cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert!(
        cookies[0].contains("Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        "{cookies:?}"
    );
    assert_eq!(
        anna.cookies(&host.url("/session")),
        None,
        "the browser dropped the cookie"
    );

    assert_eq!(anna.get(&host.url("/session")).await.text, "1번 접속");
    assert_eq!(bela.get(&host.url("/session")).await.text, "2번 접속");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counter_counts_per_browser_in_memory() {
    counts_per_browser(counter("memory:")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counter_counts_per_browser_on_sqlite() {
    counts_per_browser(counter("sqlite:sessions.sqlite")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counter_counts_per_browser_on_mysql() {
    let database = Mariadb::shared().await.fresh_database().await;
    counts_per_browser(counter(&database.url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counter_counts_per_browser_in_the_newer_world() {
    counts_per_browser(Config::over("memory:").guest("/", "counter-service")).await;
}

/// Kills the host, starts another one on the same store, and checks that the cookie is still valid.
async fn survives_a_kill(config: &Config, restart: impl FnOnce(Host) -> Host) {
    let mut host = config.start();
    let browser = Browser::new();
    for _ in 0..5 {
        browser.get(&host.url("/session")).await;
    }
    let cookie = browser.cookies(&host.url("/")).expect("a cookie was set");
    host.kill();
    let host = restart(host);
    let same = Browser::with_cookie(&host.url("/"), &cookie);
    assert_eq!(same.get(&host.url("/session")).await.text, "6번 접속");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_kill_9_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sessions.sqlite");
    let config = counter(&format!("sqlite:{}", file.display()));
    survives_a_kill(&config, |_| config.start()).await;
    assert_eq!(sqlite_rows(&file).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_survive_kill_9_on_mysql() {
    let database = Mariadb::shared().await.fresh_database().await;
    let config = counter(&database.url);
    survives_a_kill(&config, |_| config.start()).await;
    assert_eq!(database.sessions().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_the_session_deletes_its_row() {
    let host = counter("sqlite:sessions.sqlite").start();
    let file = host.directory.path().join("sessions.sqlite");
    let browser = Browser::new();
    browser.get(&host.url("/session")).await;
    assert_eq!(sqlite_rows(&file).len(), 1);
    browser.get(&host.url("/session/delete")).await;
    assert_eq!(sqlite_rows(&file), []);
}

/// Returns variants of one of the host's cookies, none of which the host may accept.
fn not_ours(cookie: &str) -> Vec<(&'static str, String)> {
    let (name, value) = cookie.split_once('=').expect("name=value");
    let (id, signature) = value.split_once('.').expect("a signed value");
    let bare = id.trim_start_matches("s%3A");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    vec![
        ("forged", format!("{name}={id}.{other}{}", &signature[1..])),
        ("truncated", format!("{name}={}", &value[..value.len() - 1])),
        ("padded", format!("{name}={value}%3D")),
        ("unsigned", format!("{name}={bare}")),
        ("without a signature", format!("{name}={id}.")),
        (
            "another id",
            format!("{name}=s%3A{}.{signature}", "A".repeat(32)),
        ),
        (
            "base64url",
            format!(
                "{name}={}",
                value.replace("%2B", "-").replace("%2F", "_") + "-"
            ),
        ),
        ("under another name", format!("X{name}={value}")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_that_is_not_ours_is_a_new_visitor() {
    let host = counter("memory:").start();
    let browser = Browser::new();
    browser.get(&host.url("/session")).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    for (what, fake) in not_ours(&cookie) {
        let stranger = Browser::with_cookie(&host.url("/"), &fake);
        assert_eq!(
            stranger.get(&host.url("/session")).await.text,
            "1번 접속",
            "{what}"
        );
    }
    let foreign = Config::over("memory:")
        .guest("/", "counter")
        .env("COOKIE_SECRET", "another secret, as long as it must be")
        .start();
    let stranger = Browser::with_cookie(&foreign.url("/"), &cookie);
    assert_eq!(
        stranger.get(&foreign.url("/session")).await.text,
        "1번 접속",
        "signed with a foreign secret"
    );
    assert_eq!(
        browser.get(&host.url("/session")).await.text,
        "2번 접속",
        "the session itself is untouched"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_that_is_not_ours_costs_no_store_query() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .guest("/s", "fixture-session")
        .start();
    let browser = Browser::new();
    crate::script(&browser, &host, &["set a 1"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();

    proxy.refuse().await;
    assert_eq!(
        crate::run_script(&browser, &host, &["get a"]).await.status,
        503,
        "the store is out of reach"
    );
    for (what, fake) in not_ours(&cookie) {
        let stranger = Browser::with_cookie(&host.url("/"), &fake);
        assert_eq!(
            crate::script(&stranger, &host, &["get a"]).await,
            ["none"],
            "{what}"
        );
    }
}

//! The limits of sessions: late writes, insecure connections, duplicate cookies, size limits, and effects that cannot be undone.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};

use crate::sessions::{config, cookies, rows};
use crate::{id_of, script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_after_the_release_is_an_error_and_creates_no_row() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = config().guest("/f", component).start();
        let late = Browser::new().get(&host.url("/f/late-write")).await;
        assert_eq!(late.status, 200);
        assert!(late.text.contains("error committed"), "{component}");
        assert_eq!(rows(&host), [], "{component}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secure_cookie_over_plain_http_makes_neither_cookie_nor_row() {
    let host = config().session("cookie = { secure = true }").start();
    assert_eq!(cookies(&Browser::new(), &host, &["set a 1"]).await, (0, 0));
    assert_eq!(rows(&host), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_protocols_count_only_from_trusted_proxies() {
    let secure = async |host: &Host| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client
            .post(host.url("/s"))
            .header("x-forwarded-proto", "https")
            .body("set a 1");
        let answer = request.send().await.unwrap();
        answer
            .headers()
            .get("set-cookie")
            .is_some_and(|c| c.to_str().unwrap().contains("; Secure"))
    };
    let trusting = config()
        .session("proxy = true\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .start();
    assert!(secure(&trusting).await);
    let elsewhere = config()
        .session("proxy = true\ntrusted_proxies = [\"10.0.0.0/8\"]")
        .start();
    assert!(!secure(&elsewhere).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_different_valid_cookies_are_no_session() {
    let host = config().start();
    let (one, two) = (Browser::new(), Browser::new());
    script(&one, &host, &["set a 1"]).await;
    script(&two, &host, &["set a 2"]).await;
    let cookie = |b: &Browser| b.cookies(&host.url("/")).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |header: String| {
        let request = client
            .post(host.url("/s"))
            .header("cookie", header)
            .body("get a");
        request.send().await.unwrap().text().await.unwrap()
    };
    assert_eq!(
        ask(format!("{}; {}", cookie(&one), cookie(&two))).await,
        "none\n"
    );
    assert_eq!(
        ask(format!("connect.sid=s%3Aevil.x; {}", cookie(&two))).await,
        "2\n",
        "the valid one of two"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_a_session_are_errors_that_lose_nothing() {
    let host = config().guest("/f", "fixture-faults").start();
    let browser = Browser::new();
    let big = format!("set big \"{}\"", "x".repeat(70_000));
    let lines = script(&browser, &host, &["set a 1", &big, "get a"]).await;
    assert_eq!([&lines[0], &lines[2]], ["ok", "1"]);
    assert_eq!(
        lines[1].split(':').next(),
        Some("error too-large 65536"),
        "{lines:?}"
    );
    let bad = script(
        &browser,
        &host,
        &[
            "set b {",
            "set id 1",
            "set cookie 1",
            "add a 1",
            "get a",
            "set s \"x\"",
            "add s 1",
        ],
    )
    .await;
    assert!(
        [0, 1, 2, 6]
            .iter()
            .all(|i| bad[*i].starts_with("error invalid")),
        "{bad:?}"
    );
    assert_eq!([&bad[3], &bad[4]], ["ok", "2"]);
    let many: Vec<String> = (0..300).map(|i| format!("set k{i} 1")).collect();
    let lines = script(
        &browser,
        &host,
        &many.iter().map(String::as_str).collect::<Vec<_>>(),
    )
    .await;
    assert!(lines[299].starts_with("error"), "{}", lines[299]);
    assert_eq!(script(&browser, &host, &["get a"]).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_never_run_twice() {
    for component in ["fixture-session", "fixture-session-service"] {
        an_effect_of_this_world_is_never_run_twice(component).await;
    }
}

async fn an_effect_of_this_world_is_never_run_twice(component: &str) {
    let target = Config::over("memory:").guest("/session", "counter").start();
    let outbound = format!(
        "session = \"write\"\noutbound_hosts = [\"{}\"]",
        target.address()
    );
    let host = config()
        .guest_with("/fetching", component, &outbound)
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let fetching = host.url("/fetching");
    let fetch = format!("fetch {}", target.url("/session"));
    let slow = browser.post(
        &fetching,
        ["get n", &fetch, "sleep 1000", "increment n 1"].join("\n"),
    );
    let between = async {
        target.wait_for_log_count("status=200", 1).await;
        script(&browser, &host, &["set n 5"]).await
    };
    let (slow, _) = futures_util::future::join(slow, between).await;
    assert_eq!(slow.status, 409, "{component}: {}", slow.text);
    assert_eq!(script(&browser, &host, &["get n"]).await, ["5"]);
    // No read is broken here, so the host applies the change log to the new row instead.
    let slow = browser.post(&fetching, [&fetch, "sleep 1000", "set m 1"].join("\n"));
    let between = async {
        target.wait_for_log_count("status=200", 2).await;
        script(&browser, &host, &["set n 6"]).await
    };
    let (slow, _) = futures_util::future::join(slow, between).await;
    assert_eq!(slow.status, 200, "{component}: {}", slow.text);
    assert_eq!(
        script(&browser, &host, &["get n", "get m"]).await,
        ["6", "1"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn save_and_reload_see_the_row_as_it_is() {
    let host = config().start();
    let browser = Browser::new();
    assert_eq!(
        script(
            &browser,
            &host,
            &["set a 1", "save", "set a 2", "reload", "get a"]
        )
        .await,
        ["ok", "ok", "ok", "ok", "1"]
    );
    let fingerprint = script(&browser, &host, &["fingerprint"]).await.remove(0);
    assert!(fingerprint.len() >= 32 && !fingerprint.contains(&id_of(&browser, &host)));
}

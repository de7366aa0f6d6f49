//! What a session does, seen from a browser: express-session's decision tables under our defaults and under `express-1`.

use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};

use crate::{id_of, run_script, script, sqlite_rows};

fn config() -> Config {
    Config::over("sqlite:sessions.sqlite").guest("/s", "fixture-session")
}

fn rows(host: &Host) -> Vec<(String, i64, String)> {
    sqlite_rows(&host.directory.path().join("sessions.sqlite"))
}

/// How many cookies the answer to `lines` sets, and how many of them expire one.
async fn cookies(browser: &Browser, host: &Host, lines: &[&str]) -> (usize, usize) {
    let answer = run_script(browser, host, lines).await;
    assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text);
    let all = answer.set_cookies();
    let expired = all
        .iter()
        .filter(|c| c.contains("Expires=Thu, 01 Jan 1970 00:00:00 GMT"))
        .count();
    (all.len(), expired)
}

#[tokio::test]
async fn a_new_visitor_who_only_reads_gets_no_cookie_and_no_row() {
    let host = config().start();
    assert_eq!(
        cookies(
            &Browser::new(),
            &host,
            &["get a", "keys", "cookie", "fingerprint"]
        )
        .await,
        (0, 0)
    );
    assert_eq!(
        cookies(&Browser::new(), &host, &["set a 1", "delete a"]).await,
        (0, 0),
        "written and restored"
    );
    assert_eq!(rows(&host), []);
}

#[tokio::test]
async fn the_cookie_is_express_s_to_the_byte() {
    let host = config().start();
    let browser = Browser::new();
    let answer = run_script(&browser, &host, &["set a 1"]).await;
    let cookie = answer.set_cookies()[0];
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    let value = value
        .strip_prefix("connect.sid=s%3A")
        .expect("name and prefix");
    let (id, signature) = value.split_once('.').unwrap();
    assert_eq!(id.len(), 32);
    assert_eq!(signature.replace("%2B", "+").replace("%2F", "/").len(), 43);
    let (row_id, _, data) = rows(&host).remove(0);
    assert_eq!(row_id, id);
    assert_eq!(
        data,
        r#"{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/","sameSite":"lax"},"a":1}"#
    );
}

#[tokio::test]
async fn a_known_visitor_gets_a_cookie_only_when_it_must_move() {
    let host = config().start();
    let browser = Browser::new();
    assert_eq!(cookies(&browser, &host, &["set a 1"]).await, (1, 0));
    assert_eq!(
        cookies(&browser, &host, &["get a"]).await,
        (0, 0),
        "read only"
    );
    assert_eq!(
        cookies(&browser, &host, &["set a 2"]).await,
        (0, 0),
        "no maximum age"
    );
    assert_eq!(
        cookies(&browser, &host, &["set a 3", "set a 2"]).await,
        (0, 0),
        "restored"
    );

    let aged = config().session("cookie = { max_age = \"1h\" }").start();
    let browser = Browser::new();
    assert_eq!(cookies(&browser, &aged, &["set a 1"]).await, (1, 0));
    assert_eq!(
        cookies(&browser, &aged, &["get a"]).await,
        (0, 0),
        "read only"
    );
    assert_eq!(
        cookies(&browser, &aged, &["set a 2"]).await,
        (1, 0),
        "the expiry moved"
    );

    let rolling = config().session("rolling = true").start();
    let browser = Browser::new();
    assert_eq!(
        cookies(&browser, &rolling, &["get a"]).await,
        (0, 0),
        "a stranger"
    );
    assert_eq!(cookies(&browser, &rolling, &["set a 1"]).await, (1, 0));
    assert_eq!(
        cookies(&browser, &rolling, &["get a"]).await,
        (1, 0),
        "each answer"
    );
}

#[tokio::test]
async fn uninitialized_sessions_are_saved_when_asked_for() {
    let host = config().session("save_uninitialized = true").start();
    assert_eq!(cookies(&Browser::new(), &host, &["get a"]).await, (1, 0));
    assert_eq!(rows(&host).len(), 1);
}

#[tokio::test]
async fn destroy_expires_the_cookie_and_in_the_old_profile_it_does_not() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let lines = script(&browser, &host, &["destroy", "get a", "keys", "set a 1"]).await;
    assert_eq!(lines[..3], ["ok", "none", "[]"]);
    assert!(lines[3].starts_with("error invalid"), "{lines:?}");
    assert_eq!(
        (rows(&host), browser.cookies(&host.url("/"))),
        (vec![], None)
    );

    let old = config().session("compat = \"express-1\"").start();
    let browser = Browser::new();
    script(&browser, &old, &["set a 1"]).await;
    assert_eq!(cookies(&browser, &old, &["destroy"]).await, (0, 0));
    assert_eq!(rows(&old), []);
}

#[tokio::test]
async fn the_old_profile_saves_everything_and_names_no_same_site() {
    let host = config().session("compat = \"express-1\"").start();
    let browser = Browser::new();
    let answer = run_script(&browser, &host, &["get a"]).await;
    assert_eq!(answer.set_cookies().len(), 1, "save_uninitialized");
    assert!(
        answer.set_cookies()[0].ends_with("; Path=/; HttpOnly"),
        "{:?}",
        answer.set_cookies()
    );
    let data = rows(&host).remove(0).2;
    assert_eq!(
        data,
        r#"{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}}"#
    );
}

#[tokio::test]
async fn a_dead_cookie_is_expired_once_and_not_asked_for_ever() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    script(&browser, &host, &["destroy"]).await;
    let replay = Browser::with_cookie(&host.url("/"), &cookie);
    assert_eq!(cookies(&replay, &host, &["get a"]).await, (1, 1));
    let replay = Browser::with_cookie(&host.url("/"), &cookie);
    assert_eq!(
        cookies(&replay, &host, &["set a 2"]).await,
        (1, 0),
        "a write begins a new session"
    );
    assert!(!cookie.contains(&id_of(&replay, &host)), "under a new id");
}

#[tokio::test]
async fn renew_keeps_the_data_and_kills_the_old_id() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let before = browser.cookies(&host.url("/")).unwrap();
    assert_eq!(
        script(&browser, &host, &["renew", "get a", "set user \"anna\""]).await,
        ["ok", "1", "ok"]
    );
    let after = browser.cookies(&host.url("/")).unwrap();
    assert_ne!(before, after);
    assert_eq!(
        script(&browser, &host, &["get a", "get user"]).await,
        ["1", "\"anna\""]
    );
    let replay = Browser::with_cookie(&host.url("/"), &before);
    assert_eq!(script(&replay, &host, &["get a"]).await, ["none"]);
    assert_eq!(rows(&host).len(), 1);
}

#[tokio::test]
async fn regenerate_begins_an_empty_session_under_a_new_id() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let before = id_of(&browser, &host);
    assert_eq!(
        script(&browser, &host, &["regenerate", "get a", "set b 2"]).await,
        ["ok", "none", "ok"]
    );
    assert_ne!(id_of(&browser, &host), before);
    assert_eq!(script(&browser, &host, &["keys"]).await, ["[\"b\"]"]);
    assert_eq!(rows(&host).len(), 1);
    assert_eq!(
        cookies(&Browser::new(), &host, &["regenerate"]).await,
        (1, 0),
        "even if empty"
    );
    assert_eq!(
        script(&browser, &host, &["destroy", "regenerate", "set c 3"]).await,
        ["ok", "ok", "ok"]
    );
    assert_eq!(script(&browser, &host, &["keys"]).await, ["[\"c\"]"]);
}

#[tokio::test]
async fn unset_destroys_or_keeps_as_the_option_says() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    script(&browser, &host, &["set a 2", "unset"]).await;
    assert_eq!(rows(&host), []);

    let keeping = config().session("unset = \"keep\"").start();
    let browser = Browser::new();
    script(&browser, &keeping, &["set a 1"]).await;
    script(&browser, &keeping, &["set a 2", "unset"]).await;
    assert_eq!(script(&browser, &keeping, &["get a"]).await, ["1"]);
}

#[tokio::test]
async fn a_maximum_age_set_by_the_guest_is_kept_and_sent() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let answer = run_script(&browser, &host, &["max-age 60000"]).await;
    assert!(
        answer.set_cookies()[0].contains("; Expires="),
        "{:?}",
        answer.set_cookies()
    );
    let attributes = script(&browser, &host, &["cookie"]).await.remove(0);
    assert!(
        attributes.contains("60000") || attributes.contains("59999"),
        "{attributes}"
    );
    assert!(rows(&host)[0].2.contains("\"originalMaxAge\":60000"));
}

#[tokio::test]
async fn an_idle_session_ends_and_a_used_one_goes_on() {
    let host = config().store("expiration = \"2s\"").start();
    let (idle, used) = (Browser::new(), Browser::new());
    script(&idle, &host, &["set a 1"]).await;
    script(&used, &host, &["set a 1"]).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(script(&used, &host, &["get a"]).await, ["1"]);
    }
    assert_eq!(script(&idle, &host, &["get a"]).await, ["none"]);
}

#[tokio::test]
async fn an_absolute_lifetime_ends_a_session_that_is_used_all_the_time() {
    let host = config().session("absolute_lifetime = \"3s\"").start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 0"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let mut seen = Vec::new();
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let same = Browser::with_cookie(&host.url("/"), &cookie);
        seen.push(script(&same, &host, &["get n"]).await.remove(0));
    }
    assert_eq!(
        (
            seen.first().unwrap().as_str(),
            seen.last().unwrap().as_str()
        ),
        ("0", "none"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_write_after_the_release_is_told_so_and_makes_no_orphan() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = config().guest("/f", component).start();
        let late = Browser::new().get(&host.url("/f/late-write")).await;
        assert_eq!(late.status, 200);
        assert!(
            late.text.trim_end().ends_with("error committed:")
                || late.text.contains("error committed"),
            "{component}"
        );
        let events = Browser::new().get(&host.url("/f/sse")).await;
        assert!(
            events.text.contains("error committed"),
            "{component}: {}",
            events.text
        );
        assert_eq!(rows(&host), [], "{component}");
    }
}

#[tokio::test]
async fn a_secure_cookie_over_plain_http_makes_neither_cookie_nor_row() {
    let host = config().session("cookie = { secure = true }").start();
    assert_eq!(cookies(&Browser::new(), &host, &["set a 1"]).await, (0, 0));
    assert_eq!(rows(&host), []);
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn grants_limit_what_a_guest_may_touch() {
    let keys = "session = \"write\"\nread_keys = [\"cart\", \"user.*\"]\nwrite_keys = [\"cart\"]";
    let host = config()
        .guest_with("/limited", "fixture-session", keys)
        .guest_with("/none", "fixture-session", "")
        .start();
    let browser = Browser::new();
    script(
        &browser,
        &host,
        &["set cart 1", "set user.name 2", "set other 3"],
    )
    .await;
    let post = async |path: &str, lines: &[&str]| {
        browser.post(&host.url(path), lines.join("\n")).await.text
    };
    let lines = post(
        "/limited",
        &[
            "get cart",
            "get user.name",
            "get other",
            "set cart 2",
            "set user.name 3",
            "keys",
        ],
    )
    .await;
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(
        [lines[0], lines[1], lines[3], lines[5]],
        ["1", "2", "ok", r#"["cart","user.name"]"#]
    );
    assert!(
        lines[2].starts_with("error denied") && lines[4].starts_with("error denied"),
        "{lines:?}"
    );
    assert!(
        post("/none", &["get cart"])
            .await
            .starts_with("error denied")
    );
}

#[tokio::test]
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

#[tokio::test]
async fn an_effect_is_never_run_twice() {
    let target = Config::over("memory:").guest("/session", "counter").start();
    let outbound = format!(
        "session = \"write\"\noutbound_hosts = [\"{}\"]",
        target.address()
    );
    let host = config()
        .guest_with("/fetching", "fixture-session", &outbound)
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let fetching = host.url("/fetching");
    let fetch = format!("fetch {}", target.url("/session"));
    let slow = browser.post(
        &fetching,
        ["get n", &fetch, "sleep 400", "increment n 1"].join("\n"),
    );
    let between = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        script(&browser, &host, &["set n 5"]).await
    };
    let (slow, _) = futures_util::future::join(slow, between).await;
    assert_eq!(slow.status, 409, "{}", slow.text);
    assert_eq!(script(&browser, &host, &["get n"]).await, ["5"]);
    // Without a broken read the log is applied to the new row instead.
    let slow = browser.post(&fetching, [&fetch, "sleep 400", "set m 1"].join("\n"));
    let between = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        script(&browser, &host, &["set n 6"]).await
    };
    let (slow, _) = futures_util::future::join(slow, between).await;
    assert_eq!(slow.status, 200, "{}", slow.text);
    assert_eq!(
        script(&browser, &host, &["get n", "get m"]).await,
        ["6", "1"]
    );
}

#[tokio::test]
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

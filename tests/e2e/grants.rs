//! The grants of a guest, one test for each. A grant permits its calls, and without it they are denied. A denial is an error in the guest,
//! a count in the metrics and a line in the log that explains it.

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use serde_json::json;

use crate::{id_of, script};

/// A scriptable guest for each world.
const WORLDS: [&str; 2] = ["fixture-session", "fixture-session-service"];

/// Starts a host with these keys for the guest at `/s`. The guest at `/all` has full access to sessions.
fn host(component: &str, keys: &str) -> Host {
    Config::over("memory:")
        .guest_with("/s", component, keys)
        .guest("/all", "fixture-session")
        .admin("")
        .start()
}

/// Creates a session with these entries for the browser.
async fn remember(browser: &Browser, host: &Host, lines: &[&str]) {
    let answer = browser.post(&host.url("/all"), lines.join("\n")).await;
    assert_eq!(answer.text, "ok\n".repeat(lines.len()));
}

/// Returns the number of calls of the guest at `/s` that were denied because this grant is missing.
async fn denials(host: &Host, component: &str, grant: &str) -> f64 {
    let series =
        format!("cloakroom_guest_denials_total{{grant=\"{grant}\",guest=\"{component}0\"}}");
    let value = Operator::of(host).metric(&series).await;
    value.unwrap_or_else(|| panic!("no series {series}"))
}

/// Returns the log lines about denials.
fn denial_lines(host: &Host) -> Vec<String> {
    let log = host.log();
    let lines = log
        .lines()
        .filter(|line| line.contains("a guest was denied"));
    lines.map(str::to_owned).collect()
}

/// Asserts that this many calls were denied, and that the one log line about them names the guest, the request and the remedy.
async fn assert_denied(host: &Host, component: &str, grant: &str, calls: f64, remedy: &str) {
    assert_eq!(denials(host, component, grant).await, calls, "{component}");
    let of_grant = format!("grant=\"{grant}\"");
    host.wait_for_log(&of_grant).await;
    let lines = denial_lines(host);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in [
        format!("guest={component}0"),
        "request_id=".to_owned(),
        of_grant,
        format!("{remedy} would allow it"),
    ] {
        assert!(lines[0].contains(&part), "{part}: {}", lines[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_grant_there_is_no_session() {
    for component in WORLDS {
        let host = host(component, "");
        let browser = Browser::new();
        remember(&browser, &host, &["set n 1"]).await;
        let lines = script(&browser, &host, &["get n", "set n 2", "keys"]).await;
        assert!(
            lines.iter().all(|line| line.starts_with("error denied")),
            "{lines:?}"
        );
        let remedy = format!("guest.{component}0.session = \"read\" or \"write\"");
        assert_denied(&host, component, "session", 3.0, &remedy).await;
        let kept = browser.post(&host.url("/all"), "get n").await.text;
        assert_eq!(kept, "1\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_may_read_does_not_write() {
    for component in WORLDS {
        let host = host(component, "session = \"read\"");
        let browser = Browser::new();
        remember(&browser, &host, &["set n 1"]).await;
        let lines = script(
            &browser,
            &host,
            &["get n", "keys", "set n 2", "destroy", "get n"],
        )
        .await;
        assert_eq!([&lines[0], &lines[1], &lines[4]], ["1", "[\"n\"]", "1"]);
        assert!(lines[2].starts_with("error denied") && lines[3].starts_with("error denied"));
        let remedy = format!("guest.{component}0.session = \"write\"");
        assert_denied(&host, component, "session", 2.0, &remedy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_may_write_is_denied_nothing() {
    for component in WORLDS {
        let host = host(component, "session = \"write\"");
        let browser = Browser::new();
        let lines = ["set n 1", "increment n 1", "renew", "clear", "destroy"];
        let answers = script(&browser, &host, &lines).await;
        assert_eq!(answers, ["ok", "2", "ok", "ok", "ok"]);
        for grant in ["session", "read_keys", "write_keys", "outbound", "cookies"] {
            assert_eq!(denials(&host, component, grant).await, 0.0);
        }
        assert_eq!(denial_lines(&host), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_keys_that_match_read_keys_can_be_read() {
    for component in WORLDS {
        let host = host(
            component,
            "session = \"write\"\nread_keys = [\"user\", \"cart.*\"]",
        );
        let browser = Browser::new();
        remember(
            &browser,
            &host,
            &["set user 1", "set cart.a 2", "set hidden 3"],
        )
        .await;
        let asked = [
            "get user",
            "get cart.a",
            "keys",
            "get hidden",
            "increment hidden 1",
            "set hidden 4",
        ];
        let lines = script(&browser, &host, &asked).await;
        assert_eq!(lines[..3], ["1", "2", "[\"user\",\"cart.a\"]"]);
        assert!(lines[3].starts_with("error denied") && lines[4].starts_with("error denied"));
        assert_eq!(lines[5], "ok", "writing is another grant");
        let remedy = format!("guest.{component}0.read_keys with this key");
        assert_denied(&host, component, "read_keys", 2.0, &remedy).await;
        assert!(
            !denial_lines(&host).concat().contains("hidden"),
            "no key is named"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_keys_that_match_write_keys_can_be_written() {
    for component in WORLDS {
        let host = host(component, "session = \"write\"\nwrite_keys = [\"cart.*\"]");
        let browser = Browser::new();
        remember(&browser, &host, &["set user 1"]).await;
        let asked = [
            "set cart.a 2",
            "get user",
            "set user 3",
            "delete user",
            "add user 1",
            "clear",
            "get user",
        ];
        let lines = script(&browser, &host, &asked).await;
        assert_eq!([&lines[0], &lines[1], &lines[6]], ["ok", "1", "1"]);
        assert!(
            lines[2..6]
                .iter()
                .all(|line| line.starts_with("error denied")),
            "{lines:?}"
        );
        let remedy = format!("guest.{component}0.write_keys with this key");
        assert_denied(&host, component, "write_keys", 4.0, &remedy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_leave_for_granted_hosts_alone_in_both_worlds() {
    let target = Config::over("memory:").guest("/session", "counter").start();
    for component in WORLDS {
        let granted = format!("outbound_hosts = [\"{}\"]", target.address());
        let host = host(component, &granted);
        let elsewhere = "http://user:hunter2@127.0.0.1:9/path?token=hunter2";
        let asked = [
            format!("fetch {}", target.url("/session")),
            format!("fetch {elsewhere}"),
            format!("fetch {elsewhere}"),
        ];
        let asked: Vec<_> = asked.iter().map(String::as_str).collect();
        let lines = script(&Browser::new(), &host, &asked).await;
        assert_eq!(lines[0], "200", "{component}");
        assert!(
            lines[1].contains("Denied") && lines[2].contains("Denied"),
            "{component}: {lines:?}"
        );
        let remedy = format!("guest.{component}0.outbound_hosts with this host");
        assert_denied(&host, component, "outbound", 2.0, &remedy).await;
        let line = denial_lines(&host).concat();
        assert!(line.contains("a request to 127.0.0.1:9;"), "{line}");
        assert!(
            !line.contains("hunter2") && !line.contains("path"),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sees_the_variables_that_it_is_given_and_no_others() {
    for component in WORLDS {
        let host = Config::over("memory:")
            .env("API_TOKEN", "from outside")
            .guest_with(
                "/s",
                component,
                "environment = { GREETING = \"hello\", TOKEN = \"env:API_TOKEN\" }",
            )
            .start();
        let asked = [
            "env GREETING",
            "env TOKEN",
            "env API_TOKEN",
            "env COOKIE_SECRET",
            "env PATH",
        ];
        let lines = script(&Browser::new(), &host, &asked).await;
        assert_eq!(
            lines,
            ["hello", "from outside", "none", "none", "none"],
            "{component}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sets_its_own_cookies_but_not_the_session_cookie_or_its_id() {
    for component in WORLDS {
        let host = host(component, "");
        let cookie = |name: &str, text: &str, signed: bool| {
            let cookie = json!({ "name": name, "text": text, "signed": signed });
            format!("set-cookie {cookie}")
        };
        let browser = Browser::new();
        remember(&browser, &host, &["set n 1"]).await;
        let id = id_of(&browser, &host);
        let asked = [
            cookie("mine", "1", false),
            cookie("mine", "1", true),
            cookie("mine", &id, false),
            cookie("mine", &id, true),
            cookie("connect.sid", "1", false),
        ];
        let asked: Vec<_> = asked.iter().map(String::as_str).collect();
        let lines = script(&Browser::new(), &host, &asked).await;
        assert_eq!(lines[..3], ["ok", "ok", "ok"], "{component}");
        assert!(lines[3].starts_with("error denied") && lines[4].starts_with("error denied"));
        let remedy = "cookies.secrets of their own";
        assert_denied(&host, component, "cookies", 2.0, remedy).await;
        assert!(!host.log().contains(&id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_denials_are_counted_and_only_a_few_are_logged() {
    let component = WORLDS[0];
    let host = host(component, "session = \"read\"");
    let browser = Browser::new();
    let many = ["set n 1"; 50];
    script(&browser, &host, &many).await;
    assert_denied(&host, component, "session", 50.0, "session = \"write\"").await;
    for _ in 0..30 {
        script(&browser, &host, &["set n 1"]).await;
    }
    assert_eq!(denials(&host, component, "session").await, 80.0);
    host.wait_for_log_count("a guest was denied", 10).await;
    host.access_line("/all").await;
    assert_eq!(
        denial_lines(&host).len(),
        10,
        "a line for each of the first requests"
    );
}

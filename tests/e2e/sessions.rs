//! The behavior of a session as a browser sees it: express-session's decision tables under the host's defaults and under `express-1`.

use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::pause;

use crate::{id_of, run_script, script, sqlite_rows};

pub(crate) fn config() -> Config {
    Config::over("sqlite:sessions.sqlite").guest("/s", "fixture-session")
}

pub(crate) fn rows(host: &Host) -> Vec<(String, i64, String)> {
    sqlite_rows(&host.directory.path().join("sessions.sqlite"))
}

/// Returns the number of cookies that the answer to `lines` sets, and how many of them are expired.
pub(crate) async fn cookies(browser: &Browser, host: &Host, lines: &[&str]) -> (usize, usize) {
    let answer = run_script(browser, host, lines).await;
    assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text);
    let all = answer.set_cookies();
    let expired = all
        .iter()
        .filter(|c| c.contains("Expires=Thu, 01 Jan 1970 00:00:00 GMT"))
        .count();
    (all.len(), expired)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_visitor_that_only_reads_gets_no_cookie_and_no_row() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_visitor_gets_a_cookie_only_if_its_expiry_changes() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninitialized_sessions_are_saved_when_asked_for() {
    let host = config().session("save_uninitialized = true").start();
    assert_eq!(cookies(&Browser::new(), &host, &["get a"]).await, (1, 0));
    assert_eq!(rows(&host).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_of_a_destroyed_session_is_expired_or_replaced_at_once() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renew_keeps_the_data_and_invalidates_the_old_id() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unset_destroys_or_keeps_the_session_according_to_the_option() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attribute_that_express_alone_knows_stays_in_the_row_and_is_shown_as_absent() {
    let host = config().start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let file = host.directory.path().join("sessions.sqlite");
    let absent = serde_json::Value::Null;
    for (row, same_site, priority) in [
        (
            r#""sameSite":"none","priority":"high""#,
            &"none".into(),
            &"high".into(),
        ),
        (
            r#""sameSite":true,"priority":"LOW""#,
            &"strict".into(),
            &"low".into(),
        ),
        (
            r#""sameSite":"sideways","priority":"urgent""#,
            &absent,
            &absent,
        ),
        (r#""sameSite":false,"priority":7"#, &absent, &absent),
    ] {
        let cookie =
            format!(r#"{{"cookie":{{"originalMaxAge":null,"expires":null,"path":"/",{row}}},"#);
        let connection = rusqlite::Connection::open(&file).unwrap();
        let change = "UPDATE sessions SET data = ?1";
        connection
            .execute(change, [format!("{cookie}\"a\":1}}")])
            .unwrap();
        let lines = script(&browser, &host, &["cookie", "set a 2"]).await;
        let shown: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (&shown["sameSite"], &shown["priority"]),
            (same_site, priority),
            "{row}"
        );
        assert_eq!(rows(&host)[0].2, format!("{cookie}\"a\":2}}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_ends_and_a_used_one_goes_on() {
    let host = config().store("expiration = \"2s\"").start();
    let (idle, used) = (Browser::new(), Browser::new());
    script(&idle, &host, &["set a 1"]).await;
    script(&used, &host, &["set a 1"]).await;
    for _ in 0..5 {
        pause(Duration::from_millis(900), "less than the expiration").await;
        assert_eq!(script(&used, &host, &["get a"]).await, ["1"]);
    }
    assert_eq!(script(&idle, &host, &["get a"]).await, ["none"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolute_lifetime_ends_a_session_that_is_used_all_the_time() {
    let host = config().session("absolute_lifetime = \"3s\"").start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 0"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let mut seen = Vec::new();
    for _ in 0..12 {
        pause(Duration::from_millis(500), "the lifetime passes").await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_answer_that_used_the_session_varies_by_cookie() {
    let host = Config::over("memory:")
        .guest("/session", "counter")
        .guest("/hello", "fixture-hello")
        .guest("/faults", "fixture-faults")
        .start();
    let browser = Browser::new();
    let vary = async |path: &str| {
        let answer = browser.get(&host.url(path)).await;
        answer.header("vary").map(str::to_owned)
    };
    for _ in 0..2 {
        assert_eq!(vary("/session").await.as_deref(), Some("Cookie"));
    }
    assert_eq!(vary("/hello").await, None, "it imports no session");
    assert_eq!(vary("/faults/").await, None, "it makes no session call");
}

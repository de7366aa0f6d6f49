//! A host and a live Express app on one table: they share ids, rows and cookies, and the host preserves every byte that it did not change.

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::express::Express;
use cloakroom_tests::host::{Config, Host, SECRET};
use cloakroom_tests::mariadb::{Database, Mariadb};
use serde_json::json;

use crate::{run_script, script};

/// Starts both apps over one database, with the classic's options: name, secret, a maximum age.
async fn neighbours() -> (Database, Express, Host) {
    let database = Mariadb::shared().await.fresh_database().await;
    let express = Express::start(
        &database.for_express(),
        &json!({ "name": "sessionId", "secret": SECRET, "cookie": { "maxAge": 86_400_000 } }),
    );
    let host = cloakroom(&database).admin("").start();
    (database, express, host)
}

fn cloakroom(database: &Database) -> Config {
    Config::over(&database.url)
        .session("name = \"sessionId\"\ncookie = { max_age = \"24h\" }")
        .store("alter_table = true")
        .guest("/s", "fixture-session")
        .guest("/session", "counter")
}

/// Returns the cookie of an answer for use at the other app: cookies belong to a host name, and the test uses ports.
fn cookie_pair(answer: &cloakroom_tests::browser::Answer) -> Option<String> {
    let cookie = answer.set_cookies().first().copied()?.to_owned();
    cookie.split(';').next().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_increments_alternating_with_express_are_all_counted() {
    let (database, express, host) = neighbours().await;
    let browser = Browser::new();
    let mut cookies = std::collections::BTreeSet::new();
    for n in 1..=50 {
        let url = if n % 2 == 1 {
            express.url("/session")
        } else {
            host.url("/session")
        };
        let answer = browser.get(&url).await;
        assert_eq!(answer.text, format!("{n}번 접속"));
        cookies.extend(cookie_pair(&answer));
    }
    assert_eq!(cookies.len(), 1, "one cookie value throughout");
    let rows = database.sessions().await;
    assert_eq!(rows.len(), 1);
    let data: serde_json::Value = serde_json::from_str(&rows[0].data).expect("the row is JSON");
    assert_eq!(data["num"], 50);
    assert!(
        rows[0].data.starts_with(r#"{"cookie":{"originalMaxAge":"#),
        "{}",
        rows[0].data
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_begun_by_either_are_known_to_the_other() {
    let (_database, express, host) = neighbours().await;
    let browser = Browser::new();
    assert_eq!(
        script(&browser, &host, &[r#"set user {"name":"Zoë 😆"}"#]).await,
        ["ok"]
    );
    let all = browser.get(&express.url("/all")).await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&all.text).unwrap()["data"]["user"]["name"],
        "Zoë 😆"
    );
    browser.get(&express.url("/set?key=b&value=2")).await;
    assert_eq!(
        script(&browser, &host, &["get b", "keys"]).await,
        ["2", r#"["user","b"]"#]
    );
}

/// Values that a JSON library may alter. The host must keep the raw text of such a row.
const ODD: &str = r#""z":"😆","lone":"a\ud83dz","big":1e400,"exact":9007199254740993,"float":1.0,"a":{"b":[1,2],"a":0}"#;

async fn with_odd_row(database: &Database, express: &Express) -> (Browser, String) {
    let browser = Browser::new();
    browser.get(&express.url("/set?key=seed&value=1")).await;
    let row = database.sessions().await.remove(0);
    let odd = row.data.replacen(r#""seed":1"#, ODD, 1);
    assert_ne!(odd, row.data);
    database.overwrite(&row.id, &odd, row.expires).await;
    (browser, odd)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_visit_leaves_the_data_byte_for_byte() {
    let (database, express, host) = neighbours().await;
    let (browser, before) = with_odd_row(&database, &express).await;
    assert_eq!(
        script(&browser, &host, &["get exact", "get lone", "keys"]).await[..2],
        ["9007199254740993", r#""a\ud83dz""#]
    );
    assert_eq!(database.sessions().await[0].data, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_leaves_every_other_key_byte_for_byte() {
    let (database, express, host) = neighbours().await;
    let (browser, before) = with_odd_row(&database, &express).await;
    assert_eq!(script(&browser, &host, &["set mine 1"]).await, ["ok"]);
    let after = database.sessions().await.remove(0).data;
    assert!(after.ends_with(&format!("{ODD},\"mine\":1}}")), "{after}");
    let cookie = |data: &str| data.split(r#","z":"#).next().map(str::to_owned);
    let without_expiry = |cookie: Option<String>| {
        let cookie = cookie.expect("a cookie object");
        let (head, tail) = cookie.split_once(r#""expires":""#).expect("an expiry");
        format!("{head}{}", &tail["2026-11-23T06:08:17.083Z".len()..])
    };
    assert_eq!(
        without_expiry(cookie(&after)),
        without_expiry(cookie(&before)),
        "the cookie object moved its expiry alone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_by_express_between_our_load_and_our_commit_makes_us_run_again() {
    let (_database, express, host) = neighbours().await;
    let browser = Browser::new();
    browser.get(&express.url("/set?key=n&value=1")).await;
    let ours = run_script(&browser, &host, &["get n", "sleep 400", "increment n 10"]);
    let theirs = async {
        Operator::of(&host).wait_for_loads(1).await;
        browser.get(&express.url("/set?key=n&value=5")).await;
        browser.get(&express.url("/set?key=other&value=6")).await
    };
    let (ours, _) = futures_util::future::join(ours, theirs).await;
    assert_eq!(
        ours.text, "5\nok\n15\n",
        "the answer is that of the second run"
    );
    assert_eq!(
        script(&browser, &host, &["get n", "get other"]).await,
        ["15", "6"],
        "both writes survive"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_in_either_is_seen_by_the_other() {
    let (database, express, host) = neighbours().await;
    let browser = Browser::new();
    browser.get(&express.url("/session")).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    browser.get(&host.url("/session/delete")).await;
    assert_eq!(database.sessions().await.len(), 0);
    let replay = Browser::with_cookie(&express.url("/"), &cookie);
    assert_eq!(replay.get(&express.url("/session")).await.text, "1번 접속");

    let browser = Browser::new();
    browser.get(&host.url("/session")).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    browser.get(&express.url("/session/delete")).await;
    let replay = Browser::with_cookie(&host.url("/"), &cookie);
    assert_eq!(script(&replay, &host, &["get num"]).await, ["none"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_secrets_work_in_both() {
    let database = Mariadb::shared().await.fresh_database().await;
    let (old, new) = (
        "an old secret of 32 bytes or more",
        "a new secret of 32 bytes or more",
    );
    let before = Express::start(
        &database.for_express(),
        &json!({ "name": "sessionId", "secret": old }),
    );
    let browser = Browser::new();
    browser.get(&before.url("/session")).await;
    let rotated = Express::start(
        &database.for_express(),
        &json!({ "name": "sessionId", "secret": [new, old] }),
    );
    let host = cloakroom(&database)
        .session("secrets = [\"env:NEW\", \"env:OLD\"]")
        .env("NEW", new)
        .env("OLD", old)
        .start();
    assert_eq!(browser.get(&host.url("/session")).await.text, "2번 접속");
    assert_eq!(browser.get(&rotated.url("/session")).await.text, "3번 접속");

    // A session created by the host is signed with the first secret, which the rotated app knows and the old one does not.
    let later = Browser::new();
    later.get(&host.url("/session")).await;
    assert_eq!(later.get(&rotated.url("/session")).await.text, "2번 접속");
    assert_eq!(later.get(&before.url("/session")).await.text, "1번 접속");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_the_cloakroom_columns_is_served_and_not_altered() {
    let database = Mariadb::shared().await.fresh_database().await;
    let express = Express::start(
        &database.for_express(),
        &json!({ "name": "sessionId", "secret": SECRET }),
    );
    let host = Config::over(&database.url)
        .session("name = \"sessionId\"")
        .guest("/session", "counter")
        .start();
    host.wait_for_log("ALTER TABLE").await;
    let browser = Browser::new();
    for n in 1..=10 {
        let url = if n % 2 == 1 {
            express.url("/session")
        } else {
            host.url("/session")
        };
        assert_eq!(browser.get(&url).await.text, format!("{n}번 접속"));
    }
    assert_eq!(
        database.columns("sessions").await,
        ["session_id", "expires", "data"]
    );
}

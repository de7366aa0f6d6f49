//! The admin interface of a running host: deployments and removals of guests, access control, and reports on the host.

mod metrics;
mod shell;
mod uploads;

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::{Operator, json};
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, component};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::wait_until;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::run_script;

const TOKEN: &str = "9f0c1d4a7be24d55a3f1c6e8b2d79a60";
/// The name that `Config::guest` gives the first guest when it is the hello fixture.
const HELLO: &str = "fixture-hello0";

fn hello() -> Config {
    Config::over("memory:")
        .guest_with("/", "fixture-hello", "")
        .admin("")
}

fn hello_with_token() -> Config {
    Config::over("memory:")
        .guest_with("/", "fixture-hello", "")
        .admin("token = \"env:ADMIN_TOKEN\"")
        .env("ADMIN_TOKEN", TOKEN)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(component(name)).unwrap()
}

async fn page(host: &Host) -> String {
    Browser::new().get(&host.url("/")).await.text
}

/// Returns a component other than the hello fixture.
fn other() -> Vec<u8> {
    bytes("fixture-faults")
}

/// Announces a component of this size and returns the answer. The body is never sent.
async fn announce(operator: &Operator, bytes: usize) -> String {
    let address = operator.url.strip_prefix("http://").unwrap();
    let mut link = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /guests/{HELLO} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {bytes}\r\nexpect: 100-continue\r\n\r\n"
    );
    link.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 512];
    let length = link.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn states(guest: &Value) -> Vec<(u64, &str)> {
    let versions = guest["versions"].as_array();
    let versions = versions.unwrap_or_else(|| panic!("no guest: {guest}"));
    let state = |version: &Value| version["number"].as_u64().unwrap();
    versions
        .iter()
        .map(|version| (state(version), version["state"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_is_put_serves_until_a_rollback() {
    let host = hello().start();
    let operator = Operator::of(&host);
    assert_eq!(page(&host).await, "hello\n");
    let first = operator.guest(HELLO).await;
    assert_eq!(states(&first), [(1, "live")]);
    let version = &first["versions"][0];
    assert_eq!(version["origin"], "config");
    assert_eq!(version["bytes"], bytes("fixture-hello").len());
    assert_eq!(version["digest"].as_str().unwrap().len(), 64);
    assert_eq!(version["world"], "wasi:http 0.2");
    let exports = version["exports"].to_string();
    assert!(
        exports.contains("wasi:http/incoming-handler@0.2"),
        "{exports}"
    );
    let since = version["since"].as_str().unwrap();
    assert!(since.ends_with('Z') && since.contains('T'), "{since}");

    let put = operator.put(HELLO, other()).await;

    assert_eq!(put.status, 201, "{}", put.text);
    assert_eq!(put.header("etag"), Some("\"2\""));
    assert_eq!(
        json(&put),
        json!({ "guest": HELLO, "version": 2, "state": "live", "live": 2, "unchanged": false })
    );
    let answer = Browser::new().get(&host.url("/env")).await;
    assert_ne!(answer.text, "hello\n", "the new version has this page");
    let listed = json(&operator.get("/guests").await);
    assert_eq!(listed["guests"][0]["name"], HELLO);
    let newest = &listed["guests"][0]["versions"][0];
    assert!(
        newest["origin"]
            .as_str()
            .unwrap()
            .starts_with("admin 127.0.0.1:")
    );
    assert_eq!(listed["guests"][0]["versions"][1]["kept"], true);

    let again = operator.put(HELLO, other()).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(json(&again)["unchanged"], true);

    let back = operator.roll_back(HELLO).await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(back.header("etag"), Some("\"1\""));
    assert_eq!(Browser::new().get(&host.url("/env")).await.text, "hello\n");
    let none = operator.roll_back(HELLO).await;
    assert_eq!(none.status, 409, "{}", none.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_with_if_match_replaces_only_that_version() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let path = format!("/guests/{HELLO}");
    let tag = operator.get(&path).await;
    let tag = tag.header("etag").unwrap();
    let put = async |tag: &str| {
        let headers = [("if-match", tag)];
        operator.send(Method::PUT, &path, &headers, other()).await
    };
    assert_eq!(put("1").await.status, 400, "no quotes");
    let stale = put("\"7\"").await;
    assert_eq!(stale.status, 412, "{}", stale.text);
    assert_eq!(
        stale.header("etag"),
        Some(tag),
        "the tag of the live version"
    );
    assert_eq!(put(tag).await.status, 201);
    assert_eq!(put(tag).await.status, 412, "it was replaced since");
    let path = format!("{path}/rollback");
    let back = async |tag: &str| {
        let headers = [("if-match", tag)];
        operator
            .send(Method::POST, &path, &headers, "")
            .await
            .status
    };
    assert_eq!(back("\"1\"").await, 412);
    assert_eq!(back("\"2\"").await, 200);
    assert_eq!(states(&operator.guest(HELLO).await)[1], (1, "live"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_describes_a_component_and_changes_nothing() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let before = operator.guest(HELLO).await;
    let path = format!("/guests/{HELLO}?dry-run");
    let run = async |component: Vec<u8>| operator.send(Method::PUT, &path, &[], component).await;

    let tried = run(other()).await;

    assert_eq!(tried.status, 200, "{}", tried.text);
    let body = json(&tried);
    assert_eq!(
        (&body["dry_run"], &body["unchanged"]),
        (&json!(true), &json!(false))
    );
    assert!(
        body["imports"]
            .to_string()
            .contains("cloakroom:http/session")
    );
    assert_eq!(json(&run(bytes("fixture-hello")).await)["unchanged"], true);
    let refused = run(b"not wasm".to_vec()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert_eq!(operator.guest(HELLO).await, before);
    let typo = format!("/guests/{HELLO}?dryrun");
    let typo = operator.send(Method::PUT, &typo, &[], other()).await;
    assert_eq!(typo.status, 400, "a slip is no order to swap");
    assert_eq!(operator.guest(HELLO).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_component_is_refused_with_its_reason_and_the_live_one_serves_on() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let half = bytes("counter");
    let half = half[..half.len() / 2].to_vec();
    for (component, reason) in [
        (b"a text".to_vec(), "not a WebAssembly component"),
        (b"\0asm\x01\0\0\0".to_vec(), "core WebAssembly module"),
        (bytes("fixture-command"), "wasi:http/incoming-handler@0.2"),
        (half, "damaged or incomplete"),
        (Vec::new(), "not a WebAssembly component"),
    ] {
        let answer = operator.put(HELLO, component).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        let error = json(&answer)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(reason), "{error}");
        let newest = &operator.guest(HELLO).await["versions"][0];
        assert_eq!(
            (&newest["state"], &newest["reason"]),
            (&json!("failed"), &json!(error))
        );
        assert_eq!(page(&host).await, "hello\n");
    }
    // As curl does for a large body: it sends the head first, and the body only after the host accepts it.
    let answer = announce(&operator, (64 << 20) + 1).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let nobody = operator.put("nobody", other()).await;
    assert_eq!(nobody.status, 404);
    assert!(nobody.text.contains(HELLO), "{}", nobody.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_where_there_is_one() {
    let host = hello_with_token().start();
    let operator = Operator::of(&host);
    let right = format!("Bearer {TOKEN}");
    let get = async |path: &str, headers: &[(&str, &str)]| {
        operator.send(Method::GET, path, headers, "").await
    };
    let without = get("/guests", &[]).await;
    assert_eq!(without.status, 401);
    assert!(
        without
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    let wrong = [("authorization", "Bearer 9f0c1d4a7be24d55a3f1c6e8b2d79a61")];
    assert_eq!(get("/guests", &wrong).await.status, 401);
    assert_eq!(operator.put(HELLO, other()).await.status, 401);
    assert_eq!(operator.roll_back(HELLO).await.status, 401);
    assert_eq!(page(&host).await, "hello\n");
    assert_eq!(
        get("/guests", &[("authorization", &right)]).await.status,
        200
    );
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(path, &[]).await.status, 200, "{path}, on this machine");
    }
    assert!(!host.log().contains(TOKEN), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_page_cannot_call_the_admin_interface() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let rebound = [("host", "evil.example:3001")];
    let from_page = [("origin", "http://evil.example")];
    for headers in [rebound, from_page] {
        for (method, path) in [
            (Method::GET, "/guests".to_owned()),
            (Method::GET, "/metrics".to_owned()),
            (Method::PUT, format!("/guests/{HELLO}")),
            (Method::POST, format!("/guests/{HELLO}/rollback")),
            (Method::GET, "/no-such-path".to_owned()),
        ] {
            let answer = operator.send(method, &path, &headers, other()).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}: {}", answer.text);
        }
        let answer = operator.send(Method::GET, "/healthz", &headers, "").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(states(&operator.guest(HELLO).await), [(1, "live")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_in_shutdown_is_immediately_not_ready_but_healthy() {
    let mut host = Config::over("memory:")
        .guest_with("/f", "fixture-faults", "session = \"write\"")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    assert_eq!(operator.get("/readyz").await.status, 200);
    let url = host.url("/f/sleep?3000");
    let request = tokio::spawn(async move { Browser::new().get(&url).await });
    operator
        .wait_for_metric("cloakroom_requests_in_flight", Some(1.0))
        .await;

    host.signal("TERM");

    wait_until("it is not ready", Duration::from_secs(2), async || {
        let status = operator.get("/readyz").await.status;
        ensure!(status != 200, "{}", host.log());
        Ok(())
    })
    .await;
    assert!(!request.is_finished(), "a request is still under way");
    assert_eq!(operator.get("/healthz").await.status, 200);
    assert_eq!(operator.metric("cloakroom_ready").await, Some(0.0));
    let late = operator
        .put("fixture-faults0", bytes("fixture-hello"))
        .await;
    assert_eq!(late.status, 503, "no new versions any more: {}", late.text);
    assert_eq!(request.await.unwrap().text, "slept\n");
    let status = host.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(0), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_outage_is_reported_and_leaves_the_host_ready() {
    let server = Mariadb::start().await;
    let database = server.fresh_database().await;
    let host = Config::over(&database.url)
        .guest("/s", "fixture-session")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    assert_eq!(run_script(&browser, &host, &["set n 1"]).await.status, 200);
    assert_eq!(json(&operator.get("/readyz").await)["store"], "up");
    server.stop().await;
    assert_eq!(run_script(&browser, &host, &["get n"]).await.status, 503);

    let ready = operator.get("/readyz").await;

    assert_eq!(ready.status, 200);
    assert_eq!(json(&ready), json!({ "status": "ready", "store": "down" }));
    assert_eq!(operator.metric("cloakroom_store_up").await, Some(0.0));
    let errors = "cloakroom_store_errors_total{call=\"load\",kind=\"unavailable\"}";
    assert!(operator.metric(errors).await > Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_interface_is_off_by_default() {
    let host = Config::over("memory:")
        .guest_with("/", "fixture-hello", "")
        .env("CLOAKROOM_ADMIN_TOKEN", TOKEN)
        .start();
    assert_eq!(
        Browser::new().get(&host.url("/guests")).await.text,
        "hello\n"
    );
    host.wait_for_log("Ctrl-C ends the host.").await;
    assert!(!host.log().contains("admin interface"), "{}", host.log());
}

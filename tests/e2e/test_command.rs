//! `cloakroom test`: hosts for the tests of a guest, the controls that tests have over them, and the ways in which the command ends.

mod ends;

use std::path::Path;
use std::process::Command;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Host, binary, component};
use cloakroom_tests::versions::hello;
use reqwest::Method;
use serde_json::{Value, json};

/// A test command that prints the URL of the control interface and runs as long as `cloakroom test`.
const STAYS: &str = "echo at $CLOAKROOM_TEST_URL; exec tail --pid=$PPID -f /dev/null";

/// Creates a project with one guest, `g`, which is built by copying a component, and further keys (TOML lines) before it.
fn project(guest: &str, test: &str, keys: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let built = component(guest).display().to_string();
    let text = format!(
        "{keys}\n[guest.g]\ncomponent = \"built.wasm\"\nsession = \"write\"\n\
         [guest.g.build]\ncommand = \"cp '{built}' built.wasm\"\ntest = {test:?}\n\
         [[route]]\npath = \"/{{*rest}}\"\nguest = \"g\"\n"
    );
    std::fs::write(folder.path().join("cloakroom.toml"), text).unwrap();
    folder
}

/// Returns a `cloakroom test` command in a project's folder.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("test").current_dir(folder);
    // All tests share one code cache, so that each component is compiled only once.
    let code = binary().with_file_name("kept-code");
    command.env("CLOAKROOM_SERVER_CODE_CACHE", code);
    command
}

/// A running `cloakroom test`, and a client of its control interface.
struct TestControl {
    running: Host,
    client: reqwest::Client,
}

impl TestControl {
    fn of(guest: &str) -> Self {
        Self::with(guest, "")
    }

    fn with(guest: &str, keys: &str) -> Self {
        let folder = project(guest, STAYS, keys);
        let running = Host::spawn(command(folder.path()), folder);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { running, client }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let request = self.client.request(method, self.running.url(path));
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, value)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.call(Method::GET, path, "").await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    async fn call_ok(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, value) = self.call(method, path, body.to_string()).await;
        assert!(
            status < 300,
            "{path}: {status} {value}\n{}",
            self.running.log()
        );
        value
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call_ok(Method::POST, path, body).await
    }

    /// Starts a new host. Returns its path in the control interface and its URL.
    async fn host(&self) -> (String, String) {
        let (status, started) = self.call(Method::POST, "/hosts", "").await;
        assert_eq!(status, 201, "{started}");
        let url = started["url"].as_str().unwrap().to_owned();
        (format!("/hosts/{}", started["host"]), url)
    }
}

/// Returns the counter's number, or the status of a failed request.
async fn count(browser: &Browser, url: &str) -> String {
    let answer = browser.get(&format!("{url}/session")).await;
    match answer.status {
        200 => answer.text.replace("번 접속", ""),
        status => status.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_one_test_run_are_isolated_from_each_other() {
    let control = TestControl::of("counter");
    let ((one, one_url), (other, other_url)) = (control.host().await, control.host().await);
    let browser = Browser::new();
    assert_eq!(count(&browser, &one_url).await, "1");
    assert_eq!(count(&browser, &one_url).await, "2");
    let cookie = browser.cookies(&one_url).unwrap();
    let same = Browser::with_cookie(&other_url, &cookie);
    assert_eq!(count(&same, &other_url).await, "1", "another store");

    control
        .post(&format!("{one}/clock"), json!({"advance_ms": 7}))
        .await;
    let clocks = [one.clone(), other.clone()].map(|host| format!("{host}/clock"));
    let before = control.get(&clocks[1]).await;
    assert_eq!(control.get(&clocks[1]).await, before, "it stands");
    assert_eq!(control.get(&format!("{other}/counts")).await["requests"], 1);
    assert_eq!(
        control.get(&format!("{one}/counts")).await,
        json!({"requests": 2, "runs": 2, "commits": 2, "conflicts": 0, "reapplies": 0, "reruns": 0})
    );

    let (status, _) = control.call(Method::DELETE, &one, "").await;
    assert_eq!(status, 204);
    assert_eq!(control.call(Method::GET, &clocks[0], "").await.0, 404);
    assert_eq!(
        count(&same, &other_url).await,
        "2",
        "the other host still serves"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_moves_on_ends_sessions() {
    let control = TestControl::with("counter", "[store]\nexpiration = \"1h\"");
    let (host, url) = control.host().await;
    let browser = Browser::new();
    assert_eq!(count(&browser, &url).await, "1");
    let start = control.get(&format!("{host}/clock")).await["now_ms"]
        .as_i64()
        .unwrap();
    let clock = format!("{host}/clock");
    control
        .post(&clock, json!({"advance_ms": 50 * 60_000}))
        .await;
    assert_eq!(
        count(&browser, &url).await,
        "2",
        "each visit restarts the hour"
    );
    let stored = control.get(&format!("{host}/sessions")).await;
    let ends_ms = stored[0]["expires_ms"].as_i64().unwrap();
    assert!((ends_ms - start - 110 * 60_000).abs() <= 1000, "{stored}");

    let moved = control
        .post(&clock, json!({"advance_ms": 61 * 60_000}))
        .await;
    assert_eq!(moved["now_ms"], start + 111 * 60_000);
    assert_eq!(control.get(&format!("{host}/sessions")).await, json!([]));
    assert_eq!(count(&browser, &url).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rivals_commit_makes_the_guest_run_again_and_nothing_is_lost() {
    let control = TestControl::of("counter");
    let (host, url) = control.host().await;
    let browser = Browser::new();
    control
        .post(
            &format!("{host}/rivals"),
            json!({"set": {"num": 41, "by": "rival"}}),
        )
        .await;
    assert_eq!(
        count(&browser, &url).await,
        "1",
        "a new session has no rival"
    );
    assert_eq!(count(&browser, &url).await, "42");
    let counts = control.get(&format!("{host}/counts")).await;
    let expected = json!({"requests": 2, "runs": 3, "commits": 2, "conflicts": 1, "reapplies": 0, "reruns": 1});
    assert_eq!(counts, expected);

    // The guest has not read the changed values, so it does not run again.
    control
        .post(
            &format!("{host}/rivals"),
            json!({"set": {"more": [1]}, "delete": ["by"]}),
        )
        .await;
    assert_eq!(count(&browser, &url).await, "43");
    let counts = control.get(&format!("{host}/counts")).await;
    assert_eq!(
        [&counts["reapplies"], &counts["reruns"], &counts["runs"]],
        [1, 1, 4]
    );
    let stored = control.get(&format!("{host}/sessions")).await;
    assert_eq!(stored[0]["data"], json!({"num": 43, "more": [1]}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_a_rival_destroyed_is_not_written_back() {
    let control = TestControl::of("counter");
    let (host, url) = control.host().await;
    let browser = Browser::new();
    assert_eq!(count(&browser, &url).await, "1");
    control
        .post(&format!("{host}/rivals"), json!({"destroy": true}))
        .await;
    assert_eq!(count(&browser, &url).await, "1", "run again without it");
    assert_eq!(control.get(&format!("{host}/sessions")).await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_is_a_503_and_the_session_is_there_again_afterwards() {
    let control = TestControl::of("counter");
    let (host, url) = control.host().await;
    let browser = Browser::new();
    assert_eq!(count(&browser, &url).await, "1");
    let store = format!("{host}/store");
    control
        .call_ok(Method::PUT, &store, json!({"up": false}))
        .await;
    assert_eq!(count(&browser, &url).await, "503");
    assert_eq!(
        count(&Browser::new(), &url).await,
        "503",
        "nor is there room for a new one"
    );
    control
        .call_ok(Method::PUT, &store, json!({"up": true}))
        .await;
    assert_eq!(count(&browser, &url).await, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_are_swapped_and_a_bad_one_is_refused_with_the_reason() {
    let control = TestControl::of("counter");
    let (host, url) = control.host().await;
    let swap = format!("{host}/swap");
    let browser = Browser::new();
    assert_eq!(count(&browser, &url).await, "1");
    assert_eq!(
        control.post(&swap, json!({})).await["version"],
        2,
        "the same component again"
    );
    assert_eq!(count(&browser, &url).await, "2", "its sessions outlive it");

    let folder = control.running.directory.path();
    std::fs::write(folder.join("next.wasm"), hello(7)).unwrap();
    std::fs::write(folder.join("bad.wasm"), "no component").unwrap();
    for (component, reason) in [
        (
            "bad.wasm",
            "this is a text file, not a WebAssembly component",
        ),
        ("absent.wasm", "absent.wasm"),
    ] {
        let request = json!({"component": component}).to_string();
        let (status, value) = control.call(Method::POST, &swap, request).await;
        assert_eq!(status, 422, "{value}");
        assert!(value["error"].as_str().unwrap().contains(reason), "{value}");
    }
    assert_eq!(
        count(&browser, &url).await,
        "3",
        "the live version still serves"
    );
    control
        .post(&swap, json!({"guest": "g", "component": "next.wasm"}))
        .await;
    let answer = browser.get(&format!("{url}/")).await.text;
    assert_eq!(answer, cloakroom_tests::versions::answer(7));
    control.post(&swap, json!({})).await;
    assert_eq!(
        count(&browser, &url).await,
        "4",
        "its configured file again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_can_be_created_before_the_first_request() {
    let control = TestControl::with(
        "fixture-session",
        "[session]\nname = \"sid\"\n[session.cookie]\nmax_age = \"1h\"\nsecure = true",
    );
    let (host, url) = control.host().await;
    let sessions = format!("{host}/sessions");
    let data = json!({"user": {"name": "ada"}, "num": 1});
    let cookie = control.post(&sessions, json!({"data": data})).await["cookie"].clone();
    let cookie = cookie.as_str().unwrap();
    assert!(cookie.starts_with("sid=s%3A"), "{cookie}");
    let browser = Browser::with_cookie(&url, cookie);
    let answer = browser.post(&url, "get user\nadd num 2\nget num").await;
    assert_eq!(
        answer.text.lines().next(),
        Some(r#"{"name":"ada"}"#),
        "{}",
        answer.text
    );
    let stored = control.get(&sessions).await;
    assert_eq!(
        stored[0]["data"],
        json!({"user": {"name": "ada"}, "num": 3})
    );

    for (data, wrong) in [
        (
            json!({"cookie": {}}),
            "`cookie` is not a valid session key: it is reserved",
        ),
        (json!({"": 1}), "it is empty"),
        (
            json!({"big": "x".repeat(70_000)}),
            "a session may have 65536",
        ),
    ] {
        let request = json!({"data": data}).to_string();
        let (status, value) = control.call(Method::POST, &sessions, request).await;
        assert_eq!(status, 422, "{value}");
        assert!(value["error"].as_str().unwrap().contains(wrong), "{value}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_calls_of_a_test_are_refused_with_reason_and_position() {
    let control = TestControl::of("counter");
    let (host, _) = control.host().await;
    let at = |part: &str| format!("{host}/{part}");
    let large = "x".repeat((1 << 20) + 1);
    let cases = [
        (
            Method::GET,
            "/".to_owned(),
            "",
            404,
            "there is nothing at /",
        ),
        (
            Method::GET,
            "/hosts/x".to_owned(),
            "",
            404,
            "there is nothing at /hosts/x",
        ),
        (Method::GET, at("cloak"), "", 404, "there is nothing at"),
        (
            Method::GET,
            "/hosts/77/clock".to_owned(),
            "",
            404,
            "there is no host 77",
        ),
        (Method::PUT, "/hosts".to_owned(), "", 405, "this takes POST"),
        (Method::DELETE, at("clock"), "", 405, "this takes GET, POST"),
        (
            Method::POST,
            "/hosts".to_owned(),
            "{\"x\": 1}",
            400,
            "unknown field `x`",
        ),
        (
            Method::POST,
            at("clock"),
            "{\"advance_ms\": -1}",
            400,
            "line 1 column",
        ),
        (
            Method::POST,
            at("clock"),
            "{\"advance_ms\": 1e15}",
            400,
            "the body: ",
        ),
        (
            Method::POST,
            at("clock"),
            "{\"advance_ms\": 9000000000000000}",
            422,
            "2099",
        ),
        (Method::POST, at("rivals"), "{}", 400, "does nothing"),
        (
            Method::POST,
            at("rivals"),
            large.as_str(),
            413,
            "1048576 bytes",
        ),
        (Method::PUT, at("store"), "", 400, "missing field `up`"),
        (
            Method::POST,
            at("swap"),
            "{\"guest\": \"h\"}",
            404,
            "there is no guest `h`: the project has g",
        ),
        (
            Method::POST,
            at("sessions"),
            "{\"data\": 1}",
            400,
            "an object of keys and values",
        ),
    ];
    for (method, path, body, status, sentence) in cases {
        let (was, value) = control.call(method.clone(), &path, body.to_owned()).await;
        assert_eq!(was, status, "{method} {path}: {value}");
        let error = value["error"].as_str().expect("a sentence");
        assert!(error.contains(sentence), "{method} {path}: {error}");
    }

    let page = control.client.post(control.running.url("/hosts"));
    let page = page.header("origin", "http://evil.example").send().await;
    assert_eq!(page.unwrap().status(), 403, "no web page drives it");
    let rebound = control.client.post(control.running.url("/hosts"));
    let rebound = rebound.header("host", "evil.example").send().await;
    assert_eq!(rebound.unwrap().status(), 403);
}

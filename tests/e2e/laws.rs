//! The nine laws of the request path, a test each that fails without it.

use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::Mariadb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{id_of, run_script, script, sqlite_rows};

fn scripted(url: &str) -> Config {
    Config::over(url).guest("/s", "fixture-session")
}

/// Law 1: nothing of a response leaves before its session is durably committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_before_the_commit() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port())).start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    proxy.blackhole();
    // The guest is done at once; its head, body and cookie are ready; only the commit is missing.
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    let body = "set n 2";
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let request = format!(
        "POST /s HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    let early =
        tokio::time::timeout(Duration::from_millis(700), stream.read_exact(&mut first)).await;
    assert!(
        early.is_err(),
        "bytes left before the commit: {:?}",
        String::from_utf8_lossy(&first)
    );
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 503");
}

/// Law 2: a trap commits nothing but what the guest saved; a 5xx that the guest returns commits like any answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_commits_only_what_was_saved() {
    let host = scripted("sqlite:sessions.sqlite").start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    assert_eq!(
        run_script(&browser, &host, &["set a 2", "trap"])
            .await
            .status,
        500
    );
    assert_eq!(script(&browser, &host, &["get a"]).await, ["1"]);
    assert_eq!(
        run_script(&browser, &host, &["set a 3", "save", "set a 4", "trap"])
            .await
            .status,
        500
    );
    assert_eq!(script(&browser, &host, &["get a"]).await, ["3"]);
    assert_eq!(
        run_script(&browser, &host, &["set a 5", "status 500"])
            .await
            .status,
        500
    );
    assert_eq!(script(&browser, &host, &["get a"]).await, ["5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cookie_of_a_saved_session_goes_out_with_a_500() {
    let host = scripted("sqlite:sessions.sqlite").start();
    let browser = Browser::new();
    let answer = run_script(&browser, &host, &["set a 1", "save", "trap"]).await;
    assert_eq!((answer.status, answer.set_cookies().len()), (500, 1));
    assert_eq!(script(&browser, &host, &["get a"]).await, ["1"]);
}

/// Law 3: a session that was destroyed is never written back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_session_is_not_written_back() {
    let host = scripted("sqlite:sessions.sqlite").start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let slow = Browser::with_cookie(&host.url("/"), &browser.cookies(&host.url("/")).unwrap());
    let slow = run_script(&slow, &host, &["get n", "sleep 300", "set n 2"]);
    let logout = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        script(&browser, &host, &["destroy"]).await
    };
    let (slow, _) = futures_util::future::join(slow, logout).await;
    assert_eq!((slow.status, slow.text.as_str()), (200, "none\nok\nok\n"));
    assert!(slow.set_cookies().is_empty());
    assert_eq!(
        sqlite_rows(&host.directory.path().join("sessions.sqlite")),
        []
    );
}

/// Law 4: two requests of one session never lose an update.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_updates_are_all_kept() {
    let host = scripted("sqlite:sessions.sqlite")
        .guest("/session", "counter")
        .start();
    let browser = Browser::new();
    browser.get(&host.url("/session")).await;
    let url = host.url("/session");
    let answers = futures_util::future::join_all((0..40).map(|_| browser.get(&url))).await;
    assert!(answers.iter().all(|a| a.status == 200));
    assert_eq!(browser.get(&url).await.text, "42번 접속");
}

/// Law 5: a client that hangs up does not cancel a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_does_not_undo_its_request() {
    let host = scripted("sqlite:sessions.sqlite").start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let body = "set n 2\nsleep 300\nset done true";
    let request = format!(
        "POST /s HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while script(&browser, &host, &["get n", "get done"]).await != ["2", "true"] {
        assert!(std::time::Instant::now() < end, "the commit was cancelled");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Law 6: a guest sees no cookie of ours and cannot set one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_neither_sees_nor_sets_our_cookie() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = Config::over("memory:")
            .guest("/s", "fixture-session")
            .guest("/f", component)
            .start();
        let browser = Browser::new();
        script(&browser, &host, &["set a 1"]).await;
        let (id, cookie) = (
            id_of(&browser, &host),
            browser.cookies(&host.url("/")).unwrap(),
        );
        let both = Browser::with_cookie(&host.url("/"), &cookie);
        let both = both.clone();
        let seen = both.get(&host.url("/f/echo-headers")).await.text;
        assert!(
            !seen.contains(&id) && !seen.contains("connect.sid"),
            "{component}: {seen}"
        );

        let answer = browser.get(&host.url("/f/set-cookie?connect.sid")).await;
        assert_eq!(answer.set_cookies(), ["other=fine"], "{component}");
        host.wait_for_log("a cookie of the session's name").await;
    }
}

/// Law 7: without `session` no store access; without a valid cookie and without a write none either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_need_no_session_cost_no_store_access() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port()))
        .guest_with("/hello", "fixture-hello", "")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    proxy.refuse().await;
    assert_eq!(
        browser.get(&host.url("/hello")).await.text,
        "hello\n",
        "a valid cookie, a guest without sessions"
    );
    let answer = run_script(
        &Browser::new(),
        &host,
        &["get a", "keys", "fingerprint", "cookie"],
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.set_cookies().is_empty());
}

/// Law 8: store down: 503 for a valid cookie with a session call, never an anonymous session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_out_of_reach_is_never_an_anonymous_session() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port()))
        .guest("/f", "fixture-faults")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    proxy.refuse().await;
    let answer = run_script(&browser, &host, &["get a", "status 200"]).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        browser.get(&host.url("/f/")).await.status,
        200,
        "no session call, no refusal"
    );
    proxy.forward().await;
}

/// Law 9: ids, secrets, cookie values and session data appear in no log and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_reaches_the_log() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port()))
        .top("[log]\nlevel = \"trace\"")
        .start();
    let browser = Browser::new();
    let mut said = String::new();
    for lines in [
        &["set k \"MY-DATA\"", "get k"][..],
        &["renew"],
        &["set k \"MY-DATA\"", "trap"],
        &["regenerate", "set k \"MY-DATA\"", "save"],
    ] {
        said += &run_script(&browser, &host, lines)
            .await
            .text
            .replace("\"MY-DATA\"", "");
    }
    let (id, cookie) = (
        id_of(&browser, &host),
        browser.cookies(&host.url("/")).unwrap(),
    );
    proxy.refuse().await;
    said += &run_script(&browser, &host, &["get k"]).await.text;
    let log = host.log() + &said;
    let signature = cookie.split('.').next_back().unwrap();
    for secret in [
        id.as_str(),
        signature,
        cloakroom_tests::host::SECRET,
        "MY-DATA",
        &database.password,
    ] {
        assert!(!log.contains(secret), "the log holds {secret:?}");
    }
    assert!(log.lines().count() > 5, "there is a log to look at");
}

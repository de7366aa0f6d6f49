//! The nine laws of the request path. Each has a test that fails without it.

mod secrecy;

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use cloakroom_tests::wait::{pause, wait_until};
use futures_util::future::{join, join_all};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{id_of, run_script, script};

fn scripted(url: &str) -> Config {
    Config::over(url).guest("/s", "fixture-session")
}

/// Returns the URL of one store of each kind.
async fn stores() -> [String; 3] {
    let database = Mariadb::shared().await.fresh_database().await;
    ["memory:", "sqlite:sessions.sqlite", &database.url].map(str::to_owned)
}

/// Returns a visitor with the same cookie and a separate jar.
fn double(browser: &Browser, host: &Host) -> Browser {
    let cookie = browser.cookies(&host.url("/")).unwrap();
    Browser::with_cookie(&host.url("/"), &cookie)
}

/// Law 1: no byte of a response leaves before its session is durably committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_before_the_commit() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port())).start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let streamed = "set n 2\nheader content-type text/event-stream\nhead";
    for (statement, cookie, body) in [
        ("INSERT", "none=0", "set n 1"),
        ("UPDATE", &cookie, "set n 3"),
        ("UPDATE", &cookie, streamed),
    ] {
        // The guest is finished at once. Its head, body and cookie are ready, and only the commit is missing.
        proxy.disturb(Disturbance {
            loss: Loss::Late(Duration::from_millis(1500)),
            prefix: statement.into(),
            every: 1,
            times: 1,
        });
        let before = proxy.losses();
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let request = request(cookie, body);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(proxy.losses(), before + 1, "bytes left before {statement}");
        assert_eq!(&first, b"HTTP/1.1 200");
    }
}

fn request(cookie: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /s HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Law 2: a trap commits only the changes that the guest saved. A 5xx that the guest returns commits like any other answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_commits_only_saved_changes() {
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

/// Law 3: a destroyed session is never written back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_session_is_not_written_back() {
    for store in stores().await {
        let host = scripted(&store).admin("").start();
        let operator = Operator::of(&host);
        let browser = Browser::new();
        script(&browser, &host, &["set n 1"]).await;
        let (slow, replay) = (double(&browser, &host), double(&browser, &host));
        let before = operator.loads().await;
        let slow = run_script(&slow, &host, &["get n", "sleep 600", "set n 2"]);
        let logout = async {
            operator.wait_for_loads(before + 1).await;
            script(&browser, &host, &["destroy"]).await
        };
        let (slow, _) = join(slow, logout).await;
        is_detached(&slow);
        assert_eq!(script(&replay, &host, &["get n"]).await, ["none"]);
    }
}

/// Law 3: an expired session is never written back, neither by a commit nor by a touch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_is_not_written_back() {
    let host = scripted("sqlite:sessions.sqlite").admin("").start();
    let file = host.directory.path().join("sessions.sqlite");
    let in_sqlite = async || {
        let connection = rusqlite::Connection::open(&file).unwrap();
        let end = "UPDATE sessions SET expires = 1";
        connection.execute(end, ()).unwrap();
    };
    ends_under_a_guest(&host, in_sqlite).await;

    let database = Mariadb::shared().await.fresh_database().await;
    let host = scripted(&database.url).admin("").start();
    let in_mysql = async || {
        for row in database.sessions().await {
            database.overwrite(&row.id, &row.data, 1).await;
        }
    };
    ends_under_a_guest(&host, in_mysql).await;
}

/// Runs guests while `expire` sets the expiry of every row to the past.
async fn ends_under_a_guest(host: &Host, expire: impl AsyncFn()) {
    let operator = Operator::of(host);
    for last in ["set n 2", "touch"] {
        let browser = Browser::new();
        script(&browser, host, &["set n 1"]).await;
        let (slow, replay) = (double(&browser, host), double(&browser, host));
        let before = operator.loads().await;
        let expire = async {
            operator.wait_for_loads(before + 1).await;
            expire().await;
        };
        let lines = ["get n", "sleep 600", last];
        let (slow, ()) = join(run_script(&slow, host, &lines), expire).await;
        if last == "touch" {
            assert_eq!(slow.text, "1\nok\nok\n");
            // The answer does not wait for a touch.
            pause(Duration::from_millis(300), "the touch writes nothing back").await;
        } else {
            is_detached(&slow);
        }
        assert_eq!(script(&replay, host, &["get n"]).await, ["none"], "{last}");
    }
}

/// Asserts that the guest ran again without a session: nothing is stored, and the browser keeps its cookie.
fn is_detached(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, "none\nok\nok\n")
    );
    assert!(answer.set_cookies().is_empty());
}

/// Law 4: two requests of one session never lose an update.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_updates_are_all_kept() {
    for store in stores().await {
        let host = Config::over(&store).guest("/session", "counter").start();
        let browser = Browser::new();
        let url = host.url("/session");
        browser.get(&url).await;
        let answers = join_all((0..40).map(|_| browser.get(&url))).await;
        assert!(answers.iter().all(|a| a.status == 200));
        assert_eq!(browser.get(&url).await.text, "42번 접속");
    }
}

/// Law 5: a client that hangs up does not cancel a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_does_not_undo_its_request() {
    let host = scripted("sqlite:sessions.sqlite").admin("").start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let cookie = browser.cookies(&host.url("/")).unwrap();
    let request = request(&cookie, "set n 2\nsleep 300\nset done true");
    let before = operator.loads().await;
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    operator.wait_for_loads(before + 1).await;
    drop(stream);
    wait_until("the commit is made", Duration::from_secs(5), async || {
        let values = script(&browser, &host, &["get n", "get done"]).await;
        ensure!(values == ["2", "true"], "{values:?}");
        Ok(())
    })
    .await;
}

/// Law 6: a guest never sees the host's cookie and cannot set it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_neither_sees_nor_sets_our_cookie() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = Config::over("memory:")
            .guest("/s", "fixture-session")
            .guest("/f", component)
            .start();
        let browser = Browser::new();
        script(&browser, &host, &["set a 1"]).await;
        let id = id_of(&browser, &host);
        let seen = browser.get(&host.url("/f/echo-headers")).await.text;
        assert!(
            !seen.contains(&id) && !seen.contains("connect.sid"),
            "{component}: {seen}"
        );

        let answer = browser.get(&host.url("/f/set-cookie?connect.sid")).await;
        assert_eq!(answer.set_cookies(), ["other=fine"], "{component}");
        host.wait_for_log("a cookie of the session's name").await;
    }
}

/// Law 7: there is no store access without the grant `session`, nor without a valid cookie unless the guest writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_need_no_session_cost_no_store_access() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port()))
        .guest_with("/hello", "fixture-hello", "")
        .guest("/granted", "fixture-hello")
        .store("clear_expired = false")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    let forged = format!("connect.sid=s%3A{}.forged", id_of(&browser, &host));
    // A delay of zero: each statement is counted and forwarded.
    proxy.disturb(Disturbance {
        loss: Loss::Late(Duration::ZERO),
        prefix: String::new(),
        every: 1,
        times: u32::MAX,
    });
    for is_store_down in [false, true] {
        if is_store_down {
            proxy.refuse().await;
        }
        for path in ["/hello", "/granted"] {
            let hello = browser.get(&host.url(path)).await;
            assert_eq!(hello.text, "hello\n", "a valid cookie, no session");
        }
        for stranger in [
            Browser::new(),
            Browser::with_cookie(&host.url("/"), &forged),
        ] {
            let lines = ["get a", "keys", "fingerprint", "cookie"];
            let answer = run_script(&stranger, &host, &lines).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert!(answer.set_cookies().is_empty());
        }
        if !is_store_down {
            // A request that needs the store runs after any statement of the earlier requests.
            assert_eq!(script(&browser, &host, &["get a"]).await, ["1"]);
            assert_eq!(proxy.losses(), 1, "its own statement is the only one");
        }
    }
}

/// Law 8: while the store is down, a session call with a valid cookie leads to a 503, never to an anonymous session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_out_of_reach_is_never_an_anonymous_session() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = scripted(&database.url_through(proxy.port()))
        .guest("/f", "fixture-faults")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set a 1"]).await;
    proxy.refuse().await;
    let answer = run_script(&browser, &host, &["get a", "status 200"]).await;
    is_refused(&answer);
    assert_eq!(
        browser.get(&host.url("/f/")).await.status,
        200,
        "no session call, no refusal"
    );
    // The store fails while a guest runs. The guest receives the error and handles it in different ways.
    for lines in [
        ["get a", "sleep 300", "reload", "status 200"],
        ["get a", "sleep 300", "save", "status 200"],
        ["get a", "sleep 300", "reload", "trap"],
    ] {
        proxy.forward().await;
        until_answered(&browser, &host).await;
        let before = operator.loads().await;
        let outage = async {
            operator.wait_for_loads(before + 1).await;
            proxy.refuse().await;
        };
        let (answer, ()) = join(run_script(&browser, &host, &lines), outage).await;
        is_refused(&answer);
    }
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some());
    assert!(answer.set_cookies().is_empty());
}

async fn until_answered(browser: &Browser, host: &Host) {
    wait_until("the store answers", Duration::from_secs(15), async || {
        let status = run_script(browser, host, &["get a"]).await.status;
        ensure!(status == 200, "{status}\n{}", host.log());
        Ok(())
    })
    .await;
}

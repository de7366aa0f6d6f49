//! Cookies from attackers on a live host, and cookies larger than browsers accept.

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::chaos_proxy::{ChaosProxy, Disturbance, Loss};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::mariadb::Mariadb;
use reqwest::Method;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ask;
use crate::{id_of, run_script, script};

/// Returns the status of a request whose `Cookie` fields have these bytes.
async fn status(host: &Host, cookies: &[String], body: &str) -> u16 {
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    let mut head = format!(
        "POST /s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for cookie in cookies {
        head += &format!("cookie: {cookie}\r\n");
    }
    // The host may answer and close the connection before it has read everything.
    let _ = stream
        .write_all(format!("{head}\r\n{body}").as_bytes())
        .await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[9..]).parse().unwrap()
}

/// Requirement 22: a head that is too large is refused, and a head within the limit costs at most 16 signature checks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_bomb_is_refused_by_its_size_or_gives_no_session() {
    let host = Config::over("memory:")
        .guest("/s", "fixture-session")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    let good = browser.cookies(&host.url("/")).unwrap();
    for (what, cookies) in [
        (
            "1 MiB of one value",
            vec![format!("a={}", "x".repeat(1 << 20))],
        ),
        ("10,000 cookies", vec!["a=b; ".repeat(10_000)]),
        (
            "10,000 copies of a session's",
            vec![format!("{good}; ").repeat(10_000)],
        ),
        ("200 fields", vec!["a=b".to_owned(); 200]),
    ] {
        assert_eq!(status(&host, &cookies, "get n").await, 431, "{what}");
    }
    // Within the limit: as many forged values as the head can hold, with the genuine one after them.
    let forged: Vec<_> = (0..300)
        .map(|n| format!("connect.sid=s%3A{n:032}.{n:043}"))
        .collect();
    let bomb = format!("{}; {good}", forged.join("; "));
    assert!(bomb.len() < 32 << 10);
    let headers = [("cookie", bomb.as_str())];
    let answer = ask(&host, Method::POST, "/s", &headers, "get n").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "none\n"));
    let rejected = "cloakroom_session_cookies_rejected_total{reason=\"signature\"}";
    assert_eq!(operator.metric(rejected).await, Some(1.0));
    // As many values as the host verifies, including the genuine one, which is accepted.
    let few = format!("{}; {good}", forged[..15].join("; "));
    let headers = [("cookie", few.as_str())];
    let answer = ask(&host, Method::POST, "/s", &headers, "get n").await;
    assert_eq!(answer.text, "1\n");
    assert_eq!(script(&browser, &host, &["get n"]).await, ["1"]);
}

/// Requirement 18: a cookie that browsers would drop is an error of the guest; other cookies come back unchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_that_browsers_would_drop_is_an_error_in_the_guest() {
    let host = Config::over("memory:")
        .guest("/two", "fixture-session")
        .guest("/three", "fixture-session-service")
        .start();
    for path in ["/two", "/three"] {
        let write = async |bytes: usize, signed: bool| {
            let value = "v".repeat(bytes);
            let line =
                format!("set-cookie {{\"name\":\"c\",\"text\":\"{value}\",\"signed\":{signed}}}");
            ask(&host, Method::POST, path, &[], &line).await
        };
        // `c` and the value. A signed value also has `s%3A`, a dot, and 43 characters of which some are escaped.
        for (bytes, signed) in [(4095, false), (3900, true)] {
            let answer = write(bytes, signed).await;
            assert_eq!(answer.text, "ok\n", "{path}");
            let pair = answer.set_cookies()[0].split(';').next().unwrap();
            assert!(pair.len() > bytes, "{path}: it is whole");
        }
        for (bytes, signed) in [(4096, false), (4090, true), (70_000, false)] {
            let answer = write(bytes, signed).await;
            assert!(
                answer
                    .text
                    .starts_with("error invalid: name and value have")
            );
            assert!(answer.set_cookies().is_empty(), "{path}");
        }
    }
}

/// Requirement 18: the session's own cookie stays small, whatever the session contains and however long its names are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_cookie_stays_within_the_size_limit_of_browsers() {
    let name = "n".repeat(256);
    let path = format!("/{}", "p".repeat(1023));
    let host = Config::over("memory:")
        .session(&format!("name = \"{name}\""))
        .session(&format!(
            "cookie = {{ path = \"{path}\", max_age = \"9600h\" }}"
        ))
        .guest("/", "fixture-session")
        .start();
    let big = format!("set big \"{}\"", "x".repeat(60_000));
    let answer = ask(&host, Method::POST, &path, &[], &big).await;
    assert_eq!(answer.text, "ok\n");
    let set = answer.set_cookies()[0];
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert!(pair.len() <= 4096, "{} bytes", pair.len());
    let longest = attributes.split("; ").map(|attribute| {
        let (_, value) = attribute.split_once('=').unwrap_or_default();
        value.len()
    });
    assert!(longest.max() <= Some(1024), "{attributes}");
    assert!(attributes.contains("; Expires="), "{attributes}");
}

/// Requirement 38: a flood of guessed ids does not reach the store, and every guess is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_guesses_is_counted_and_asks_the_store_nothing() {
    const GUESSES: usize = 2_000;
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let host = Config::over(&database.url_through(proxy.port()))
        .store("clear_expired = false")
        .guest("/s", "fixture-session")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let visitor = Browser::new();
    script(&visitor, &host, &["set n 1"]).await;
    let id = id_of(&visitor, &host);
    // A delay of zero: each statement is counted and forwarded. The host's statements about the server itself begin with SHOW and are not
    // counted.
    proxy.disturb(Disturbance {
        loss: Loss::Late(Duration::ZERO),
        prefix: "SELECT ".to_owned(),
        every: 1,
        times: u32::MAX,
    });
    for batch in 0..GUESSES / 50 {
        let guesses = (0..50).map(|n| {
            // Half of them guess the id, and half guess the signature of an existing id.
            let value = match n % 2 {
                0 => format!("s%3A{:032}.{}", batch * 50 + n, "A".repeat(43)),
                _ => format!("s%3A{id}.{:043}", batch * 50 + n),
            };
            let guesser = Browser::with_cookie(&host.url("/"), &format!("connect.sid={value}"));
            let host = &host;
            async move { run_script(&guesser, host, &["get n"]).await }
        });
        for answer in futures_util::future::join_all(guesses).await {
            assert_eq!((answer.status, answer.text.as_str()), (200, "none\n"));
        }
    }
    assert_eq!(proxy.losses(), 0, "statements for guesses");
    let rejected = "cloakroom_session_cookies_rejected_total{reason=\"signature\"}";
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let expected = GUESSES as f64;
    assert_eq!(operator.metric(rejected).await, Some(expected));
    assert_eq!(script(&visitor, &host, &["get n"]).await, ["1"]);
}

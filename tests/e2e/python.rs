//! The Python SDK on the real host: a Python handler's access to its session, its cookies and its answers. The guest is
//! `guests/sdk/python/tests/component`, with all of `guests/sdk/python/examples`.

use std::sync::Once;

use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::{Config, Host};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{id_of, sqlite_rows};

fn config() -> Config {
    guest("session = \"write\"")
}

/// Returns the configuration of a host with this guest and these keys. The first call compiles the guest for all tests, which takes
/// seconds.
fn guest(keys: &str) -> Config {
    static COMPILED: Once = Once::new();
    let config = Config::over("sqlite:sessions.sqlite").guest_with("/", "python-examples", keys);
    COMPILED.call_once(|| drop(config.start()));
    config
}

async fn post(browser: &Browser, host: &Host, path: &str) -> Answer {
    browser.post(&host.url(path), "").await
}

async fn send(
    browser: &Browser,
    host: &Host,
    method: Method,
    path: &str,
    body: impl Into<reqwest::Body>,
) -> Answer {
    let answer = browser.try_send(method, &host.url(path), body).await;
    answer.expect("an answer")
}

/// Returns the whole session as the handler sees it.
async fn seen(browser: &Browser, host: &Host) -> Value {
    body(&browser.get(&host.url("/seen")).await)
}

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.text)
        .unwrap_or_else(|error| panic!("{error}: {} {}", answer.status, answer.text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_within_a_value_is_stored() {
    let host = config().start();
    let browser = Browser::new();
    for (item, price) in [("pear", "3"), ("fig", "5.5")] {
        let url = host.url(&format!("/cart/{item}"));
        let answer = browser.post(&url, format!("{{\"price\":{price}}}")).await;
        assert_eq!(answer.status, 201, "{}\n{}", answer.text, host.log());
    }
    let removed = send(&browser, &host, Method::DELETE, "/cart/0", "").await;
    assert_eq!(removed.status, 200);
    assert_eq!(
        seen(&browser, &host).await,
        json!({"cart": {"items": [{"item": "fig", "price": 5.5}]}, "items_added": 2})
    );
    let rows = sqlite_rows(&host.directory.path().join("sessions.sqlite"));
    assert!(
        rows[0]
            .2
            .contains(r#""cart":{"items":[{"item":"fig","price":5.5}]}"#),
        "{rows:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_within_a_value_that_comes_too_late_cuts_the_answer() {
    let host = config().start();
    let browser = Browser::new();
    let answer = browser.try_send(Method::POST, &host.url("/late"), "").await;
    assert!(answer.is_err(), "{answer:?}");
    host.wait_for_log("session['items'] was changed in place: the response has been released")
        .await;
    assert_eq!(post(&browser, &host, "/early").await.text, "ab");
    let stored = seen(&Browser::new(), &host).await;
    assert_eq!(stored, json!({}), "another visitor's");
    assert_eq!(seen(&browser, &host).await, json!({"items": [1, 2]}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_value_that_the_session_dropped_is_an_error() {
    let host = config().start();
    for how in ["destroy", "regenerate", "reload", "unset"] {
        let browser = Browser::new();
        let answer = post(&browser, &host, &format!("/dropped/{how}")).await;
        assert_eq!(answer.status, 500, "{how}: {}", answer.text);
        assert_eq!(answer.set_cookies(), [""; 0], "{how}");
        host.wait_for_log(&format!(
            "session['value'] was changed after {how}() had dropped it"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn integers_of_any_size_stay_exact() {
    let host = config().start();
    let browser = Browser::new();
    for digits in [
        "9007199254740993".to_owned(),
        "18446744073709551616".to_owned(),
        "1".repeat(6000),
    ] {
        let put = send(&browser, &host, Method::PUT, "/seen/n", digits.clone()).await;
        assert_eq!(put.status, 200, "{}", host.log());
        let grown = post(&browser, &host, "/big/n").await;
        assert_eq!(grown.text, digits.len().to_string(), "{}", host.log());
        let rows = sqlite_rows(&host.directory.path().join("sessions.sqlite"));
        let last = digits.as_bytes()[digits.len() - 1] - b'0' + 1;
        let sum = format!("\"n\":{}{last}", &digits[..digits.len() - 1]);
        assert!(rows[0].2.contains(&sum), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_renewed_regenerated_saved_reloaded_and_destroyed() {
    let host = config().start();
    for (how, after, is_same, stored) in [
        (
            "renew",
            json!({"old": 1, "more": {"n": 2}}),
            false,
            json!({"old": 1, "more": {"n": 2}}),
        ),
        ("regenerate", json!({}), false, json!({})),
        (
            "save",
            json!({"old": 1, "more": {"n": 2}}),
            true,
            json!({"old": 1, "more": {"n": 2}}),
        ),
        ("reload", json!({"old": 1}), true, json!({"old": 1})),
        ("destroy", json!({}), false, json!({})),
        ("unset", json!({}), false, json!({})),
    ] {
        let browser = Browser::new();
        let put = send(&browser, &host, Method::PUT, "/seen/old", "1").await;
        assert_eq!(put.status, 200);
        let answer = post(&browser, &host, &format!("/lives/{how}")).await;
        assert_eq!(answer.status, 200, "{how}\n{}", host.log());
        let received = json!({"before": ["old"], "after": after, "same": is_same});
        assert_eq!(body(&answer), received, "{how}");
        assert_eq!(seen(&browser, &host).await, stored, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_session_call_is_an_exception_with_a_code() {
    let host = config().start();
    let refused = post(&Browser::new(), &host, "/refused").await;
    assert_eq!(
        body(&refused),
        json!([
            "Invalid invalid",
            "TooLarge too-large",
            "Invalid invalid",
            "Invalid invalid",
            "invalid"
        ])
    );
    let host = guest("session = \"read\"").start();
    let denied = Browser::new()
        .try_send(Method::POST, &host.url("/guarded/spend/1"), "")
        .await
        .unwrap();
    assert_eq!(denied.status, 507, "{}", host.log());
    assert_eq!(body(&denied)["error"], "denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_fails_stores_nothing_and_its_traceback_is_in_the_log() {
    let host = config().start();
    let browser = Browser::new();
    let failed = post(&browser, &host, "/fail").await;
    assert_eq!(failed.status, 500);
    assert!(!failed.text.contains("reason"), "{}", failed.text);
    host.wait_for_log("LookupError: a reason for the log alone")
        .await;
    let log = host.log();
    for line in ["File \"/0/app.py\", line", "raise LookupError("] {
        assert!(log.contains(line), "{log}");
    }
    assert_eq!(browser.cookies(&host.url("/")), None);
    let header = browser.get(&host.url("/bad-header")).await;
    assert_eq!(header.status, 500);
    host.wait_for_log("the host refused a header of the response (forbidden): transfer-encoding")
        .await;
    browser.get(&host.url("/prints")).await;
    host.wait_for_log("printed by python").await;
    host.wait_for_log("warned by python").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_numbers_are_others_in_each_instance() {
    let host = config().start();
    let url = host.url("/random");
    let first = body(&Browser::new().get(&url).await);
    let second = body(&Browser::new().get(&url).await);
    for kind in 0..3 {
        assert!(
            !first[kind].is_null() && first[kind] != second[kind],
            "{first}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_input_of_a_visitor_is_400_and_ends_no_instance() {
    let host = guest("session = \"write\"\nreuse = 1000").start();
    let browser = Browser::new();
    for bytes in ["{", "\u{feff}\u{0}", &"[".repeat(30_000), &"[".repeat(129)] {
        let put = send(&browser, &host, Method::PUT, "/seen/x", bytes.to_owned()).await;
        assert_eq!(put.status, 400, "{}", host.log());
    }
    let deepest = format!("{}{}", "[".repeat(128), "]".repeat(128));
    let put = send(&browser, &host, Method::PUT, "/seen/x", deepest).await;
    assert_eq!(put.status, 200, "{}", host.log());
    let missing = browser.get(&host.url("/globals")).await;
    assert_eq!(
        (missing.status, missing.text.as_str()),
        (400, "400 'who' is missing\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_handlers_and_hooks_answer_for_their_own_routes() {
    let host = config().start();
    let browser = Browser::new();
    let spent = post(&browser, &host, "/guarded/spend/8").await;
    assert_eq!(body(&spent), json!({"left": 2}));
    assert_eq!(spent.header("x-content-type-options"), Some("nosniff"));
    let refused = post(&browser, &host, "/guarded/spend/8").await;
    assert_eq!(
        (refused.status, body(&refused)),
        (402, json!({"error": "2 left"}))
    );
    let big = post(&browser, &host, "/guarded/big").await;
    assert_eq!(
        (big.status, &body(&big)["error"]),
        (507, &json!("too-large"))
    );
    assert_eq!(seen(&browser, &host).await, json!({"purse": 2}));

    let unknown = browser.get(&host.url("/unknown")).await;
    assert_eq!(
        (unknown.status, unknown.text.as_str()),
        (404, "404 Not Found\n")
    );
    let wrong = post(&browser, &host, "/seen").await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let index = send(&browser, &host, Method::DELETE, "/cart/7", "").await;
    assert_eq!(index.text, "404 there is no such item\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_attributes_of_the_session_s_cookie_are_texts_numbers_and_flags() {
    let host = config().start();
    let plain = body(&Browser::new().get(&host.url("/attributes")).await);
    let expected = json!({ "original_max_age": null, "expires": null, "path": "/", "domain": null, "http_only": true,
        "secure": false, "same_site": "lax", "partitioned": false, "priority": null });
    assert_eq!(plain, expected);
    let cookie = "cookie = { same_site = \"none\", secure = true, priority = \"high\" }";
    let host = config().session(cookie).start();
    let chosen = body(&Browser::new().get(&host.url("/attributes")).await);
    assert_eq!(
        (&chosen["same_site"], &chosen["priority"]),
        (&json!("none"), &json!("high"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_are_set_read_and_dropped_and_a_forged_one_is_not_there() {
    let host = config().start();
    let browser = Browser::new();
    let url = host.url("/preferences");
    let fresh = json!({"theme": "light", "plan": "free", "columns": []});
    assert_eq!(body(&browser.get(&url).await), fresh);
    let chosen = post(&browser, &host, "/preferences/dark").await;
    let cookies = chosen.set_cookies();
    assert!(
        cookies[0].starts_with("theme=dark; Max-Age=31536000; Path=/; Expires="),
        "{cookies:?}"
    );
    assert!(cookies[1].starts_with("plan=s%3Agold."), "{cookies:?}");
    assert_eq!(
        cookies[2],
        "columns=j%3A%5B%22name%22%2C%22price%22%5D; Path=/"
    );
    let set = json!({"theme": "dark", "plan": "gold", "columns": ["name", "price"]});
    assert_eq!(body(&browser.get(&url).await), set);

    let forged = Browser::with_cookie(&url, "plan=s%3Aplatinum.AAAA");
    assert_eq!(body(&forged.get(&url).await), fresh);
    let forgotten = browser.try_send(Method::DELETE, &url, "").await.unwrap();
    assert_eq!(forgotten.status, 204);
    assert_eq!(browser.cookies(&url), None, "the browser dropped them all");
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_by_form_renews_the_id_and_messages_are_shown_once() {
    let host = config().start();
    let (browser, url) = (Browser::new(), host.url("/login"));
    let wrong = browser
        .send(Method::POST, &url, FORM, "user=ada&password=x")
        .await;
    assert_eq!(
        (wrong.status, wrong.header("location")),
        (303, Some("/login"))
    );
    let before = id_of(&browser, &host);
    assert!(
        browser
            .get(&url)
            .await
            .text
            .starts_with("<p>That is not right.</p>")
    );
    assert!(browser.get(&url).await.text.starts_with("<form"));

    let right = browser
        .send(
            Method::POST,
            &url,
            FORM,
            "user=ada&password=lovelace&remember=on",
        )
        .await;
    assert_eq!(
        (right.status, right.header("location")),
        (303, Some("/account")),
        "{}",
        host.log()
    );
    let until = right.set_cookies()[0].contains("Expires=");
    assert!(until, "remembered: {:?}", right.set_cookies());
    assert_ne!(id_of(&browser, &host), before);
    assert_eq!(
        browser.get(&host.url("/account")).await.text,
        "<h1>ada</h1>"
    );
    post(&browser, &host, "/logout").await;
    assert_eq!(browser.get(&host.url("/account")).await.status, 303);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_and_files_arrive_whole() {
    let host = config().start();
    let browser = Browser::new();
    let echo = host.url("/echo?a=1&a=%EA%B0%80");
    let answer = browser
        .send(Method::POST, &echo, FORM, "f=a+b&f=%EB%82%98")
        .await;
    let received =
        json!({"method": "POST", "args": ["1", "가"], "form": ["a b", "나"], "length": 17});
    assert_eq!(body(&answer), received);

    let url = host.url("/echo?when=2026-11-26");
    let legacy = b"\xb0\xa1".to_vec();
    let answer = browser
        .send(Method::POST, &url, "text/plain; charset=EUC-KR", legacy)
        .await;
    assert_eq!(answer.text, "2026-11-26가", "{}", host.log());

    let file: Vec<u8> = (0..300_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    let mut form = b"--edge\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nmine\r\n--edge\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: image/png\r\n\r\n"
        .to_vec();
    form.extend(&file);
    form.extend(b"\r\n--edge--\r\n");
    let kind = "multipart/form-data; boundary=edge";
    let answer = browser
        .send(Method::POST, &host.url("/upload"), kind, form)
        .await;
    let received = body(&answer);
    assert_eq!(
        (&received["title"], &received["name"], &received["type"]),
        (&json!("mine"), &json!("a.bin"), &json!("image/png"))
    );
    // The digest that Python's hashlib computes of the same bytes.
    assert_eq!(
        received["sha256"],
        "d5397f395028a36a877582420027c07a9dffa109caf6625ee9fb42ba86859168"
    );
    let broken = browser
        .send(Method::POST, &host.url("/upload"), kind, "--edge\r\n")
        .await;
    assert_eq!(broken.status, 400, "{}", broken.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_may_come_piece_by_piece() {
    let host = config().start();
    let browser = Browser::new();
    let numbers = browser.get(&host.url("/numbers/50000")).await.text;
    let lines: Vec<_> = numbers.lines().collect();
    assert_eq!((lines.len(), lines[49_999]), (50_000, "49999"));
    let ticks = browser.get(&host.url("/ticks")).await;
    assert_eq!(ticks.header("content-type"), Some("text/event-stream"));
    assert_eq!(ticks.text, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    assert_eq!(seen(&browser, &host).await, json!({"streams": 1}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_reused_carries_nothing_from_visitor_to_visitor() {
    let host = guest("session = \"write\"\nreuse = 1000").start();
    let (anna, bela) = (Browser::new(), Browser::new());
    for round in 1..=5 {
        for (browser, who) in [(&anna, "anna"), (&bela, "bela")] {
            let received = body(&browser.get(&host.url(&format!("/globals?who={who}"))).await);
            assert_eq!(received["mine"], json!(vec![who; round]), "{received}");
            assert_eq!(received["flashed"], json!([]), "{received}");
            let requests = (round - 1) * 2 + if who == "anna" { 1 } else { 2 };
            assert_eq!(received["requests"], requests, "one instance serves all");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_of_one_session_lose_nothing() {
    let host = config().start();
    let browser = Browser::new();
    assert_eq!(browser.get(&host.url("/slow")).await.text, "1");
    let url = host.url("/slow");
    let mut sums: Vec<u32> = join_all((0..6).map(|_| browser.get(&url)))
        .await
        .iter()
        .map(|answer| answer.text.parse().unwrap())
        .collect();
    sums.sort_unstable();
    assert_eq!(sums, [2, 3, 4, 5, 6, 7], "{}", host.log());
}

//! Visitors whose browser holds several genuine cookies with the session's name: no visitor is locked out, and none leaves rows behind.

use std::path::Path;
use std::time::Duration;

use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::pause;
use reqwest::Client;
use reqwest::header::COOKIE;

use crate::{id_of, run_script, script, sqlite_rows};

const SITE: &str = "www.example.com";
const FIELDS_MAX: usize = 16;

fn config(database: &Path) -> Config {
    Config::over(&format!("sqlite:{}", database.display()))
        .store("clear_expired = false")
        .guest("/s", "fixture-session")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Creates a session. Returns its cookie as a browser sends it.
async fn live(host: &Host, value: &str) -> String {
    let browser = Browser::new();
    script(&browser, host, &[&format!("set n {value}")]).await;
    browser.cookies(&host.url("/")).unwrap()
}

/// Creates a session and ends it. Returns its cookie, which is genuine and matches no session.
async fn dead(host: &Host) -> String {
    let cookie = live(host, "0").await;
    let browser = Browser::with_cookie(&host.url("/"), &cookie);
    script(&browser, host, &["destroy"]).await;
    cookie
}

/// Sends exactly these cookies to the site, regardless of a browser's rules.
async fn ask(host: &Host, cookies: &[String], line: &str) -> Answer {
    let request = Client::builder().no_proxy().build().unwrap();
    let request = request
        .post(host.url("/s/cart"))
        .header("host", SITE)
        .header(COOKIE, cookies.join("; "))
        .body(line.to_owned());
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// Returns the value of an attribute of a field.
fn attribute<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = field.split("; ").skip(1);
    parts.find_map(|part| {
        let (own, value) = part.split_once('=')?;
        (own == name).then_some(value)
    })
}

fn is_end(field: &str) -> bool {
    field.starts_with("connect.sid=;") && field.contains("Expires=Thu, 01 Jan 1970")
}

/// The configuration gets a `Domain`. An open browser keeps its old cookie, which is for the host only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding_a_cookie_domain_locks_no_visitor_out() {
    let (folder, expiration) = (folder(), Duration::from_secs(5));
    let database = folder.path().join("sessions.sqlite");
    let config = |cookie: &str| {
        let expiration = format!("expiration = \"{}s\"", expiration.as_secs());
        config(&database).store(&expiration).session(cookie)
    };
    let login = "set user \"ada\"";
    let before = config("").start();
    let visitor = Browser::resolving(&[SITE], before.address());
    let url = |host: &Host| format!("http://{SITE}:{}/s", host.address().port());
    visitor.post(&url(&before), login).await;
    drop(before);

    let after = config("cookie = { domain = \"example.com\" }").start();
    let url = url(&after);
    pause(expiration + Duration::from_secs(2), "the session expires").await;
    for number in 1..=3 {
        let answer = visitor.post(&url, login).await;
        assert_eq!(answer.status, 200, "login {number}");
        let user = visitor.post(&url, "get user").await.text;
        assert_eq!(user, "\"ada\"\n", "after login {number}");
    }
    let held = visitor.cookies(&url).unwrap();
    assert_eq!(
        held.matches("connect.sid=").count(),
        1,
        "one cookie is left"
    );
    let rows = sqlite_rows(&database);
    assert_eq!(rows.len(), 2, "the one that expired and the visitor's");
    // No cookie is expired any more.
    let answer = visitor.post(&url, "get user").await;
    assert_eq!(answer.set_cookies(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_live_sessions_neither_is_used_and_all_cookies_are_expired() {
    let folder = folder();
    let database = folder.path().join("sessions.sqlite");
    let host = config(&database).admin("").start();
    let cookies = [live(&host, "1").await, live(&host, "2").await];

    let read = ask(&host, &cookies, "get n").await;
    assert_eq!((read.status, read.text.as_str()), (200, "none\n"));
    let write = ask(&host, &cookies, "set n 3").await;
    assert_eq!(write.status, 409, "{}", write.text);
    assert!(write.text.contains("several sessions"), "{}", write.text);
    for answer in [&read, &write] {
        let fields = answer.set_cookies();
        assert!((1..=FIELDS_MAX).contains(&fields.len()));
        assert!(fields.iter().all(|field| is_end(field)), "{fields:?}");
        let places: Vec<_> = fields
            .iter()
            .map(|field| (attribute(field, "Domain"), attribute(field, "Path")))
            .collect();
        for domain in [None, Some(SITE), Some("example.com")] {
            for path in ["/", "/s", "/s/cart"] {
                assert!(places.contains(&(domain, Some(path))), "{domain:?} {path}");
            }
        }
    }
    assert_eq!(sqlite_rows(&database).len(), 2, "nothing was stored");
    host.wait_for_log("valid cookies of several sessions was refused")
        .await;
    let operator = cloakroom_tests::admin::Operator::of(&host);
    let refused = operator.metric("cloakroom_session_several_refused_total");
    assert_eq!(refused.await, Some(1.0));

    // A browser with both cookies in its jar: its second request can write.
    let visitor = Browser::resolving(&[SITE], host.address());
    let url = format!("http://{SITE}:{}/s", host.address().port());
    visitor.keep(&url, &format!("{}; Path=/", cookies[0]));
    visitor.keep(&url, &format!("{}; Path=/; Domain=example.com", cookies[1]));
    assert_eq!(visitor.post(&url, "set n 3").await.status, 409);
    assert_eq!(visitor.cookies(&url), None, "both were dropped");
    assert_eq!(visitor.post(&url, "set n 3").await.status, 200);
    assert_eq!(visitor.post(&url, "get n").await.text, "3\n");
    assert_eq!(sqlite_rows(&database).len(), 3);
}

/// The configuration gets the host's own name as `Domain`: browsers keep both cookies, and some clients only one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_response_expires_a_dead_host_only_cookie_beside_a_domain_cookie() {
    let folder = folder();
    let database = folder.path().join("sessions.sqlite");
    let domain = format!("cookie = {{ domain = \"{SITE}\" }}");
    let host = config(&database).session(&domain).start();
    let login = async || {
        let answer = ask(&host, &[], "set user \"ada\"").await;
        answer.set_cookies()[0]
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    };
    let (kept, ended) = (login().await, login().await);
    ask(&host, std::slice::from_ref(&ended), "destroy").await;
    let answer = ask(&host, &[ended, kept.clone()], "get user").await;
    assert_eq!(answer.text, "\"ada\"\n");
    let fields = answer.set_cookies();
    let is_of_host = |field: &str| {
        is_end(field)
            && attribute(field, "Domain").is_none()
            && attribute(field, "Path") == Some("/")
    };
    assert!(fields.iter().any(|field| is_of_host(field)), "{fields:?}");
    let last = fields[fields.len() - 1];
    assert!(last.starts_with(&kept), "the live one is set behind them");
    assert_eq!(attribute(last, "Domain"), Some(SITE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logout_ends_every_session_whose_cookie_came() {
    let folder = folder();
    let database = folder.path().join("sessions.sqlite");
    let host = config(&database).start();
    for count in [2, 4, 6] {
        let mut cookies = Vec::new();
        for _ in 0..count {
            cookies.push(live(&host, "1").await);
        }
        let logout = ask(&host, &cookies, "destroy").await;
        assert_eq!((logout.status, logout.text.as_str()), (200, "ok\n"));
        assert_eq!(sqlite_rows(&database), [], "{count}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_duplicates_are_expired_for_host_prefixed_cookie_names() {
    let folder = folder();
    let host = config(&folder.path().join("sessions.sqlite"))
        .session("name = \"__Host-sid\"\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .session("cookie = { secure = true }")
        .start();
    let client = Client::builder().no_proxy().build().unwrap();
    let ask = async |cookie: &str, line: &str| {
        let request = client.post(host.url("/s")).header("host", SITE);
        let request = request.header("x-forwarded-proto", "https");
        let request = request.header(COOKIE, cookie).body(line.to_owned());
        request.send().await.unwrap()
    };
    let cookie = async |line: &str| {
        let answer = ask("a=b", line).await;
        let field = answer.headers()["set-cookie"].to_str().unwrap();
        field.split(';').next().unwrap().to_owned()
    };
    let (one, other) = (cookie("set n 1").await, cookie("set n 2").await);
    assert_eq!(ask(&other, "destroy").await.status(), 200);
    let answer = ask(&format!("{other}; {one}"), "get n").await;
    assert!(answer.headers().get("set-cookie").is_none());
    assert_eq!(answer.text().await.unwrap(), "1\n");
}

/// Random sets of cookies lead to at most one session, no row without a cookie, and a bounded number of fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_set_of_cookies_is_one_session_at_most() {
    let folder = folder();
    let database = folder.path().join("sessions.sqlite");
    let host = config(&database).start();
    let (mut lives, mut deads) = (Vec::new(), Vec::new());
    for n in 0..4 {
        lives.push(live(&host, &n.to_string()).await);
        deads.push(dead(&host).await);
    }
    let forged = format!("connect.sid=s%3A{}.{}", "a".repeat(32), "b".repeat(43));
    let mut rows = lives.len();
    for bits in 0_u32..256 {
        let is_in = |bit: usize| (bits >> bit) & 1 == 1;
        let (alive, gone): (Vec<usize>, Vec<usize>) =
            (0..8).filter(|n| is_in(*n)).partition(|n| *n < 4);
        let mut cookies: Vec<String> = vec![forged.clone()];
        cookies.extend(gone.iter().map(|n| deads[n - 4].clone()));
        cookies.extend(alive.iter().map(|n| lives[*n].clone()));
        let first = bits as usize % cookies.len();
        cookies.rotate_left(first);
        let is_one = alive.len() == 1 && alive.len() + gone.len() <= 4;
        let is_new = alive.is_empty() && gone.len() <= 4;

        let read = ask(&host, &cookies, "get n").await;
        let expected = match is_one {
            true => format!("{}\n", alive[0]),
            false => "none\n".to_owned(),
        };
        assert_eq!((read.status, read.text), (200, expected), "{bits:08b}");
        let write = ask(&host, &cookies, "set other 1").await;
        let status = if is_one || is_new { 200 } else { 409 };
        assert_eq!(write.status, status, "{bits:08b}: {}", write.text);
        rows += usize::from(is_new);
        assert_eq!(sqlite_rows(&database).len(), rows, "{bits:08b}");

        let fields = write.set_cookies();
        assert!(fields.len() <= FIELDS_MAX, "{bits:08b}");
        let set: Vec<_> = fields.iter().filter(|field| !is_end(field)).collect();
        // Some clients drop the live cookie together with the cookie of its domain. So the live cookie is set again, after the other
        // fields.
        let is_set = is_new || is_one && alive.len() + gone.len() > 1;
        assert_eq!(set.len(), usize::from(is_set), "{bits:08b}: {fields:?}");
        assert!(!is_set || !is_end(fields[fields.len() - 1]), "{fields:?}");
        if is_one || is_new {
            let is_own = |field: &&&str| {
                is_end(field)
                    && attribute(field, "Domain").is_none()
                    && attribute(field, "Path") == Some("/")
            };
            assert_eq!(fields.iter().find(is_own), None, "{bits:08b}");
        }
        if alive.len() + gone.len() <= 1 {
            assert!(fields.len() <= 1, "one valid cookie, one field");
        }
    }
}

/// A dead cookie that a browser sends in addition to the live one is removed by one answer, and the browser keeps the live one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_response_expires_a_dead_cookie_beside_the_live_one() {
    let folder = folder();
    let host = config(&folder.path().join("sessions.sqlite")).start();
    let (ended, kept) = (dead(&host).await, live(&host, "7").await);
    let visitor = Browser::resolving(&[SITE], host.address());
    let url = format!("http://{SITE}:{}/s", host.address().port());
    visitor.keep(&url, &format!("{ended}; Path=/; Domain=example.com"));
    visitor.keep(&url, &format!("{kept}; Path=/"));
    assert_eq!(visitor.post(&url, "get n").await.text, "7\n");
    assert_eq!(visitor.cookies(&url).as_deref(), Some(kept.as_str()));
    let again = visitor.post(&url, "increment n 1").await;
    assert_eq!((again.text.as_str(), again.set_cookies().len()), ("8\n", 0));

    // The same visitor without the site's host name: the session is complete.
    let same = Browser::with_cookie(&host.url("/"), &kept);
    assert_eq!(run_script(&same, &host, &["get n"]).await.text, "8\n");
    assert!(!id_of(&same, &host).is_empty());
}

//! The session's cookie on every kind of answer: 4xx, 5xx, redirects, HEAD, 204, 304, streams, and answers that expire the cookie.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use reqwest::Method;

use super::ask;
use crate::script;

/// Starts a host with a production cookie that trusts a local proxy which terminates TLS.
fn host() -> Host {
    Config::over("memory:")
        .session("name = \"__Host-sid\"\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .session("cookie = { secure = true, same_site = \"strict\", max_age = \"1h\" }")
        .guest("/s", "fixture-session")
        .guest("/service", "fixture-session-service")
        .start()
}

const HTTPS: (&str, &str) = ("x-forwarded-proto", "https");

/// Returns the attributes of a `Set-Cookie` field except `Expires`, and whether that is in the past.
fn attributes(field: &str) -> (Vec<&str>, bool) {
    let mut is_over = false;
    let mut found: Vec<_> = field.split("; ").skip(1).collect();
    found.retain(|attribute| match attribute.strip_prefix("Expires=") {
        Some(at) => {
            is_over = at == "Thu, 01 Jan 1970 00:00:00 GMT";
            false
        }
        None => true,
    });
    (found, is_over)
}

/// Requirements 14, 15, 16 and 43.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_sets_the_cookie_with_all_its_attributes_and_is_not_kept_by_caches() {
    let host = host();
    for path in ["/s", "/service"] {
        for status in [
            200, 201, 204, 301, 302, 303, 304, 307, 400, 401, 404, 418, 500, 503,
        ] {
            for method in [Method::GET, Method::HEAD, Method::POST] {
                let lines = format!("set n 1\nheader location /s\nstatus {status}");
                let (path, body) = match method {
                    Method::POST => (path.to_owned(), lines),
                    _ => {
                        let ops = lines.replace(' ', "%20").replace('\n', "%0A");
                        (format!("{path}?ops={ops}"), String::new())
                    }
                };
                let answer = ask(&host, method.clone(), &path, &[HTTPS], &body).await;
                let what = format!("{method} {path} {status}");
                assert_eq!(answer.status, status, "{what}: {}", answer.text);
                let set = answer.set_cookies();
                assert_eq!(set.len(), 1, "{what}: {set:?}");
                assert!(set[0].starts_with("__Host-sid=s%3A"), "{what}: {set:?}");
                let expected = ["Path=/", "HttpOnly", "Secure", "SameSite=Strict"];
                assert_eq!(attributes(set[0]), (expected.to_vec(), false), "{what}");
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
                assert_eq!(answer.header("vary"), Some("Cookie"), "{what}");
            }
        }
    }
}

/// Requirements 14, 16 and 17: the field that expires a cookie has all attributes of the field that created it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_cookie_repeats_its_attributes_on_every_answer() {
    let host = host();
    for status in [200, 204, 302, 304, 401, 500] {
        for (method, lines) in [
            (Method::POST, "destroy"),
            (Method::HEAD, "destroy"),
            (Method::POST, "unset"),
        ] {
            let begun = ask(&host, Method::POST, "/s", &[HTTPS], "set n 1").await;
            let set = begun.set_cookies()[0].to_owned();
            let (cookie, _) = set.split_once(';').unwrap();
            let query = format!("/s?ops={lines}%0Astatus%20{status}");
            let answer = ask(
                &host,
                method.clone(),
                &query,
                &[HTTPS, ("cookie", cookie)],
                "",
            )
            .await;
            let what = format!("{method} {lines} {status}");
            assert_eq!(answer.status, status, "{what}: {}", answer.text);
            let ended = answer.set_cookies();
            assert_eq!(ended.len(), 1, "{what}: {ended:?}");
            assert!(ended[0].starts_with("__Host-sid=;"), "{what}: {ended:?}");
            assert_eq!(attributes(ended[0]).0, attributes(&set).0, "{what}");
            assert!(attributes(ended[0]).1, "{what}: {ended:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        }
    }
}

/// Requirement 14: neither the host's own answers nor a 503 during a store outage set a cookie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_host_set_no_cookie_and_are_not_kept() {
    let host = Config::over("memory:")
        .session("rolling = true")
        .guest("/s", "fixture-session")
        .guest("/f", "fixture-faults")
        .start();
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    for (path, status) in [
        ("/f/trap", 500),
        ("/f/no-response", 502),
        ("/nowhere", 404),
        ("/f/%zz", 400),
    ] {
        let answer = browser.get(&host.url(path)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(answer.set_cookies().is_empty(), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
}

/// Requirement 60: a partitioned cookie and its expiry in the header fields. Without the option no cookie has the attribute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_cookie_is_secure_and_for_other_sites_and_so_is_its_end() {
    let host = Config::over("memory:")
        .session("trusted_proxies = [\"127.0.0.0/8\"]")
        .session("cookie = { secure = true, same_site = \"none\", partitioned = true }")
        .guest("/s", "fixture-session")
        .start();
    let begun = ask(&host, Method::POST, "/s", &[HTTPS], "set n 1").await;
    let set = begun.set_cookies()[0].to_owned();
    let (cookie, attributes) = set.split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/; HttpOnly; Secure; Partitioned; SameSite=None"
    );
    let headers = [HTTPS, ("cookie", cookie)];
    let ended = ask(&host, Method::POST, "/s", &headers, "destroy").await;
    assert_eq!(
        ended.set_cookies(),
        [
            "connect.sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure; Partitioned; SameSite=None"
        ]
    );
    // The same visitor over an insecure connection: no cookie, hence no row.
    let plain = ask(&host, Method::POST, "/s", &[], "set n 1").await;
    assert!(plain.set_cookies().is_empty());
}

/// Requirement 48: in a list of protocols, the entry of the outermost trusted proxy counts, not the client's entry before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_protocol_is_believed_by_one_rule_in_every_spelling() {
    let host = Config::over("memory:")
        .session("trusted_proxies = [\"127.0.0.0/8\"]\ncookie = { secure = \"auto\" }")
        .guest("/s", "fixture-session")
        .start();
    let is_secure = async |headers: &[(&str, &str)]| {
        let answer = ask(&host, Method::POST, "/s", headers, "set n 1").await;
        answer.set_cookies()[0].contains("; Secure")
    };
    let client = ("x-forwarded-for", "192.0.2.1");
    // A second proxy in front of the peer, and a client that invents a third entry.
    let two = ("x-forwarded-for", "192.0.2.9, 192.0.2.1, 127.0.0.7");
    for secure in [
        &[HTTPS][..],
        &[("x-forwarded-proto", "HTTPS"), client],
        &[("x-forwarded-proto", "http, https"), client],
        &[("x-forwarded-proto", "http"), HTTPS, client],
        &[("x-forwarded-proto", "https, http"), two],
        &[("x-forwarded-proto", "http, https, http"), two],
        &[HTTPS, two],
    ] {
        assert!(is_secure(secure).await, "{secure:?}");
    }
    for not_secure in [
        &[][..],
        &[("x-forwarded-proto", "http")],
        &[("x-forwarded-proto", "")],
        &[("x-forwarded-proto", "https-or-so")],
        &[("x-forwarded-ssl", "on")],
        &[("front-end-https", "on")],
        // The client's own entry, followed by the proxy's.
        &[("x-forwarded-proto", "https, http"), client],
        &[("x-forwarded-proto", "https,http")],
        &[HTTPS, ("x-forwarded-proto", "http"), client],
        &[("x-forwarded-proto", "https, http, http"), two],
    ] {
        assert!(!is_secure(not_secure).await, "{not_secure:?}");
    }
}

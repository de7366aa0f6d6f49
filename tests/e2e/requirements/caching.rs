//! A caching proxy in front of the host: nginx, configured to cache everything that HTTP permits, with or without cookies.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use cloakroom_tests::nginx::Nginx;
use reqwest::{Method, Url};

/// Returns the path of an answer of the scriptable guest that may be cached for an hour, unless `lines` say otherwise.
fn path(lines: &[&str]) -> String {
    let mut url = Url::parse("http://x/s").unwrap();
    url.query_pairs_mut().append_pair("ops", &lines.join("\n"));
    format!("/s?{}", url.query().unwrap().replace('+', "%20"))
}

/// Requirement 43: through a cache that ignores `Set-Cookie`, no visitor gets another visitor's cookie or content, whatever the answer's
/// status. Answers that do not depend on a session are cached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_in_front_never_gives_one_visitors_answer_to_another() {
    let host = Config::over("memory:")
        .guest("/s", "fixture-session")
        .guest_with("/plain", "fixture-faults", "")
        .start();
    let nginx = Nginx::start(
        "proxy_cache_path {at}/cache keys_zone=all:1m;",
        &format!(
            "location / {{ proxy_pass http://{}; proxy_cache all; proxy_cache_key $uri$is_args$args;\n\
             proxy_cache_valid any 1h; proxy_ignore_headers Set-Cookie; proxy_cache_revalidate on;\n\
             add_header x-cache $upstream_cache_status always; }}",
            host.address()
        ),
    );
    let get = async |browser: &Browser, path: &str| {
        let answer = browser.try_send(Method::GET, &nginx.url(path), "").await;
        answer.unwrap()
    };
    // The cache works: it stores an answer that does not depend on a session.
    for expected in ["MISS", "HIT"] {
        let answer = get(&Browser::new(), "/plain/instance").await;
        assert_eq!(answer.header("x-cache"), Some(expected));
    }

    for status in [200, 203, 204, 301, 302, 304, 404, 410, 500] {
        let status_line = format!("status {status}");
        // A first visit: each visitor gets a new cookie.
        let begins = path(&["set n 1", "header location /s", &status_line]);
        let mut cookies = Vec::new();
        for _ in 0..2 {
            let visitor = Browser::new();
            let answer = get(&visitor, &begins).await;
            assert_eq!(answer.header("x-cache"), Some("MISS"), "{status}");
            cookies.push(visitor.cookies(&nginx.url("/")).unwrap());
        }
        assert_ne!(cookies[0], cookies[1], "{status}");

        // A page that depends on the session and no longer sets a cookie.
        let reads = path(&["get who", "header etag \"1\"", &status_line]);
        let mut visitors = Vec::new();
        for name in ["anna", "bert"] {
            let visitor = Browser::new();
            get(&visitor, &path(&[&format!("set who \"{name}\"")])).await;
            visitors.push((name, visitor));
        }
        for _ in 0..2 {
            for (name, visitor) in &visitors {
                let answer = get(visitor, &reads).await;
                assert_eq!(answer.status, status);
                assert_eq!(answer.header("vary"), Some("Cookie"));
                if ![204, 304].contains(&status) {
                    assert_eq!(
                        answer.text.lines().next(),
                        Some(format!("\"{name}\"").as_str())
                    );
                }
            }
            let stranger = get(&Browser::new(), &reads).await;
            assert!(!stranger.text.contains("anna") && !stranger.text.contains("bert"));
        }
        // The expired cookie of a session reaches only its own visitor.
        let ends = path(&["destroy", &status_line]);
        for (name, visitor) in &visitors {
            let answer = get(visitor, &ends).await;
            assert_eq!(answer.set_cookies().len(), 1, "{name} {status}");
            assert_eq!(visitor.cookies(&nginx.url("/")), None, "{name} {status}");
        }
        assert!(get(&Browser::new(), &ends).await.set_cookies().is_empty());
    }
}

//! The guests' own cookies: the interface in both worlds, and that a reused instance sees only the current request's
//! cookies.

use http::header::COOKIE;

use super::*;
use crate::Services;
use crate::interfaces::cookies;
use cloakroom_base::clock::Clock;
use cloakroom_session::cookie::{CookieJar, CookieJarKeys, IdComparison, KeyRing, Secret};
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::{SessionManager, SessionOptions};

const SCRIPTED: [&str; 2] = ["fixture-session", "fixture-session-service"];
/// Signed with `s1` by cookie-signature 1.0.6.
const SIGNED: &str = "s%3Aval.xY1PDiLKvnUdMVcs0R2C22YJru1H81kMfOIgX09n%2F3I";

fn services() -> Arc<Services> {
    let ring = |secret: &[u8]| Arc::new(KeyRing::new(vec![Secret::new(secret.to_vec())]).unwrap());
    let (keys, session_keys) = (ring(b"s1"), ring(b"s2"));
    let jar_keys = CookieJarKeys::new(keys, &session_keys, IdComparison::Exact);
    let (options, store) = (SessionOptions::default(), Arc::new(MemoryStore::new()));
    let sessions = SessionManager::new(options, session_keys, store, Clock::system());
    let jar = CookieJar::new("sid", jar_keys, Clock::system());
    Arc::new(Services::new(sessions, jar))
}

/// Sends a script with these cookies. Returns the headers and the body of the response.
async fn visit(guest: &Arc<Guest>, cookies: &'static str, ops: &str) -> (http::HeaderMap, String) {
    let mut request = request(guest, Method::POST, "/", ops.to_owned());
    request.services = Some(services());
    if !cookies.is_empty() {
        let cookies = http::HeaderValue::from_static(cookies);
        request.head.headers.insert(COOKIE, cookies);
    }
    let mut invocation = Invocation::new(Arc::clone(guest), request);
    let released = invocation.run_without_session().await.unwrap();
    let (head, body) = released.leave();
    let body = body.collect().await.unwrap().to_bytes();
    (head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn cookies_are_read_and_written_in_both_worlds() {
    let ops = "cookies\nset-cookie {\"name\":\"c\",\"text\":\"val\",\"signed\":true,\"httpOnly\":true}\n\
               set-cookie {\"name\":\"sid\",\"text\":\"\"}\nset-cookie {\"name\":\"c\",\"json\":\"{\"}";
    let header = format!("a=1; b={SIGNED}; d=s:forged.x; e=j:[1]");
    for name in SCRIPTED {
        let guest = guest(name);
        assert!(guest.interfaces().imports(cookies::NAME), "{name}");
        let (headers, text) = visit(&guest, header.clone().leak(), ops).await;
        let lines: Vec<_> = text.lines().collect();
        let cookies: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        let expected = serde_json::json!([
            { "name": "a", "signed": false, "text": "1" },
            { "name": "b", "signed": true, "text": "val" },
            { "name": "d", "signed": true },
            { "name": "e", "signed": false, "json": "[1]" },
        ]);
        assert_eq!(cookies, expected, "{name}");
        assert_eq!(lines[1], "ok", "{name}");
        assert!(lines[2].starts_with("error denied"), "{name}: {text}");
        assert!(lines[3].starts_with("error invalid"), "{name}: {text}");
        let written = format!("c={SIGNED}; Path=/; HttpOnly");
        assert_eq!(headers["set-cookie"], written.as_str(), "{name}");
    }
}

#[tokio::test]
async fn a_reused_instance_sees_the_cookies_of_its_request_alone() {
    for name in SCRIPTED {
        let mut settings = settings(name);
        settings.reuse = 10;
        let guest = load(settings);
        let (_, first) = visit(&guest, "a=mine", "use\ncookies").await;
        assert!(
            first.starts_with("1\n") && first.contains("mine"),
            "{name}: {first}"
        );
        let (_, second) = visit(&guest, "", "use\ncookies").await;
        assert_eq!(second, "2\n[]\n", "{name}");
    }
}

#[tokio::test]
async fn without_a_request_there_is_nothing_to_read_and_nothing_to_write() {
    for name in SCRIPTED {
        let guest = guest(name);
        let ops = "cookies\nset-cookie {\"name\":\"c\",\"text\":\"\"}";
        let mut invocation = invocation(&guest, Method::POST, "/", ops);
        let answer = body(run(&mut invocation).await.unwrap()).await.unwrap();
        let text = String::from_utf8(answer.to_vec()).unwrap();
        assert!(text.starts_with("[]\nerror denied"), "{name}: {text}");
    }
}

#[test]
fn a_guest_without_the_cookies_import_is_recognised() {
    for name in ["fixture-hello", "counter"] {
        assert!(!guest(name).interfaces().imports(cookies::NAME), "{name}");
    }
}

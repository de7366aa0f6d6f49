//! The properties that every head must have after the request validation, and before a guest sees it. `server::fuzz` supplies the heads.

use std::net::{IpAddr, SocketAddr};

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::Options;
use super::guest::GuestHead;
use super::headers::ProxyTrust;
use super::screen::{ScreenedRequest, screen};
use crate::route::path;
use cloakroom_base::limits;

/// The name of the session cookie.
const COOKIE_NAME: &str = "connect.sid";
/// Fields about one connection.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Whether this peer's forwarding headers are trusted in the fuzz tests.
fn trusts(peer: IpAddr) -> bool {
    peer.is_loopback()
}

/// Validates a head as the handler does. Returns the value of `Content-Length`, or `Err` if the head is refused.
pub(crate) fn judge(mut head: Parts, peer: IpAddr, local: SocketAddr) -> Result<Option<u64>, ()> {
    let options = options(limits::REQUEST_HEAD_BYTES_MAX);
    let screened = screen(&mut head, peer, local, &options).map_err(drop)?;
    check(&head, &screened);
    if !trusts(peer) {
        let is_forwarded = |name: &str| {
            // Guests may read a name in the spelling of CGI and many frameworks.
            let name = name.replace('_', "-");
            name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
        };
        let mut names = head.headers.keys();
        assert!(!names.any(|name| is_forwarded(name.as_str())));
        assert_eq!(screened.client, peer);
    }
    check_again(&head, peer, local, &screened);
    check_guest_head(head);
    Ok(screened.content_length)
}

fn options(head_bytes_max: usize) -> Options {
    Options {
        cookie_name: COOKIE_NAME.to_owned(),
        proxy_trust: ProxyTrust::Networks(vec![
            "127.0.0.0/8".parse().expect("a network is written so"),
        ]),
        head_bytes_max,
        headers_max: limits::REQUEST_HEADERS_MAX,
        target_bytes_max: limits::REQUEST_TARGET_BYTES_MAX,
    }
}

fn check(head: &Parts, screened: &ScreenedRequest) {
    assert!(head.method != Method::CONNECT && head.method != Method::TRACE);
    let mut hosts = head.headers.get_all(HOST).iter();
    assert_eq!(hosts.next().expect("a host"), screened.host.as_str());
    assert!(hosts.next().is_none(), "two hosts");
    // A guest makes a URL of the host.
    let url = url::Url::parse(&format!("http://{}/", screened.host));
    assert!(url.is_ok_and(|url| url.has_host() && url.username().is_empty()));
    assert!(head.uri.authority().is_none() && head.uri.scheme().is_none());
    let path = head.uri.path();
    assert!(
        path == "*" || path::normalise(path).as_deref() == Ok(path),
        "a path that has another spelling"
    );
    for name in HOP_BY_HOP {
        assert!(!head.headers.contains_key(name), "{name} passed");
    }
    let te = head.headers.get("te");
    assert!(te.is_none_or(|value| value == "trailers"));
    let lengths: Vec<_> = head.headers.get_all(CONTENT_LENGTH).iter().collect();
    let length = lengths.first().and_then(|value| value.to_str().ok());
    assert!(lengths.len() <= 1, "two lengths");
    let parsed = length.map(|digits| digits.parse::<u64>().expect("digits"));
    assert_eq!(parsed, screened.content_length);
    let cookies = head.headers.get_all(COOKIE).iter().count();
    assert!(head.version < Version::HTTP_2 || cookies <= 1);
}

/// Takes the session cookie out as the handler does for a guest, and checks that nothing of it is left.
fn check_guest_head(head: Parts) {
    let head = GuestHead::new(head, COOKIE_NAME);
    assert!(!has_our_cookie(&head.parts().headers), "our cookie passed");
}

/// Finds the session cookie differently from `cookie::take_from`: any part between semicolons that begins with the name is a
/// match.
fn has_our_cookie(headers: &HeaderMap) -> bool {
    let is_ours = |part: &[u8]| {
        let rest = part.trim_ascii().strip_prefix(COOKIE_NAME.as_bytes());
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b"="))
    };
    let mut headers = headers.get_all(COOKIE).iter();
    headers.any(|header| header.as_bytes().split(|byte| *byte == b';').any(is_ours))
}

/// Checks that a head in the form that targets see passes the validation unchanged.
fn check_again(head: &Parts, peer: IpAddr, local: SocketAddr, screened: &ScreenedRequest) {
    let (mut again, ()) = http::Request::new(()).into_parts();
    again.method = head.method.clone();
    again.uri = head.uri.clone();
    again.version = head.version;
    again.headers = head.headers.clone();
    // `Host`, which the validation inserts, may make the head longer.
    let options = options(2 * limits::REQUEST_HEAD_BYTES_MAX);
    let rescreened = screen(&mut again, peer, local, &options).expect("it passes twice");
    assert_eq!(again.uri, head.uri);
    assert_eq!(again.headers, head.headers);
    assert_eq!(rescreened.host, screened.host);
    assert_eq!(rescreened.client, screened.client);
}

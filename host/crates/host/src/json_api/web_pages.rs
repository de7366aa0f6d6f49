//! Protection of an interface of this machine from web pages.
//!
//! A browser on this machine can send requests to 127.0.0.1 for any page that it shows, and a page can make its own host name
//! resolve to 127.0.0.1 (DNS rebinding). Such requests are recognised because they name the page (`Origin`) or its host
//! (`Host`).

use std::net::IpAddr;

use http::StatusCode;
use http::header::{HOST, ORIGIN};
use http::request::Parts;

use super::reply::{Refusal, problem};

/// Rejects requests of web pages and requests for another host name.
pub fn check_no_page(head: &Parts) -> Result<(), Refusal> {
    if head.headers.contains_key(ORIGIN) {
        let sentence = "requests of web pages are refused: this one has an Origin header";
        return Err(problem(StatusCode::FORBIDDEN, sentence));
    }
    let host = match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    if host.is_some_and(is_this_machine) {
        return Ok(());
    }
    let sentence = "the Host header does not name this machine only: call http://127.0.0.1 or http://localhost, or \
                    configure a token";
    Err(problem(StatusCode::FORBIDDEN, sentence))
}

/// Returns whether a host, with or without a port, means this machine regardless of name resolution.
pub fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let address = bare.unwrap_or(name).parse::<IpAddr>();
    address.map_or_else(
        |_| name.eq_ignore_ascii_case("localhost"),
        |address| address.to_canonical().is_loopback(),
    )
}

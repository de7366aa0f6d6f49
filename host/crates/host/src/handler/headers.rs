//! Header fields that the host consumes: fields about the connection, and fields in which proxies describe the visitor.
//!
//! This module knows field names and which peers are trusted. It does not know sessions or guests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use http::header::{
    CONNECTION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// The peers whose `X-Forwarded-*` headers are trusted and passed on to guests. The headers of all other peers are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyTrust {
    /// No peer is trusted.
    None,
    /// Peers in these networks are trusted.
    Networks(Vec<IpNet>),
    /// All peers are trusted. This is only safe if only a proxy can connect.
    All,
}

impl ProxyTrust {
    fn covers(&self, address: IpAddr) -> bool {
        match self {
            Self::None => false,
            // A dual-stack listener reports IPv4 peers as `::ffff:10.0.0.1`.
            Self::Networks(networks) => networks
                .iter()
                .any(|network| network.contains(&address.to_canonical())),
            Self::All => true,
        }
    }

    /// Whether a configured network contains this address. `All` does not identify any peer as a proxy of the operator.
    pub(crate) fn names(&self, address: IpAddr) -> bool {
        *self != Self::All && self.covers(address)
    }
}

/// The visitor's scheme and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientOrigin {
    pub(crate) scheme: Scheme,
    pub(crate) client: IpAddr,
}

/// Reads the forwarding headers of a trusted proxy, and removes those of any other peer, because a guest cannot tell the two
/// apart.
pub(crate) fn take_forwarded(
    headers: &mut HeaderMap,
    peer: IpAddr,
    trust: &ProxyTrust,
) -> ClientOrigin {
    let peer = peer.to_canonical();
    if !trust.covers(peer) {
        let names: Vec<HeaderName> = headers
            .keys()
            .filter(|name| identifies_visitor(name))
            .cloned()
            .collect();
        for name in names {
            headers.remove(name);
        }
        return ClientOrigin {
            scheme: Scheme::HTTP,
            client: peer,
        };
    }
    let (client, proxies) = forwarded_client(headers, trust);
    ClientOrigin {
        scheme: forwarded_scheme(headers, trust, proxies),
        client: client.unwrap_or(peer),
    }
}

/// Returns the scheme that the outermost trusted proxy says the visitor used. Values before that proxy's value in the list are
/// not trusted: a proxy that appends leaves the values that the client sent.
fn forwarded_scheme(headers: &HeaderMap, trust: &ProxyTrust, proxies: usize) -> Scheme {
    let protocols = list(headers, "x-forwarded-proto");
    let index = match trust {
        // express-session also reads the first of several values.
        ProxyTrust::All => 0,
        ProxyTrust::None | ProxyTrust::Networks(_) => protocols.len().saturating_sub(proxies),
    };
    let is_secure = |word: &&str| word.trim().eq_ignore_ascii_case("https");
    match protocols.get(index).is_some_and(is_secure) {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    }
}

/// Returns the client that a request counts for, if this peer is a proxy of the operator: the client that the proxy names, or
/// else the proxy itself. Returns `None` if all peers are trusted, because then any client could choose the address that its
/// requests count for.
pub(crate) fn client_behind_proxy(
    headers: &HeaderMap,
    peer: IpAddr,
    trust: &ProxyTrust,
) -> Option<IpAddr> {
    trust
        .names(peer)
        .then(|| forwarded_client(headers, trust).0.unwrap_or(peer))
}

/// Parses an address as proxies write it: alone, or with a port. An IPv6 address with a port is in brackets.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok();
    let address = address.or_else(|| {
        text.parse::<SocketAddr>()
            .ok()
            .map(|with_port| with_port.ip())
    });
    let address = address.or_else(bracketed);
    address.map(|address: IpAddr| address.to_canonical())
}

/// Warns once per process, because a proxy always writes its lists in the same way.
fn warn_of_unreadable_address() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            key = "session.trusted_proxies",
            "a trusted proxy names a client in X-Forwarded-For by a text that is not an IP address: its requests count for the \
             proxy's address; let the proxy write the client's address there",
        );
    });
}

/// Returns the first address, from the nearest proxy outwards, that is not a trusted proxy's. Addresses to the left of it may
/// come from anyone. Also returns the number of trusted proxies that the request passed through, including the peer.
fn forwarded_client(headers: &HeaderMap, trust: &ProxyTrust) -> (Option<IpAddr>, usize) {
    let mut farthest = None;
    let mut proxies = 1;
    for address in list(headers, "x-forwarded-for").into_iter().rev() {
        let Some(address) = forwarded_address(address) else {
            warn_of_unreadable_address();
            break;
        };
        farthest = Some(address);
        if !trust.covers(address) {
            break;
        }
        proxies += 1;
    }
    (farthest, proxies)
}

/// Returns the members of a list that may be spread over several fields of the same name.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .collect()
}

fn identifies_visitor(name: &HeaderName) -> bool {
    is_forwarded(name.as_str())
}

fn is_forwarded(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
}

/// Removes the fields about one connection (RFC 9110, section 7.6.1), in either direction, including the fields that `Connection`
/// names. This ignores `Upgrade`, as the RFC allows.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(may_be_named_by_connection)
        .collect();
    let takes_trailers = headers
        .get(TE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Fields about the connection for which [`http`] has no constants.
const HOP_BY_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Removes request fields that a guest could mistake for a field that the host consumes or that affects how a request is handled.
/// CGI and the many frameworks modelled on it read `X_Forwarded_For` as `X-Forwarded-For`. No client needs the spelling with
/// underscores.
pub(crate) fn remove_lookalikes(headers: &mut HeaderMap) {
    let is_lookalike = |name: &&HeaderName| {
        let name = name.as_str();
        name.contains('_') && decides(&name.replace('_', "-"))
    };
    if !headers.keys().any(|name| is_lookalike(&name)) {
        return;
    }
    let names: Vec<_> = headers.keys().filter(is_lookalike).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether the request validation removes or reads the field of this name, or the response depends on it.
pub(crate) fn decides(name: &str) -> bool {
    const READ: [&str; 8] = [
        "host",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "authorization",
        "x-http-method-override",
        "x-method-override",
    ];
    READ.contains(&name) || is_hop_by_hop(name) || is_forwarded(name)
}

fn is_hop_by_hop(name: &str) -> bool {
    let named = [
        CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ];
    named.iter().any(|hop| hop == name) || HOP_BY_HOP.contains(&name)
}

/// `Connection: cookie` must not remove a field that the response depends on. No well-behaved client names such a field.
fn may_be_named_by_connection(name: &HeaderName) -> bool {
    let passed = [
        "host",
        "cookie",
        "set-cookie",
        "content-length",
        "content-type",
        "authorization",
        "cache-control",
    ];
    !passed.contains(&name.as_str()) && !identifies_visitor(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        fields.iter().map(field).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    fn proxies() -> ProxyTrust {
        ProxyTrust::Networks(vec!["10.0.0.0/8".parse().unwrap()])
    }

    const PROXY: &str = "10.1.2.3";
    const STRANGER: &str = "203.0.113.9";

    fn take(headers: &mut HeaderMap, peer: &str, trust: &ProxyTrust) -> (String, String) {
        let forwarded = take_forwarded(headers, peer.parse().unwrap(), trust);
        (forwarded.scheme.to_string(), forwarded.client.to_string())
    }

    #[test]
    fn forwarding_headers_of_an_untrusted_peer_are_removed() {
        let mut headers = map(&[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("accept", "*/*"),
        ]);
        assert_eq!(
            take(&mut headers, STRANGER, &proxies()),
            ("http".into(), STRANGER.into())
        );
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn forwarding_headers_of_a_trusted_proxy_are_used_and_passed_on() {
        for peer in [PROXY, "::ffff:10.1.2.3"] {
            let mut headers = map(&[
                ("x-forwarded-proto", "HTTPS , http"),
                ("x-forwarded-for", "203.0.113.9, 10.9.9.9"),
            ]);
            assert_eq!(
                take(&mut headers, peer, &proxies()),
                ("https".into(), STRANGER.into())
            );
            assert_eq!(headers.len(), 2);
        }
    }

    #[test]
    fn addresses_left_of_the_first_untrusted_one_are_ignored() {
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.9.9.9")]);
        assert_eq!(take(&mut headers, PROXY, &proxies()).1, STRANGER);
        let mut headers = map(&[("x-forwarded-for", "1.1.1.1, nonsense, 10.9.9.9")]);
        assert_eq!(take(&mut headers, PROXY, &proxies()).1, "10.9.9.9");
    }

    #[test]
    fn a_request_counts_for_the_client_that_the_operators_proxy_names() {
        let everybody = ProxyTrust::All;
        let table = [
            (&proxies(), PROXY, "203.0.113.9", Some("203.0.113.9")),
            (&proxies(), PROXY, "203.0.113.9:51234", Some("203.0.113.9")),
            (&proxies(), PROXY, "[2001:db8::1]:443", Some("2001:db8::1")),
            (&proxies(), PROXY, "[2001:db8::1]", Some("2001:db8::1")),
            (&proxies(), PROXY, "::ffff:203.0.113.9", Some("203.0.113.9")),
            (&proxies(), PROXY, "unknown", Some(PROXY)),
            (&proxies(), PROXY, "", Some(PROXY)),
            (&proxies(), STRANGER, "1.1.1.1", None),
            (&everybody, STRANGER, "1.1.1.1", None),
            (&ProxyTrust::None, PROXY, "1.1.1.1", None),
        ];
        for (trust, peer, forwarded, client) in table {
            let headers = map(&[("x-forwarded-for", forwarded)]);
            let counted = client_behind_proxy(&headers, peer.parse().unwrap(), trust);
            let client = client.map(|client| client.parse().unwrap());
            assert_eq!(counted, client, "{peer} says {forwarded:?}");
        }
        let silent = client_behind_proxy(&map(&[]), PROXY.parse().unwrap(), &proxies());
        assert_eq!(silent, Some(PROXY.parse().unwrap()));
    }

    #[test]
    fn a_protocol_other_than_https_is_not_secure() {
        for protocol in ["http", "", "httpsx", "https, http"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-proto", HeaderValue::from_static(protocol));
            assert_eq!(
                take(&mut headers, PROXY, &proxies()).0,
                "http",
                "{protocol:?}"
            );
        }
    }

    #[test]
    fn proxy_trust_can_be_set_to_no_peer_or_every_peer() {
        let mut headers = map(&[("x-forwarded-proto", "https")]);
        assert_eq!(
            take(&mut headers.clone(), PROXY, &ProxyTrust::None).0,
            "http"
        );
        assert_eq!(take(&mut headers, STRANGER, &ProxyTrust::All).0, "https");
    }

    #[test]
    fn fields_about_the_connection_are_removed_with_those_it_names() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authorization", "Basic eDp5"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn a_connection_header_cannot_remove_end_to_end_headers() {
        let mut headers = map(&[
            ("connection", "cookie, host, x-forwarded-for"),
            ("cookie", "a=b"),
            ("host", "h"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_field_that_only_looks_like_one_of_ours_is_removed() {
        for name in [
            "x_forwarded_for",
            "x-forwarded_proto",
            "x_forwarded-host",
            "x_real_ip",
            "content_length",
            "content_type",
            "transfer_encoding",
            "proxy_authorization",
            "proxy_connection",
            "keep_alive",
            "http2_settings",
            "x_http_method_override",
        ] {
            let mut headers = map(&[(name, "1"), ("accept", "*/*"), ("my_field", "1")]);
            remove_lookalikes(&mut headers);
            assert_eq!(headers.len(), 2, "{name}: {headers:?}");
            assert!(!headers.contains_key(name));
        }
    }

    #[test]
    fn a_te_trailers_header_is_kept() {
        let mut headers = map(&[("te", "trailers"), ("connection", "te")]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.get(TE).unwrap(), "trailers");
    }
}

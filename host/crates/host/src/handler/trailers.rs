//! Validation of trailer fields in requests and responses. Knows field names. Does not know sessions, guests or connections.

use http::HeaderMap;
use http::header::HeaderName;

use super::headers::decides;
use cloakroom_base::limits::{TRAILER_BYTES_MAX, TRAILER_FIELDS_MAX};

/// Removes the fields that are not allowed in trailers, of a request or a response, and returns how many it removed. If they are
/// too many or too large, it removes all of them.
///
/// Fields that affect how a message is handled are only read from its head. In trailers they would bypass the validation of a
/// request's head and the cleaning of a response's head.
pub(crate) fn screen(trailers: &mut HeaderMap) -> usize {
    let bytes: usize = trailers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if trailers.len() > TRAILER_FIELDS_MAX || bytes > TRAILER_BYTES_MAX {
        let count = trailers.len();
        trailers.clear();
        return count;
    }
    let refused: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| !may_be_trailer(name.as_str()))
        .cloned()
        .collect();
    let before = trailers.len();
    for name in refused {
        trailers.remove(name);
    }
    before - trailers.len()
}

/// Fields that are not allowed in trailers.
const REFUSED: [&str; 64] = [
    // Routing and fields that proxies add.
    "host",
    "max-forwards",
    "via",
    "status",
    "method",
    "path",
    "scheme",
    "authority",
    "protocol",
    "early-data",
    "alt-svc",
    "alt-used",
    "origin",
    "referer",
    "user-agent",
    "from",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    // Request modifiers and preconditions.
    "cache-control",
    "expect",
    "pragma",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "x-http-method-override",
    "x-method-override",
    "prefer",
    "priority",
    "upgrade-insecure-requests",
    // Authentication and cookies.
    "authorization",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "authentication-info",
    "proxy-authentication-info",
    "cookie",
    "cookie2",
    "set-cookie",
    "set-cookie2",
    "authentication-control",
    // Control of the response.
    "age",
    "date",
    "expires",
    "last-modified",
    "location",
    "retry-after",
    "vary",
    "warning",
    "refresh",
    "link",
    "allow",
    "clear-site-data",
    "strict-transport-security",
    "accept-ranges",
    "x-frame-options",
    "x-xss-protection",
    "nel",
    "report-to",
    "reporting-endpoints",
];

/// Prefixes of field families. `accept-*` and `content-*` say how content is chosen and read (only content-digest is meant for
/// trailers). `sec-*`, `access-control-*` and the policies say which actions a browser may perform.
const REFUSED_FAMILIES: [&str; 12] = [
    "accept",
    "content-",
    "x-content-",
    "sec-",
    "access-control-",
    "cross-origin-",
    "cdn-",
    "surrogate-",
    "x-forwarded-",
    "x-accel-",
    "permissions-policy",
    "referrer-policy",
];

/// Fields that are allowed although their family is not.
const ALLOWED: [&str; 1] = ["content-digest"];

/// Whether a field of this name is allowed in trailers (RFC 9110, section 6.5.1). Not allowed are fields for framing, routing,
/// authentication or caching, request modifiers, and fields that control the response or say how to read its content.
fn may_be_trailer(name: &str) -> bool {
    let dashed = name.replace('_', "-");
    let name = dashed.as_str();
    ALLOWED.contains(&name)
        || !(REFUSED.contains(&name)
            || REFUSED_FAMILIES
                .iter()
                .any(|family| name.starts_with(family))
            || decides(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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

    #[test]
    fn trailer_fields_that_control_a_message_are_dropped() {
        for name in [
            "set-cookie",
            "cookie",
            "content-length",
            "content-type",
            "content-encoding",
            "content-range",
            "transfer-encoding",
            "host",
            "authorization",
            "www-authenticate",
            "proxy-authenticate",
            "proxy-authorization",
            "cache-control",
            "date",
            "expires",
            "age",
            "pragma",
            "location",
            "retry-after",
            "vary",
            "warning",
            "expect",
            "max-forwards",
            "range",
            "te",
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-range",
            "trailer",
            "connection",
            "keep-alive",
            "upgrade",
            "proxy-connection",
            "http2-settings",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-real-ip",
            "status",
            "set_cookie",
            "x_forwarded_for",
            "content_length",
            "access-control-allow-origin",
            "content-security-policy",
            "strict-transport-security",
            "clear-site-data",
            "x-accel-redirect",
            "origin",
        ] {
            let mut trailers = map(&[(name, "1"), ("x-checksum", "abc")]);
            assert_eq!(screen(&mut trailers), 1, "{name}");
            assert!(!trailers.contains_key(name), "{name}");
            assert!(trailers.contains_key("x-checksum"));
        }
        for name in [
            "x-checksum",
            "server-timing",
            "grpc-status",
            "grpc-message",
            "etag",
            "content-digest",
            "repr-digest",
            "digest",
            "signature",
            "x-trace",
        ] {
            let mut trailers = map(&[(name, "1")]);
            assert_eq!(screen(&mut trailers), 0, "{name}");
        }
    }

    #[test]
    fn too_many_or_too_long_trailers_are_all_dropped() {
        let many = |fields: usize, bytes: usize| {
            let field = |n| {
                let name = HeaderName::try_from(format!("x-{n}")).unwrap();
                (name, HeaderValue::try_from("v".repeat(bytes)).unwrap())
            };
            let mut trailers: HeaderMap = (0..fields).map(field).collect();
            screen(&mut trailers);
            trailers.len()
        };
        assert_eq!(many(TRAILER_FIELDS_MAX, 1), TRAILER_FIELDS_MAX);
        assert_eq!(many(TRAILER_FIELDS_MAX + 1, 1), 0);
        assert_eq!(many(2, TRAILER_BYTES_MAX / 2), 0);
        assert_eq!(many(2, TRAILER_BYTES_MAX / 2 - 3), 2);
    }
}

//! Writes `Set-Cookie` as Express does, attribute for attribute, and judges paths. Knows no signatures.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use super::name::is_token_byte;
use crate::record::{CookieAttributes, Priority, SameSite};

/// Longest attribute value that browsers keep, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// 9999-12-31T23:59:59Z, in seconds since the epoch: the last date that HTTP can write.
pub(super) const LAST_DATE_S: u64 = 253_402_300_799;

/// The header that gives a browser its session: `value` as [`KeyRing::sign`](super::KeyRing::sign) made it.
///
/// The order of attributes is Express's, `Max-Age` is never sent. Nothing can be smuggled in through any part: bytes of
/// name or value that a cookie may not hold are dropped, and so is a domain or path that is none. The header is marked
/// sensitive, so that neither `Debug` nor a header-compression table ever holds it.
pub fn set_cookie(name: &str, value: &str, attributes: &CookieAttributes) -> HeaderValue {
    sensitive(&text(
        name,
        value,
        None,
        attributes.expires_at_ms,
        attributes,
    ))
}

/// The header that makes a browser forget the session: no value, an end in 1970, and everything else as it was set, because
/// browsers drop a cookie only for its own domain and path, and some look at the flags, too.
pub fn expire_cookie(name: &str, attributes: &CookieAttributes) -> HeaderValue {
    sensitive(&text(name, "", None, Some(0), attributes))
}

/// Whether a cookie with this path goes along with a request for that one (RFC 6265, section 5.1.4): it is the same or a
/// folder above. A cookie path that does not begin with `/` stands for `/`.
pub fn path_matches(cookie_path: &str, request_path: &str) -> bool {
    if !cookie_path.starts_with('/') {
        return true;
    }
    request_path
        .strip_prefix(cookie_path)
        .is_some_and(|rest| rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'))
}

/// Whether this can be a `Path` attribute: printable ASCII without `;` and `<`, at most 1,024 bytes; what Express can send.
pub fn is_valid_path(path: &str) -> bool {
    let allowed = |b: u8| matches!(b, b' '..=b'~') && b != b';' && b != b'<';
    (1..=ATTRIBUTE_BYTES_MAX).contains(&path.len()) && path.bytes().all(allowed)
}

/// Whether this can be a `Domain` attribute: labels of letters, digits and inner hyphens, at most 63 bytes each, perhaps
/// with a dot in front; what Express can send.
pub fn is_valid_domain(domain: &str) -> bool {
    let name = domain.strip_prefix('.').unwrap_or(domain);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.len() <= ATTRIBUTE_BYTES_MAX && name.split('.').all(is_label)
}

fn sensitive(text: &str) -> HeaderValue {
    let mut header = HeaderValue::try_from(text).expect("every part is visible ASCII or a space");
    header.set_sensitive(true);
    header
}

/// The header's text, with `Max-Age` in seconds where one is given. Of the lifetimes in `attributes` it writes neither.
pub(super) fn text(
    name: &str,
    value: &str,
    max_age_s: Option<i64>,
    expires_at_ms: Option<i64>,
    attributes: &CookieAttributes,
) -> String {
    let mut header = String::with_capacity(192);
    header.extend(
        name.chars()
            .filter(|c| u8::try_from(*c).is_ok_and(is_token_byte)),
    );
    header.push('=');
    header.extend(
        value
            .chars()
            .filter(|c| u8::try_from(*c).is_ok_and(is_value_byte)),
    );
    if let Some(seconds) = max_age_s {
        header.push_str("; Max-Age=");
        header.push_str(&seconds.to_string());
    }
    if let Some(domain) = attributes.domain.as_deref().filter(|d| is_valid_domain(d)) {
        header.push_str("; Domain=");
        header.push_str(domain);
    }
    if is_valid_path(&attributes.path) {
        header.push_str("; Path=");
        header.push_str(&attributes.path);
    }
    if let Some(ms) = expires_at_ms {
        header.push_str("; Expires=");
        header.push_str(&http_date(ms));
    }
    if attributes.http_only {
        header.push_str("; HttpOnly");
    }
    if attributes.secure {
        header.push_str("; Secure");
    }
    if attributes.partitioned {
        header.push_str("; Partitioned");
    }
    header.push_str(match attributes.priority {
        None => "",
        Some(Priority::Low) => "; Priority=Low",
        Some(Priority::Medium) => "; Priority=Medium",
        Some(Priority::High) => "; Priority=High",
    });
    header.push_str(match attributes.same_site {
        None => "",
        Some(SameSite::Strict) => "; SameSite=Strict",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::None) => "; SameSite=None",
    });
    header
}

/// A cookie-octet of RFC 6265, section 4.1.1.
fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

/// `toUTCString()`, milliseconds cut off; times that HTTP cannot write become the nearest one it can.
fn http_date(ms: i64) -> String {
    let seconds = u64::try_from(ms.div_euclid(1000)).unwrap_or(0);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_DATE_S)))
}

#[cfg(test)]
mod tests;

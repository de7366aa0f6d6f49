//! Writing of `Set-Cookie` exactly as Express does, and validation of paths and domains. This module does not depend on
//! signatures.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use super::name::is_token_byte;
use crate::record::{CookieAttributes, Priority, SameSite};

/// Longest attribute value that browsers keep, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// 9999-12-31T23:59:59Z in seconds since the epoch: the last date that HTTP can represent.
pub(crate) const LAST_DATE_S: u64 = 253_402_300_799;

/// Returns the header that gives a browser its session. `value` is the result of [`KeyRing::sign`](super::KeyRing::sign).
///
/// The attributes are in the order of Express, and `Max-Age` is never sent. No part can inject anything: bytes that a name or
/// value may not contain are dropped, and so is an invalid domain or path. The header is marked sensitive, so that neither
/// `Debug` nor a header-compression table shows it.
pub fn set_cookie(name: &str, value: &str, attributes: &CookieAttributes) -> HeaderValue {
    sensitive(&text(
        name,
        value,
        None,
        attributes.expires_at_ms,
        attributes,
    ))
}

/// Returns the header that makes a browser delete the session's cookie: no value, an end in 1970, and all other attributes as
/// they were set. Browsers delete a cookie only for its own domain and path, and some also compare the flags.
pub fn expire_cookie(name: &str, attributes: &CookieAttributes) -> HeaderValue {
    sensitive(&text(name, "", None, Some(0), attributes))
}

/// Returns whether a cookie with this path is sent with a request for that path (RFC 6265, section 5.1.4): the cookie's path
/// must be equal to it or a folder above it. A cookie path that does not begin with `/` counts as `/`.
pub fn path_matches(cookie_path: &str, request_path: &str) -> bool {
    if !cookie_path.starts_with('/') {
        return true;
    }
    request_path
        .strip_prefix(cookie_path)
        .is_some_and(|rest| rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'))
}

/// Returns whether this can be a `Path` attribute that Express sends: printable ASCII without `;` and `<`, 1 to 1,024 bytes.
pub fn is_valid_path(path: &str) -> bool {
    let allowed = |b: u8| matches!(b, b' '..=b'~') && b != b';' && b != b'<';
    (1..=ATTRIBUTE_BYTES_MAX).contains(&path.len()) && path.bytes().all(allowed)
}

/// Returns whether this can be a `Domain` attribute that Express sends: labels of letters, digits and inner hyphens, at most 63
/// bytes each, optionally with a leading dot.
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

/// Returns the header's text, with `Max-Age` in seconds if one is given. The lifetimes in `attributes` are ignored.
pub(crate) fn text(
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

/// Returns whether this is a cookie-octet of RFC 6265, section 4.1.1.
fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

/// Formats a time like `toUTCString()`, without milliseconds. A time that HTTP cannot represent is replaced by the nearest one.
fn http_date(ms: i64) -> String {
    let seconds = u64::try_from(ms.div_euclid(1000)).unwrap_or(0);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_DATE_S)))
}

#[cfg(test)]
mod tests;

//! Valid cookie names, and the name of the cookie that a guest's `Set-Cookie` would set. This module ignores their values.

use http::HeaderValue;

use super::pair::trim;

/// Longest cookie name, in bytes. With the longest value, a pair stays far below the 4,096 bytes that browsers keep.
const NAME_BYTES_MAX: usize = 256;

/// Returns whether a cookie may have this name: an RFC 9110 token of at most 256 bytes.
pub fn is_valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_token_byte)
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether a browser that stores this `Set-Cookie` would send it back under `name` (RFC 6265, section 5.2). Names are
/// compared byte for byte. In a cookie without a name, the value is parsed again: `=name=x` is sent back as `name=x`.
pub fn is_cookie_named(set_cookie: &HeaderValue, name: &str) -> bool {
    let bytes = set_cookie.as_bytes();
    let pair = bytes.split(|b| *b == b';').next().unwrap_or_default();
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'=');
    let begin = pair.iter().position(|b| !blank(b)).unwrap_or(pair.len());
    let rest = pair[begin..].split(|b| *b == b'=').next();
    trim(rest.unwrap_or_default()) == name.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_valid_cookie_names() {
        for name in [
            "connect.sid",
            "sessionId",
            "__Host-sid",
            "a",
            "!#$%&'*+-.^_`|~",
            &"x".repeat(256),
        ] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in [
            "",
            "a b",
            "a=b",
            "a;b",
            "a,b",
            "é",
            "a\r\nb",
            "\"a\"",
            "a\0",
            "(a)",
            &"x".repeat(257),
        ] {
            assert!(!is_valid_name(name), "{name}");
        }
    }

    #[test]
    fn a_set_cookie_is_known_by_its_name_alone() {
        let is_ours = |header: &'static str| {
            is_cookie_named(&HeaderValue::from_static(header), "connect.sid")
        };
        for header in [
            "connect.sid=x",
            "connect.sid=",
            "connect.sid=x; Path=/",
            "\t connect.sid \t= x",
            "connect.sid=a=b",
            // Browsers send the value of a cookie without a name as if it were a pair.
            "=connect.sid=x",
            " = connect.sid=x; Secure",
            "connect.sid",
            "connect.sid; Path=/",
        ] {
            assert!(is_ours(header), "{header}");
        }
        for header in [
            "",
            "=",
            "Connect.sid=x",
            "connect.sid2=x",
            "xconnect.sid=x",
            "a=connect.sid=x",
            "a=b; connect.sid=x",
            "; connect.sid=x",
            "connect%2Esid=x",
            "\"connect.sid\"=x",
        ] {
            assert!(!is_ours(header), "{header}");
        }
        let foreign_bytes = HeaderValue::from_bytes(b"\xc2\xa0connect.sid=\xff").unwrap();
        assert!(!is_cookie_named(&foreign_bytes, "connect.sid"));
    }
}

//! Path normalization. Each path has exactly one normalized spelling, so that a client cannot reach or avoid a route by spelling
//! a path differently.
//!
//! This module knows RFC 3986. It does not know routes or requests. Guests receive the spelling that was routed.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The reason why a path cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// The path does not start with a slash.
    #[error("the path does not start with a slash")]
    NotAbsolute,
    /// The path contains a control character, plain or percent-encoded. No client needs them, and in other software they truncate
    /// strings and forge log lines.
    #[error("the path holds a control character")]
    ControlCharacter,
    /// The path contains a plain backslash, which some software reads as a slash. An encoded one (`%5C`) is data and is accepted.
    #[error("the path holds a backslash")]
    Backslash,
    /// The path contains a percent sign that is not followed by two hexadecimal digits.
    #[error("the path holds a percent sign without two hexadecimal digits")]
    PercentEncoding,
}

/// Returns the normal form of `path` (RFC 3986, section 6.2.2). Percent-encoded letters, digits and `-._~` are decoded. Other
/// encodings get uppercase digits. Characters that must be encoded are encoded. Dot segments are removed and never lead above the
/// root.
///
/// An encoded slash stays encoded, and empty segments stay, because both have a meaning in some applications. Braces and
/// asterisks stay unchanged, because this function also normalizes route patterns.
///
/// # Errors
/// [`BadPath`], if there is no safe interpretation of the path.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    let is_normal = path.bytes().all(|byte| is_plain(byte) || byte == b'/');
    if is_normal && !path.contains("/.") {
        return Ok(Cow::Borrowed(path));
    }
    Ok(Cow::Owned(without_dot_segments(&with_one_encoding(path)?)))
}

fn with_one_encoding(path: &str) -> Result<String, BadPath> {
    let mut normal = String::with_capacity(path.len() + 8);
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let (value, was_encoded) = match byte {
            b'%' => (decode_hex_pair(&mut bytes)?, true),
            plain => (plain, false),
        };
        if value.is_ascii_control() {
            return Err(BadPath::ControlCharacter);
        }
        let stays_plain = if was_encoded {
            is_unreserved(value)
        } else {
            is_plain(value) || value == b'/'
        };
        if stays_plain {
            normal.push(char::from(value));
        } else if value == b'\\' && !was_encoded {
            return Err(BadPath::Backslash);
        } else {
            write!(normal, "%{value:02X}").expect("a String takes all that is written to it");
        }
    }
    Ok(normal)
}

fn decode_hex_pair(bytes: &mut std::str::Bytes<'_>) -> Result<u8, BadPath> {
    let mut digit = || {
        let byte = bytes.next().ok_or(BadPath::PercentEncoding)?;
        let digit = char::from(byte).to_digit(16);
        digit.ok_or(BadPath::PercentEncoding)
    };
    let (high, low) = (digit()?, digit()?);
    Ok(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"))
}

/// Removes dot segments as in RFC 3986, section 5.2.4. The path must start with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut normalized: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    normalized.pop();
                }
                // `/a/..` names the directory `/`, with its slash.
                if is_last {
                    normalized.push("");
                }
            }
            other => normalized.push(other),
        }
    }
    format!("/{}", normalized.join("/"))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a byte may be in a segment without being encoded: RFC 3986's `pchar`, and the braces of route patterns.
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'{'
                | b'}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &str) {
        assert_eq!(normalise(path).unwrap(), expected, "{path}");
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        let path = "/session/a-b_c~d/x.html;v=1,2:@!$&'()*+=";
        assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path));
    }

    #[test]
    fn dot_segments_are_removed_and_never_climb_above_the_root() {
        check("/a/../admin", "/admin");
        check("/a/./b", "/a/b");
        check("/a/b/..", "/a/");
        check("/a/b/.", "/a/b/");
        check("/../../etc", "/etc");
        check("/..", "/");
        check("/.", "/");
        check("/a//../b", "/a/b");
        check("/.hidden/..x/...", "/.hidden/..x/...");
    }

    #[test]
    fn an_encoded_dot_segment_is_a_dot_segment() {
        check("/a/%2e%2E/admin", "/admin");
        check("/a/.%2e/admin", "/admin");
    }

    #[test]
    fn unreserved_characters_are_decoded_and_others_encoded_uniformly() {
        check("/%61dmin", "/admin");
        check("/%7euser", "/~user");
        check("/a%2fb", "/a%2Fb");
        check("/a%5cb", "/a%5Cb");
        check("/카페", "/%EC%B9%B4%ED%8E%98");
        check("/%ec%b9%b4", "/%EC%B9%B4");
        check("/a|b^c", "/a%7Cb%5Ec");
        check("/%25", "/%25");
        check("/%2525", "/%2525");
    }

    #[test]
    fn empty_segments_are_kept() {
        check("//a//", "//a//");
    }

    #[test]
    fn normalising_a_normal_path_changes_nothing() {
        for path in [
            "/a/%2e%2e/%61",
            "/x/../%25%32%65",
            "/카/./b|c",
            "/a%2f../b",
            "//..//a/..",
        ] {
            let once = normalise(path).unwrap().into_owned();
            check(&once, &once);
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        assert_eq!(normalise("admin"), Err(BadPath::NotAbsolute));
        assert_eq!(normalise("*"), Err(BadPath::NotAbsolute));
        assert_eq!(normalise(""), Err(BadPath::NotAbsolute));
        assert_eq!(normalise("/a%00"), Err(BadPath::ControlCharacter));
        assert_eq!(normalise("/a%0d%0ab"), Err(BadPath::ControlCharacter));
        assert_eq!(normalise("/a%7F"), Err(BadPath::ControlCharacter));
        assert_eq!(normalise("/a\u{1}"), Err(BadPath::ControlCharacter));
        assert_eq!(normalise("/a\\..\\b"), Err(BadPath::Backslash));
        assert_eq!(normalise("/a%"), Err(BadPath::PercentEncoding));
        assert_eq!(normalise("/a%4"), Err(BadPath::PercentEncoding));
        assert_eq!(normalise("/a%zz"), Err(BadPath::PercentEncoding));
        assert_eq!(normalise("/a%+1"), Err(BadPath::PercentEncoding));
    }
}

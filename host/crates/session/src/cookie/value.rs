//! Encoding and decoding of a text in a cookie: percent-encoding, quotes, and bytes beyond ASCII. This module does not depend
//! on signatures.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All characters except those that JavaScript's `encodeURIComponent` leaves unchanged.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Encodes like `encodeURIComponent`.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Removes one pair of double quotes. As in the package `cookie`, a single quote character counts as a pair.
pub(crate) fn unquote(value: &str) -> &str {
    if value.starts_with('"') && value.ends_with('"') {
        value.get(1..value.len() - 1).unwrap_or("")
    } else {
        value
    }
}

/// Decodes like `decodeURIComponent`, but returns a text unchanged if that function would throw.
pub(crate) fn decode(value: &str) -> Cow<'_, str> {
    let is_sequence = |rest: &[u8]| {
        let hex = rest.get(..2);
        hex.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let bytes = value.as_bytes();
    let escapes = bytes.iter().enumerate().filter(|(_, b)| **b == b'%');
    if escapes
        .into_iter()
        .all(|(at, _)| is_sequence(&bytes[at + 1..]))
    {
        percent_decode_str(value)
            .decode_utf8()
            .unwrap_or(Cow::Borrowed(value))
    } else {
        Cow::Borrowed(value)
    }
}

/// Converts the bytes of a header to a text like Node: each byte is the character with its number (Latin-1).
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_javascript_does() {
        for (text, encoded) in [
            (
                "AZaz09-_.!~*'() \"%&+,/:;<=>?@[\\]^`{|}",
                "AZaz09-_.!~*'()%20%22%25%26%2B%2C%2F%3A%3B%3C%3D%3E%3F%40%5B%5C%5D%5E%60%7B%7C%7D",
            ),
            ("é번😆", "%C3%A9%EB%B2%88%F0%9F%98%86"),
            ("\r\n\0", "%0D%0A%00"),
        ] {
            assert_eq!(encode(text), encoded);
            assert_eq!(decode(encoded), text);
        }
    }

    #[test]
    fn a_value_that_javascript_cannot_decode_is_kept_as_it_is() {
        for text in [
            "%",
            "a%",
            "%4",
            "%zz",
            "100%!",
            "%ff",
            "%C3",
            "%C3%41",
            "%C3é",
            "%ED%A0%80",
            "%C0%80",
            "%F4%90%80%80",
            "%20%",
            "%u0041",
        ] {
            assert_eq!(decode(text), text);
        }
        assert_eq!(decode("a%C3%A9é"), "aéé");
        assert_eq!(decode("a+b"), "a+b");
    }

    #[test]
    fn one_pair_of_quotes_is_taken_off() {
        for (value, bare) in [
            ("\"a\"", "a"),
            ("\"\"", ""),
            ("\"", ""),
            ("\"\"a\"\"", "\"a\""),
            ("\"a", "\"a"),
            ("a\"", "a\""),
            ("", ""),
        ] {
            assert_eq!(unquote(value), bare, "{value}");
        }
    }

    #[test]
    fn header_bytes_are_decoded_as_latin_1_even_if_they_are_utf_8() {
        assert_eq!(text_of(b"abc"), "abc");
        assert_eq!(text_of("é".as_bytes()), "Ã©");
        assert_eq!(text_of(b"\xff"), "ÿ");
    }
}

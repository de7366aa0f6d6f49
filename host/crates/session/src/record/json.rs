//! JSON as raw text. It is checked and split without converting numbers or strings, so that text which Rust's types cannot
//! represent (a lone surrogate escape, `1e400`, 2^53 + 1) is preserved byte for byte. This module does not depend on sessions.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use cloakroom_base::limits::SESSION_VALUE_DEPTH_MAX;

/// Checks that `text` is one JSON text (RFC 8259), nested at most [`SESSION_VALUE_DEPTH_MAX`] deep, and returns it without the
/// surrounding white space. Escapes of lone surrogates, and numbers beyond every machine type, are valid JSON.
///
/// # Errors
/// Returns a sentence that describes the problem and its position, without quoting the text.
pub fn check_value(text: &str) -> Result<&str, String> {
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| format!("not a JSON text: {error}"))?;
    match first_too_deep(raw.get()) {
        None => Ok(raw.get()),
        Some(at) => Err(format!(
            "nested more than {SESSION_VALUE_DEPTH_MAX} deep at byte {}",
            offset(text, raw.get()) + at
        )),
    }
}

/// Returns the integer that a JSON text represents, if it is one. As in JavaScript, `1.0` and `1e3` are integers, up to 2^53.
pub fn as_integer(raw: &str) -> Option<i64> {
    let number = raw.trim_matches([' ', '\t', '\n', '\r']);
    if !number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    number.parse().ok().or_else(|| {
        let float: f64 = number.parse().ok()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i64)
    })
}

/// 2^53: every integer up to here is a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// One member of an object, as slices of the object's text.
pub(crate) struct RawMember<'a> {
    /// The key as written, with its quotes and escapes.
    pub(crate) key: &'a str,
    /// The value as written.
    pub(crate) value: &'a str,
}

/// Returns the members of the object in `text`, in order and with duplicates. White space may surround the object.
///
/// # Errors
/// Returns whether the text is not JSON, or is JSON but not an object.
pub(crate) fn object_members(text: &str) -> Result<Vec<RawMember<'_>>, NotAnObject> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer
        .deserialize_map(ObjectMembers)
        .map_err(|error| match error.is_data() {
            true => NotAnObject::OtherJson,
            false => NotAnObject::NotJson,
        })?;
    deserializer.end().map_err(|_| NotAnObject::NotJson)?;
    Ok(members)
}

/// Error returned when a text is not a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAnObject {
    /// It is not JSON.
    NotJson,
    /// It starts like another kind of JSON value.
    OtherJson,
}

struct ObjectMembers;

impl<'de> Visitor<'de> for ObjectMembers {
    type Value = Vec<RawMember<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        // Keys are read raw as well, because a `String` cannot hold a key with a lone surrogate.
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(RawMember {
                key: key.get(),
                value: value.get(),
            });
        }
        Ok(members)
    }
}

/// Decodes a JSON string. Returns `None` for other values, and for strings that no Rust string can hold.
pub(crate) fn decode_string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Encodes `text` as a JSON string, like `JSON.stringify`.
pub(crate) fn encode_string(text: &str) -> String {
    serde_json::to_string(text).expect("every Rust string is a JSON string")
}

/// Returns whether a JSON text without surrounding white space is truthy in JavaScript.
pub fn is_truthy(raw: &str) -> bool {
    match raw {
        "false" | "null" | "\"\"" => false,
        number if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
            number.parse::<f64>().is_ok_and(|n| n != 0.0)
        }
        _ => true,
    }
}

/// Returns the byte offset of `part`, a slice of `text`, in `text`.
pub(crate) fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// Returns the position of the first bracket in a valid JSON text that exceeds the depth limit.
fn first_too_deep(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'[' | b'{' if depth == SESSION_VALUE_DEPTH_MAX => return Some(at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            // Brackets inside a string do not count, and a backslash escapes the byte after it.
            b'"' => {
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_without_the_white_space_around_it() {
        assert_eq!(
            check_value(" \n\t{\"a\": [1, 2]}\r\n"),
            Ok("{\"a\": [1, 2]}")
        );
        assert_eq!(check_value("null"), Ok("null"));
    }

    #[test]
    fn values_without_a_rust_representation_are_valid_json() {
        for text in [
            r#""a\ud83dz""#,
            r#"{"\udc00":1}"#,
            "1e400",
            "-1E-999",
            "9007199254740993",
            "123456789012345678901234567890",
            "-0",
            "\"\\u0000\"",
            "\"😆\"",
        ] {
            assert_eq!(check_value(text), Ok(text));
        }
    }

    #[test]
    fn invalid_json_is_refused_with_its_position() {
        for text in [
            "",
            " ",
            "undefined",
            "NaN",
            "01",
            "+1",
            "1.",
            ".5",
            "'a'",
            "[1,]",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":1,}",
            "1 2",
            "\"a\nb\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\u{feff}1",
            "\u{a0}1",
            "\"a",
            "[",
            "tru",
            "{1:2}",
            "\"\u{1}\"",
        ] {
            let error = check_value(text).expect_err(text);
            assert!(error.starts_with("not a JSON text: "), "{error}");
            assert!(
                error.contains("line ") && error.contains("column "),
                "{error}"
            );
        }
        assert!(
            check_value("{\"a\":1,\n \"b\":x}")
                .unwrap_err()
                .ends_with("line 2 column 6")
        );
    }

    #[test]
    fn an_error_quotes_nothing_of_the_value() {
        for text in [
            "{\"hunter2\":hunter2}",
            "[\"hunter2\", hunter2]",
            "\"hunter2",
        ] {
            assert!(!check_value(text).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn nesting_is_limited_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| format!(" {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_value(&nested(SESSION_VALUE_DEPTH_MAX)).is_ok());
        assert_eq!(
            check_value(&nested(SESSION_VALUE_DEPTH_MAX + 1)),
            Err(format!(
                "nested more than {SESSION_VALUE_DEPTH_MAX} deep at byte {}",
                SESSION_VALUE_DEPTH_MAX + 1
            ))
        );
        let string = format!(r#""\"{}""#, "[".repeat(SESSION_VALUE_DEPTH_MAX * 2));
        assert!(check_value(&string).is_ok());
        let siblings = format!("[{}[]]", "[],".repeat(SESSION_VALUE_DEPTH_MAX * 2));
        assert!(check_value(&siblings).is_ok());
    }

    #[test]
    fn a_million_brackets_do_not_overflow_the_stack() {
        let depth = 1_000_000;
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_value(&text).is_err());
        assert!(check_value(&"[".repeat(depth)).is_err());
        assert_eq!(
            object_members(&format!("{{\"a\":{text}}}")).unwrap().len(),
            1
        );
    }

    #[test]
    fn integers_are_recognised_as_javascript_counts_them() {
        for (raw, integer) in [
            ("0", 0),
            ("-0", 0),
            (" 7\n", 7),
            ("-12", -12),
            ("1.0", 1),
            ("1e3", 1000),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("9007199254740993", 9_007_199_254_740_993),
        ] {
            assert_eq!(as_integer(raw), Some(integer), "{raw}");
        }
        for raw in [
            "1.5",
            "1e400",
            "1e19",
            "\"1\"",
            "null",
            "true",
            "[]",
            "{}",
            "9223372036854775808",
            "+1",
            "inf",
            "-",
        ] {
            assert_eq!(as_integer(raw), None, "{raw}");
        }
    }

    #[test]
    fn truthiness_is_that_of_javascript() {
        for raw in ["false", "null", "0", "-0", "0.0", "0e5", "1e-400", "\"\""] {
            assert!(!is_truthy(raw), "{raw}");
        }
        for raw in ["true", "1", "-1", "1e400", "\"0\"", "\"auto\"", "{}", "[]"] {
            assert!(is_truthy(raw), "{raw}");
        }
    }
}

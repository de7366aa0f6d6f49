//! Properties of every row that a store may return, and of every change to it.
//!
//! An input is a row's text followed by changes. Each change is preceded by a byte 0xFF, which no UTF-8 text contains: `s KEY
//! 0xFE VALUE` sets a key, `d KEY` deletes one, `c` deletes all, and `e AGE,END` sets the cookie's lifetime.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use serde_json::Value;

use super::json::{self, as_integer, check_value, is_truthy};
use super::{Document, StoredCookieObject, is_reserved_key};

/// The keys that guests see, with their values, in order.
type Entries = Vec<(String, String)>;

/// The fuzz target `rows`.
pub fn row(input: &[u8]) {
    let mut parts = input.split(|byte| *byte == 0xff);
    let source = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    check_as_value(&source);
    let mut document = match Document::parse(&source) {
        Ok(document) => document,
        Err(error) => {
            assert!(!is_a_session(&source), "a session was refused: {error}");
            return;
        }
    };
    check_untouched(&document, &source);
    check_undone(&document);
    for change in parts {
        document = changed(document, change);
        // A written row must be readable by this host and by Express.
        let written = document.to_bytes();
        assert_eq!(written.len(), document.json_len());
        let read = Document::parse(&written).expect("a written row is read again");
        check_untouched(&read, &written);
        assert_eq!(entries(&read), entries(&document));
        assert_eq!(read.cookie().as_json(), document.cookie().as_json());
        assert_eq!(
            read.cookie().attributes(),
            document.cookie().attributes(),
            "a cookie says what it was told to say"
        );
    }
}

fn entries(document: &Document) -> Entries {
    let value = |key: String| {
        let value = document.get(&key).expect("a listed key has a value");
        let value = value.to_owned();
        (key, value)
    };
    document.keys().into_iter().map(value).collect()
}

/// Asserts that an unchanged row keeps its bytes, and that guests see only their own keys.
fn check_untouched(document: &Document, source: &Bytes) {
    assert_eq!(document.to_bytes(), source);
    assert_eq!(document.to_json().as_bytes(), source);
    assert_eq!(document.json_len(), source.len());
    assert!(document.has_same_entries(document));
    let entries = entries(document);
    assert_eq!(entries.len(), document.key_count());
    for (at, (key, value)) in entries.iter().enumerate() {
        assert!(!is_reserved_key(key), "a guest sees a reserved key");
        assert!(entries[..at].iter().all(|(other, _)| other != key));
        serde_json::from_str::<&serde_json::value::RawValue>(value).expect("a value is JSON");
    }
}

/// Asserts that undone changes restore the row's bytes.
fn check_undone(document: &Document) {
    let source = document.to_bytes();
    const NEW: &str = "a key of nobody's";
    let mut changed = document.clone();
    if document.get(NEW).is_none() {
        changed.set(NEW, "[1]");
        assert_eq!(changed.get(NEW), Some("[1]"));
        assert!(changed.delete(NEW));
        assert_eq!(changed.to_json().as_bytes(), source, "set, then deleted");
    }
    // Setting a repeated key keeps only one of its entries.
    if has_duplicates(&source) {
        return;
    }
    for (key, value) in entries(document) {
        let mut changed = document.clone();
        changed.set(&key, "\"another value\"");
        assert_eq!(changed.keys(), document.keys());
        changed.set(&key, &value);
        assert_eq!(changed.to_json().as_bytes(), source, "set, then set back");
    }
}

/// Returns whether a key occurs in the row more than once.
fn has_duplicates(source: &Bytes) -> bool {
    let text = std::str::from_utf8(source).expect("a document is UTF-8");
    let members = json::object_members(text).expect("a document is an object");
    let mut names = HashSet::new();
    !members.iter().all(|member| {
        let name = json::decode_string(member.key);
        names.insert(name.unwrap_or(Cow::Borrowed(member.key)))
    })
}

fn changed(before: Document, change: &[u8]) -> Document {
    let mut document = before.clone();
    let expected = match change {
        [b's', rest @ ..] => {
            let Some((key, value)) = key_and_value(rest) else {
                return before;
            };
            document.set(key, value);
            with(entries(&before), key, value)
        }
        [b'd', key @ ..] => {
            let Ok(key) = std::str::from_utf8(key) else {
                return before;
            };
            let was_there = document.delete(key);
            assert_eq!(was_there, before.get(key).is_some());
            let kept = entries(&before).into_iter().filter(|(own, _)| own != key);
            kept.collect()
        }
        [b'c', ..] => {
            document.clear();
            Entries::new()
        }
        [b'e', times @ ..] => {
            set_expiry(&mut document, times);
            entries(&before)
        }
        _ => entries(&before),
    };
    assert_eq!(entries(&document), expected);
    document
}

fn key_and_value(bytes: &[u8]) -> Option<(&str, &str)> {
    let at = bytes.iter().position(|byte| *byte == 0xfe)?;
    let key = std::str::from_utf8(&bytes[..at]).ok()?;
    let value = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    Some((key, check_value(value).ok()?))
}

fn with(mut entries: Entries, key: &str, value: &str) -> Entries {
    if is_reserved_key(key) {
        return entries;
    }
    match entries.iter_mut().find(|(own, _)| own == key) {
        Some((_, own)) => value.clone_into(own),
        None => entries.push((key.to_owned(), value.to_owned())),
    }
    entries
}

fn set_expiry(document: &mut Document, times: &[u8]) {
    let text = String::from_utf8_lossy(times);
    let (age, end) = text.split_once(',').unwrap_or((&text, ""));
    let (age, end) = (age.parse().ok(), end.parse().ok());
    let mut cookie = document.cookie().clone();
    // The times that a clock and a configuration can produce: nothing after the year 9999.
    let (age, end) = (age.filter(is_a_time), end.filter(is_a_time));
    cookie.set_expiry(age, end);
    let again = StoredCookieObject::parse(Bytes::from(cookie.as_json().to_owned()));
    assert_eq!(again.as_ref(), Some(&cookie), "a cookie is read as written");
    let attributes = cookie.attributes();
    assert_eq!(attributes.original_max_age_ms, age);
    assert_eq!(attributes.expires_at_ms, end);
    document.set_cookie(cookie);
}

fn is_a_time(ms: &i64) -> bool {
    (0..=super::timestamp::LAST_MS).contains(ms)
}

/// Returns whether an independent parser finds an object with an object under `cookie`. It accepts less than `JSON.parse`: no
/// lone surrogates, no numbers beyond a double, and no deep nesting.
fn is_a_session(source: &[u8]) -> bool {
    let value: Result<Value, _> = serde_json::from_slice(source);
    value.is_ok_and(|value| value.get("cookie").is_some_and(Value::is_object))
}

/// Asserts that the functions for one value agree with an independent parser.
fn check_as_value(source: &[u8]) {
    let Ok(text) = std::str::from_utf8(source) else {
        return;
    };
    let value: Result<Value, _> = serde_json::from_str(text);
    match check_value(text) {
        Ok(raw) => {
            assert_eq!(check_value(raw), Ok(raw), "white space is taken off once");
            assert!(text.contains(raw));
            let Ok(value) = value else { return };
            if let Some(number) = value.as_i64() {
                assert_eq!(as_integer(raw), Some(number));
            } else if !value.is_number() {
                assert_eq!(as_integer(raw), None);
            }
            let truth = match &value {
                Value::Null => false,
                Value::Bool(truth) => *truth,
                Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(_) | Value::Object(_) => true,
            };
            assert_eq!(is_truthy(raw), truth, "truth is JavaScript's");
        }
        Err(error) => {
            let is_too_deep = error.starts_with("nested more than ");
            assert!(value.is_err() || is_too_deep, "JSON was refused: {error}");
        }
    }
}

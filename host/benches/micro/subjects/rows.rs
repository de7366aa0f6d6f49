//! Two sessions in the form of their rows, and the change that a request makes to such a text.

use bytes::Bytes;
use cloakroom_session::record::{CookieAttributes, Document, StoredCookieObject};

/// The key that [`change`] writes.
const KEY: &str = "num";

/// A typical session: about 140 bytes.
pub(crate) fn small() -> Bytes {
    row(&[("user", r#"{"id":4711,"name":"Kim Min-jun","lang":"ko"}"#)])
}

/// A shop's session with a full basket: about 10 KB in 41 keys.
pub(crate) fn large() -> Bytes {
    let value = format!(
        r#"{{"title":"{}","price":1999,"tags":["a","b"]}}"#,
        "x".repeat(190)
    );
    let keys: Vec<String> = (0..40).map(|n| format!("item-{n}")).collect();
    let entries: Vec<_> = keys.iter().map(|key| (key.as_str(), &*value)).collect();
    row(&entries)
}

/// Parses a row's text, changes one entry and writes the text again.
pub(crate) fn change(row: &Bytes) -> Bytes {
    let mut document = Document::parse(row).expect("a session's row");
    document.set(KEY, "43");
    document.to_bytes()
}

fn row(entries: &[(&str, &str)]) -> Bytes {
    let mut document = Document::new(StoredCookieObject::new(&CookieAttributes::default()));
    document.set(KEY, "42");
    for (key, value) in entries {
        document.set(key, value);
    }
    document.to_bytes()
}

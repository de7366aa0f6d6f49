//! The text of an Express row as a document: an object with `cookie` and the guests' keys. The parts are kept as slices of the
//! original text, so that unchanged parts stay byte for byte. This module does not depend on stores, policy or limits.

mod reserved;

pub use reserved::is_reserved_key;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::attributes::StoredCookieObject;
use super::charset::Charset;
use super::json::{self, NotAnObject, RawMember};

/// The session's JSON.
///
/// Parsing is as tolerant as `JSON.parse`: the last value of a repeated key counts, and text that Rust's types cannot represent
/// is preserved. Keys that Express reserves stay in the row, but guests do not see them.
#[derive(Clone)]
pub struct Document {
    /// The parsed text. The pieces point into it.
    source: Bytes,
    /// The text up to and including the opening brace.
    opening: Range<usize>,
    /// The closing brace and the text after it.
    closing: Range<usize>,
    members: Vec<DocumentMember>,
    cookie: StoredCookieObject,
    /// The characters that the row's column can hold. Others are escaped in new text.
    charset: Charset,
    /// Whether the row contains a key more than once. No known program writes such rows, so they are not optimized for.
    has_duplicates: bool,
    /// Whether the text is still equal to `source`.
    is_untouched: bool,
}

/// Error returned when a row's text is not a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptDocument {
    /// The text is not UTF-8.
    #[error("the row's data is not UTF-8")]
    NotUtf8,
    /// The text is not JSON.
    #[error("the row's data is not JSON")]
    NotJson,
    /// The text is JSON, but not an object.
    #[error("the row's data is not a JSON object")]
    NotAnObject,
    /// There is no object under `cookie`.
    #[error("the row's data has no object under \"cookie\"")]
    NoCookie,
}

impl Document {
    /// Parses a row's data. It copies nothing, so the document keeps `data` alive.
    ///
    /// # Errors
    /// Returns an error if Express could not make a session of the data.
    pub fn parse(data: &Bytes) -> Result<Self, CorruptDocument> {
        let text = std::str::from_utf8(data).map_err(|_| CorruptDocument::NotUtf8)?;
        let raw = json::object_members(text).map_err(|error| match error {
            NotAnObject::NotJson => CorruptDocument::NotJson,
            NotAnObject::OtherJson => CorruptDocument::NotAnObject,
        })?;
        let opening = 0..text.find('{').ok_or(CorruptDocument::NotAnObject)? + 1;
        let closing = text.rfind('}').ok_or(CorruptDocument::NotAnObject)?..text.len();
        let mut begin = opening.end;
        let mut members = Vec::with_capacity(raw.len());
        for member in &raw {
            let parsed = DocumentMember::of(text, begin, member);
            // Skip the white space after the value, and the comma after that.
            begin = after_end(text, member) + 1;
            members.push(parsed);
        }
        let cookie = members
            .iter()
            .rposition(|m| m.kind == MemberKind::Cookie)
            .and_then(|at| StoredCookieObject::parse(data.slice_ref(raw[at].value.as_bytes())))
            .ok_or(CorruptDocument::NoCookie)?;
        let mut names = HashSet::with_capacity(members.len());
        let has_duplicates = !members
            .iter()
            .all(|m| names.insert((m.kind, m.name.of(data))));
        Ok(Self {
            source: data.clone(),
            opening,
            closing,
            members,
            cookie,
            charset: Charset::Unicode,
            has_duplicates,
            is_untouched: true,
        })
    }

    /// Creates a session without keys.
    pub fn new(cookie: StoredCookieObject) -> Self {
        let text = format!("{{\"cookie\":{}}}", cookie.as_json());
        let mut document = Self::parse(&Bytes::from(text)).expect("a cookie's text is an object");
        document.cookie = cookie;
        document
    }

    /// Declares the character set of the row's column. From now on, new keys, values and cookies are encoded for it. Entries
    /// that were parsed keep their bytes, which come from such a column.
    #[must_use]
    pub fn held_in(mut self, charset: Charset) -> Self {
        self.charset = charset;
        if let Cow::Owned(text) = charset.encode(self.cookie.as_json()) {
            self.write_cookie(&text);
        }
        self
    }

    /// Returns the JSON text of a key's value as written, or `None` for absent and reserved keys.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.last_position(key)?;
        let value = self.members[at].value.of(&self.source);
        Some(std::str::from_utf8(value).expect("every piece is UTF-8"))
    }

    /// Sets a key: in its place if it exists, otherwise at the end. `value` is one JSON text, see
    /// [`check_value`](super::check_value). Characters that the row's column cannot hold are escaped. Reserved keys are
    /// ignored, so the caller must refuse them.
    pub fn set(&mut self, key: &str, value: &str) {
        let value = &*self.charset.encode(value);
        if is_reserved_key(key) || self.get(key) == Some(value) {
            return;
        }
        self.is_untouched = false;
        let value = TextPiece::own(value);
        match self.first_position(key) {
            Some(at) => {
                self.members[at].value = value;
                self.drop_duplicates_of(at);
            }
            None => {
                let before = self.key_piece(key);
                self.members.push(DocumentMember {
                    kind: MemberKind::Visible,
                    name: TextPiece::own(key),
                    before,
                    value,
                    after: TextPiece::Source(0..0),
                });
            }
        }
    }

    /// Deletes a key. Returns whether it existed.
    pub fn delete(&mut self, key: &str) -> bool {
        let Some(at) = self.first_position(key) else {
            return false;
        };
        self.is_untouched = false;
        self.drop_duplicates_of(at);
        self.members.remove(at);
        true
    }

    /// Deletes every key that guests see.
    pub fn clear(&mut self) {
        let members = self.members.len();
        self.members.retain(|m| m.kind != MemberKind::Visible);
        self.is_untouched &= self.members.len() == members;
    }

    /// Returns the keys that guests see, in the row's order, each once.
    pub fn keys(&self) -> Vec<String> {
        let mut seen = HashSet::new();
        self.visible_names()
            .filter(|name| !self.has_duplicates || seen.insert(*name))
            .map(|name| String::from_utf8(name.to_vec()).expect("every piece is UTF-8"))
            .collect()
    }

    /// Returns the number of keys that guests see.
    pub fn key_count(&self) -> usize {
        if self.has_duplicates {
            self.visible_names().collect::<HashSet<_>>().len()
        } else {
            self.visible_names().count()
        }
    }

    /// Returns whether all entries except the cookie have the same text in the same order. This is what the hash of
    /// express-session compares.
    pub fn has_same_entries(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }

    /// Returns the row's text. If nothing was changed, it is exactly the parsed text.
    pub fn to_json(&self) -> String {
        String::from_utf8(self.write()).expect("every piece is UTF-8")
    }

    /// Returns the row's text as a record holds it. If nothing was changed, this copies nothing.
    pub fn to_bytes(&self) -> Bytes {
        if self.is_untouched {
            self.source.clone()
        } else {
            Bytes::from(self.write())
        }
    }

    /// Returns the length of the row's text, in bytes.
    pub fn json_len(&self) -> usize {
        if self.is_untouched {
            return self.source.len();
        }
        let members: usize = self.members.iter().map(|m| self.member_len(m)).sum();
        self.opening.len() + members + self.members.len() - 1 + self.closing.len()
    }

    /// Returns the cookie object.
    pub fn cookie(&self) -> &StoredCookieObject {
        &self.cookie
    }

    /// Replaces the cookie object, in its place.
    pub fn set_cookie(&mut self, cookie: StoredCookieObject) {
        if self.cookie.as_json() != cookie.as_json() {
            self.write_cookie(&self.charset.encode(cookie.as_json()));
        }
        self.cookie = cookie;
    }

    fn write_cookie(&mut self, text: &str) {
        self.is_untouched = false;
        let is_cookie = |m: &DocumentMember| m.kind == MemberKind::Cookie;
        if let Some(at) = self.members.iter().position(is_cookie) {
            self.members[at].value = TextPiece::own(text);
            self.drop_duplicates_of(at);
        }
    }

    fn key_piece(&self, key: &str) -> TextPiece {
        let key = json::encode_string(key);
        TextPiece::own(&format!("{}:", self.charset.encode(&key)))
    }

    fn visible_names(&self) -> impl Iterator<Item = &[u8]> {
        let visible = self
            .members
            .iter()
            .filter(|m| m.kind == MemberKind::Visible);
        visible.map(|m| m.name.of(&self.source))
    }

    /// The members other than the cookie, as kind, name and value.
    fn entries(&self) -> impl Iterator<Item = (MemberKind, &[u8], &[u8])> {
        let others = self.members.iter().filter(|m| m.kind != MemberKind::Cookie);
        others.map(|m| (m.kind, m.name.of(&self.source), m.value.of(&self.source)))
    }

    fn first_position(&self, key: &str) -> Option<usize> {
        self.members.iter().position(|m| self.is_named(m, key))
    }

    fn last_position(&self, key: &str) -> Option<usize> {
        self.members.iter().rposition(|m| self.is_named(m, key))
    }

    fn is_named(&self, member: &DocumentMember, key: &str) -> bool {
        member.kind == MemberKind::Visible && member.name.of(&self.source) == key.as_bytes()
    }

    /// Removes all members with the name of the one at `first`, except that one.
    fn drop_duplicates_of(&mut self, first: usize) {
        if !self.has_duplicates {
            return;
        }
        let source = &self.source;
        let DocumentMember { kind, name, .. } = self.members[first].clone();
        let mut at = 0;
        self.members.retain(|m| {
            at += 1;
            at - 1 <= first || m.kind != kind || m.name.of(source) != name.of(source)
        });
    }

    fn write(&self) -> Vec<u8> {
        let source: &[u8] = &self.source;
        if self.is_untouched {
            return source.to_vec();
        }
        let mut text = Vec::with_capacity(self.json_len());
        text.extend_from_slice(&source[self.opening.clone()]);
        for (at, member) in self.members.iter().enumerate() {
            if at > 0 {
                text.push(b',');
            }
            text.extend_from_slice(member.before.of(source));
            text.extend_from_slice(member.value.of(source));
            text.extend_from_slice(member.after.of(source));
        }
        text.extend_from_slice(&source[self.closing.clone()]);
        text
    }

    fn member_len(&self, member: &DocumentMember) -> usize {
        let pieces = [&member.before, &member.value, &member.after];
        pieces.iter().map(|p| p.of(&self.source).len()).sum()
    }
}

/// Shows only sizes, because the rest is what visitors have entered.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("json_bytes", &self.json_len())
            .field("keys", &self.key_count())
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct DocumentMember {
    kind: MemberKind,
    /// The decoded key. A key that no Rust string can hold is kept as written, including its quotes.
    name: TextPiece,
    /// The text from after the preceding comma or brace to the value.
    before: TextPiece,
    value: TextPiece,
    /// White space up to the next comma or brace.
    after: TextPiece,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum MemberKind {
    Cookie,
    /// Stays in the row but is hidden from guests: a reserved key, or a name that no guest can express.
    Hidden,
    Visible,
}

impl DocumentMember {
    /// Returns the member of `text` that begins at `begin`, directly after a comma or the opening brace.
    fn of(text: &str, begin: usize, raw: &RawMember<'_>) -> Self {
        let key = json::offset(text, raw.key);
        let value = json::offset(text, raw.value);
        let value_end = value + raw.value.len();
        let (kind, name) = match json::decode_string(raw.key) {
            None => (
                MemberKind::Hidden,
                TextPiece::Source(key..key + raw.key.len()),
            ),
            Some(Cow::Borrowed(name)) => (
                MemberKind::of(name),
                TextPiece::Source(key + 1..key + 1 + name.len()),
            ),
            Some(Cow::Owned(name)) => (MemberKind::of(&name), TextPiece::own(&name)),
        };
        Self {
            kind,
            name,
            before: TextPiece::Source(begin..value),
            value: TextPiece::Source(value..value_end),
            after: TextPiece::Source(value_end..after_end(text, raw)),
        }
    }
}

impl MemberKind {
    fn of(name: &str) -> Self {
        match name {
            "cookie" => Self::Cookie,
            reserved if is_reserved_key(reserved) => Self::Hidden,
            _ => Self::Visible,
        }
    }
}

/// Returns the position of the comma or brace after a member. Only white space can precede it.
fn after_end(text: &str, raw: &RawMember<'_>) -> usize {
    let value_end = json::offset(text, raw.value) + raw.value.len();
    let blank = text.as_bytes()[value_end..]
        .iter()
        .take_while(|byte| byte.is_ascii_whitespace());
    value_end + blank.count()
}

/// A part of the text: a range of the source, or new text.
#[derive(Clone)]
enum TextPiece {
    Source(Range<usize>),
    Own(Bytes),
}

impl TextPiece {
    fn own(text: &str) -> Self {
        Self::Own(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn of<'a>(&'a self, source: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Source(range) => &source[range.clone()],
            Self::Own(text) => text,
        }
    }
}

#[cfg(test)]
mod tests;

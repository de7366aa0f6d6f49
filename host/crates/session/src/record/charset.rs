//! The characters that a column can hold, and the encoding of other characters in JSON: as `\uXXXX`, with a surrogate pair
//! beyond U+FFFF. This module does not depend on stores or sessions.
//!
//! Characters are escaped when the document is written, before its size counts, so that the row, its digest and the snapshot are
//! one text. The server reports at start which characters a single-byte set (`latin1`, `cp1251`) holds. For sets with several
//! bytes for a character, everything beyond ASCII is escaped.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The characters that the store's column for session data can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Charset {
    /// All characters: `utf8mb4`, binary columns, and every store except MySQL.
    #[default]
    Unicode,
    /// Characters up to U+FFFF: MySQL's `utf8mb3`, also called `utf8`, and `ucs2`.
    Basic,
    /// ASCII and these characters, in sorted order: a single-byte character set (`latin1`, `cp1251`), as the server reports it.
    Listed(&'static [char]),
    /// ASCII, which every other character set includes.
    Ascii,
}

impl Charset {
    /// Returns the character set for MySQL's name `name` (`utf8mb3`), as far as the name alone determines it. `None` is a
    /// column of bytes or of the server's JSON type.
    pub fn of_mysql(name: Option<&str>) -> Self {
        match name {
            None | Some("utf8mb4" | "utf16" | "utf16le" | "utf32" | "binary") => Self::Unicode,
            Some("utf8" | "utf8mb3" | "ucs2") => Self::Basic,
            Some(_) => Self::Ascii,
        }
    }

    /// Returns the set of ASCII and these characters. The list is never freed, because a store does this only once.
    pub fn listed(mut chars: Vec<char>) -> Self {
        chars.retain(|c| !c.is_ascii());
        chars.sort_unstable();
        match chars.is_empty() {
            true => Self::Ascii,
            false => Self::Listed(chars.leak()),
        }
    }

    /// Returns whether the column can hold `c`.
    pub fn holds(self, c: char) -> bool {
        match self {
            Self::Unicode => true,
            Self::Basic => u32::from(c) <= 0xffff,
            Self::Listed(chars) => c.is_ascii() || chars.binary_search(&c).is_ok(),
            Self::Ascii => c.is_ascii(),
        }
    }

    /// Returns the same JSON in characters that the column can hold. It has at most three times as many bytes, and is copied
    /// only if a character is replaced.
    ///
    /// `json` must be a JSON text, or a part of one that splits no escape. It may contain non-ASCII characters only inside
    /// strings, and never directly after an escaping backslash.
    pub fn encode(self, json: &str) -> Cow<'_, str> {
        if self == Self::Unicode || json.is_ascii() {
            return Cow::Borrowed(json);
        }
        let Some(first) = json.find(|c: char| !self.holds(c)) else {
            return Cow::Borrowed(json);
        };
        let mut text = String::with_capacity(json.len() * 2);
        text.push_str(&json[..first]);
        for c in json[first..].chars() {
            if self.holds(c) {
                text.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(text, "\\u{unit:04x}").expect("a String takes all text");
            }
        }
        Cow::Owned(text)
    }
}

#[cfg(test)]
mod tests;

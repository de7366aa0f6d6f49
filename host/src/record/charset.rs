//! Which characters a column can hold, and how JSON texts say the others: as `\uXXXX`, with a surrogate pair beyond U+FFFF.
//! Knows no store and no sessions.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The characters that the store's column of session data can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Charset {
    /// All: `utf8mb4`, bytes, and every store but MySQL.
    #[default]
    Unicode,
    /// Those up to U+FFFF: MySQL's `utf8mb3`, also called `utf8`, and `ucs2`.
    Basic,
    /// ASCII and these, in order: a set of one byte for each character (`latin1`, `cp1251`), as the server tells it.
    Listed(&'static [char]),
    /// ASCII: every other set has that at least.
    Ascii,
}

impl Charset {
    /// The character set with MySQL's name `name` (`utf8mb3`), as far as the name alone tells; none where the column holds bytes or the
    /// server's own JSON.
    pub fn of_mysql(name: Option<&str>) -> Self {
        match name {
            None | Some("utf8mb4" | "utf16" | "utf16le" | "utf32" | "binary") => Self::Unicode,
            Some("utf8" | "utf8mb3" | "ucs2") => Self::Basic,
            Some(_) => Self::Ascii,
        }
    }

    /// ASCII and these characters. The list is never freed: a store asks once.
    pub fn listed(mut chars: Vec<char>) -> Self {
        chars.retain(|c| !c.is_ascii());
        chars.sort_unstable();
        match chars.is_empty() {
            true => Self::Ascii,
            false => Self::Listed(chars.leak()),
        }
    }

    /// Whether the column can hold `c`.
    pub fn holds(self, c: char) -> bool {
        match self {
            Self::Unicode => true,
            Self::Basic => u32::from(c) <= 0xffff,
            Self::Listed(chars) => c.is_ascii() || chars.binary_search(&c).is_ok(),
            Self::Ascii => c.is_ascii(),
        }
    }

    /// The same JSON in characters that the column can hold; at most three times as long in bytes, and copied only where a
    /// character is replaced.
    ///
    /// `json` must be a JSON text or a part of one that splits no escape: beyond ASCII it has characters inside strings alone,
    /// and never right behind a backslash that escapes.
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

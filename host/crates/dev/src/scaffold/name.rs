//! The name of a project, and its use in templates.

use std::fmt;
use std::str::FromStr;

use super::NAME_IN_TEMPLATES;

/// The maximum length of a name, as for guests.
const CHARS_MAX: usize = 64;

/// The name of a project: a lowercase letter followed by lowercase letters, digits and `-`; at most 64 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectName(String);

/// Error returned when a text is not a valid [`ProjectName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is not a valid project name: write a lowercase letter, then lowercase letters, digits and `-`, at most {CHARS_MAX}; {suggestion}"
)]
pub struct BadProjectName {
    suggestion: String,
}

impl ProjectName {
    /// Returns the name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProjectName {
    type Err = BadProjectName;

    fn from_str(text: &str) -> Result<Self, BadProjectName> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        let meant = meant(text);
        let suggestion = if is_name(&meant) {
            format!("did you mean `{meant}`?")
        } else {
            format!("`{NAME_IN_TEMPLATES}` is one")
        };
        Err(BadProjectName { suggestion })
    }
}

fn is_name(text: &str) -> bool {
    let is_rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= CHARS_MAX
        && text.chars().all(is_rest)
}

/// Returns the valid name that is closest to the text. The result may still be invalid.
fn meant(text: &str) -> String {
    let mut name = String::new();
    let mut before = '-';
    for c in text.chars() {
        let starts_a_word = c.is_uppercase() && before.is_lowercase();
        before = c;
        if (starts_a_word || !c.is_ascii_alphanumeric()) && !name.is_empty() && !name.ends_with('-')
        {
            name.push('-');
        }
        if c.is_ascii_alphabetic() || (c.is_ascii_digit() && !name.is_empty()) {
            name.push(c.to_ascii_lowercase());
        }
    }
    name.truncate(CHARS_MAX);
    name.trim_end_matches('-').to_owned()
}

/// Replaces the template's project name in the text by this name. Replaces whole words only.
pub(crate) fn put(name: &ProjectName, text: &str) -> String {
    let is_of_a_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(NAME_IN_TEMPLATES) {
        let (before, after) = (&rest[..at], &rest[at + NAME_IN_TEMPLATES.len()..]);
        result += before;
        let is_apart = !result.ends_with(is_of_a_word) && !after.starts_with(is_of_a_word);
        result += if is_apart {
            name.as_str()
        } else {
            NAME_IN_TEMPLATES
        };
        rest = after;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_small_letters_digits_and_dashes() {
        for good in ["a", "shop", "my-shop-2", &"a".repeat(64)] {
            assert_eq!(good.parse::<ProjectName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_invalid_project_name_is_refused_with_a_suggestion() {
        for (bad, meant) in [
            ("Shop", "`shop`"),
            ("my_shop", "`my-shop`"),
            ("MyShop", "`my-shop`"),
            ("2-shops!", "`shops`"),
            ("./shop", "`shop`"),
            ("", "`hello`"),
            ("42", "`hello`"),
            (&"ab".repeat(40), &format!("`{}`", "ab".repeat(32))),
        ] {
            let error = bad.parse::<ProjectName>().unwrap_err().to_string();
            assert!(error.contains(meant), "{bad}: {error}");
        }
    }

    #[test]
    fn the_name_replaces_the_placeholder_only_as_a_whole_word() {
        let name = "hello-world".parse().unwrap();
        for (text, expected) in [
            ("hello", "hello-world"),
            ("[guest.hello]", "[guest.hello-world]"),
            (
                "build/hello.wasm hello",
                "build/hello-world.wasm hello-world",
            ),
            ("othello hello_ hello2", "othello hello_ hello2"),
            ("", ""),
        ] {
            assert_eq!(put(&name, text), expected);
        }
    }
}

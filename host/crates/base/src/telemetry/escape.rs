//! Escapes foreign text before it is shown: guests, components, visitors and files can put text into lines that people read.
//!
//! Text is escaped when it leaves the process: in log lines ([`EscapeForm`]) and in the output of commands ([`escape_lines`]). No other
//! code has to escape, except where it joins foreign text with line breaks of its own ([`escape`]).

use std::borrow::Cow;
use std::fmt::Write as _;

/// The escape syntax of harmful characters in a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EscapeForm {
    /// Rust's escapes: `\n`, `\u{1b}`.
    Text,
    /// JSON's escapes (RFC 8259, section 7). In valid JSON, the escaped characters only occur within strings.
    Json,
}

/// Whether a character could forge a line, control a terminal, change the direction of text, or be invisible in it.
fn is_harmful(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control() && c != '\t';
    }
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0e}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
        )
}

impl EscapeForm {
    fn spell(self, c: char, into: &mut String) {
        match self {
            Self::Text => into.extend(c.escape_default()),
            Self::Json => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(into, "\\u{unit:04x}");
                }
            }
        }
    }

    /// Escapes the harmful characters of a line that has no line break at its end.
    pub(crate) fn escape(self, text: &str) -> Cow<'_, str> {
        // Nearly every line is printable ASCII and needs no decoding of characters.
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) || byte == b'\t';
        if text.bytes().all(is_plain) || !text.chars().any(is_harmful) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_harmful(c) {
                self.spell(c, &mut escaped);
            } else {
                escaped.push(c);
            }
        }
        Cow::Owned(escaped)
    }
}

/// Escapes characters that could forge a line, control a terminal or deceive the reader. Tabs stay.
pub fn escape(text: &str) -> Cow<'_, str> {
    EscapeForm::Text.escape(text)
}

/// Escapes a text like [`escape`], but keeps its line breaks.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    if matches!(escape(text), Cow::Borrowed(_)) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<_> = text.split('\n').map(escape).collect();
    Cow::Owned(lines.join("\n"))
}

/// Escapes a JSON text like [`escape_lines`], with JSON's escapes.
pub fn escape_json(text: &str) -> Cow<'_, str> {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| EscapeForm::Json.escape(line))
        .collect();
    Cow::Owned(lines.join("\n"))
}

/// Returns the longest prefix of a text that has at most `bytes_max` bytes, and whether that is the whole text.
pub fn cut(text: &str, bytes_max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(bytes_max);
    (&text[..end], end == text.len())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Harmful characters, one of each kind.
    pub(crate) const HARMFUL: [char; 24] = [
        '\0',
        '\u{7}',
        '\u{8}',
        '\n',
        '\u{b}',
        '\r',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{9d}',
        '\u{ad}',
        '\u{200b}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn a_line_cannot_drive_a_terminal_or_forge_another_line() {
        assert_eq!(
            escape("a\u{1b}[31mb\u{9b}c\rd\ne"),
            "a\\u{1b}[31mb\\u{9b}c\\rd\\ne"
        );
        assert_eq!(escape("x\u{202e}y\u{2028}z"), "x\\u{202e}y\\u{2028}z");
        assert_eq!(escape("N번 접속\t✓"), "N번 접속\t✓");
    }

    #[test]
    fn every_harmful_character_is_escaped_in_both_forms() {
        let all: String = HARMFUL.iter().flat_map(|c| ['a', *c]).collect();
        for form in [EscapeForm::Text, EscapeForm::Json] {
            let escaped = form.escape(&all);
            assert!(
                escaped.chars().all(|c| (' '..='~').contains(&c)),
                "{escaped}"
            );
            assert_eq!(form.escape(&escaped), escaped, "once is enough");
        }
        let json = format!("\"{}\"", EscapeForm::Json.escape(&all));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
    }

    #[test]
    fn line_breaks_are_kept_in_text_of_several_lines() {
        assert_eq!(escape_lines("a\u{7}\n    b\n"), "a\\u{7}\n    b\n");
        assert_eq!(escape_json("{\n\"\u{9b}\"\n}\n"), "{\n\"\\u009b\"\n}\n");
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(cut("aé", 2), ("a", false));
        assert_eq!(cut("aé", 3), ("aé", true));
    }
}

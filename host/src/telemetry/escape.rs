//! Makes text of others harmless to show: guests and visitors have a say in lines that people read.

use std::borrow::Cow;

/// Spells out what could forge a line, drive a terminal or turn its text around. Tabs stay.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_drive_a_terminal_or_forge_another_line() {
        assert_eq!(
            escape("a\u{1b}[31mb\u{9b}c\rd\ne"),
            "a\\u{1b}[31mb\\u{9b}c\\rd\\ne"
        );
        assert_eq!(escape("x\u{202e}y\u{2028}z"), "x\\u{202e}y\\u{2028}z");
        assert_eq!(escape("N번 접속\t✓"), "N번 접속\t✓");
    }
}

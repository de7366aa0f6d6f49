//! Splits Rust source text into tokens. Comments are left out.
//!
//! Exact enough for the rules of this package: `::` and `->` are one token each, all other punctuation is one token for each character.

/// A token of Rust source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The source text; that of a literal includes its quotes.
    pub text: &'a str,
    /// The line where the token begins, counted from 1.
    pub line: usize,
}

impl Token<'_> {
    /// Returns whether the token is an identifier or a keyword.
    #[must_use]
    pub fn is_word(&self) -> bool {
        let is_literal = self.text.ends_with('\'') || self.is_string();
        self.text
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
            && !is_literal
    }

    /// Returns whether the token is a string literal of any kind.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.text.ends_with(['"', '#']) && self.text.contains('"')
    }
}

/// Returns the tokens of a Rust file.
#[must_use]
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut line = 1;
    let mut found = Vec::new();
    while lexer.at < text.len() {
        let start = lexer.at;
        let is_token = lexer.step();
        let part = &text[start..lexer.at];
        if is_token {
            found.push(Token { text: part, line });
        }
        line += part.matches('\n').count();
    }
    found
}

struct Lexer<'a> {
    text: &'a str,
    /// The byte position of the next character.
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Moves to the end of the next token, comment or blank, and returns whether it is a token.
    fn step(&mut self) -> bool {
        let Some(first) = self.peek() else {
            return false;
        };
        if first.is_whitespace() {
            self.skip_while(char::is_whitespace);
        } else if self.rest().starts_with("//") {
            self.skip_while(|c| c != '\n');
        } else if self.rest().starts_with("/*") {
            self.skip_block_comment();
        } else {
            self.skip_token(first);
            return true;
        }
        false
    }

    fn skip_token(&mut self, first: char) {
        if let Some(length) = raw_string_length(self.rest()) {
            self.at += length;
        } else if first == '"' || self.rest().starts_with("b\"") || self.rest().starts_with("c\"") {
            self.skip_string();
        } else if first == '\'' || self.rest().starts_with("b'") {
            self.skip_character_or_lifetime();
        } else if self.rest().starts_with("r#") {
            self.at += 2;
            self.skip_while(is_in_word);
        } else if first.is_ascii_digit() {
            self.skip_number();
        } else if is_in_word(first) {
            self.skip_while(is_in_word);
        } else if self.rest().starts_with("::") || self.rest().starts_with("->") {
            self.at += 2;
        } else {
            self.at += first.len_utf8();
        }
    }

    fn skip_while(&mut self, accept: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !accept(c)).unwrap_or(rest.len());
    }

    /// Skips a comment between `/*` and `*/`, which may contain others.
    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        loop {
            let rest = self.rest();
            if rest.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if rest.starts_with("*/") {
                depth -= 1;
                self.at += 2;
            } else {
                self.at += rest.chars().next().map_or(0, char::len_utf8);
            }
            if depth == 0 || self.at >= self.text.len() {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        let open = self.rest().find('"').unwrap_or(0);
        self.at += open + 1;
        self.skip_quoted('"');
    }

    /// Skips to behind the closing quote.
    fn skip_quoted(&mut self, quote: char) {
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            if c == quote {
                return;
            }
            if c == '\\' {
                self.at += self.peek().map_or(0, char::len_utf8);
            }
        }
    }

    fn skip_character_or_lifetime(&mut self) {
        let open = self.rest().find('\'').unwrap_or(0);
        self.at += open + 1;
        let mut ahead = self.rest().chars();
        let (first, second) = (ahead.next(), ahead.next());
        if first == Some('\\') || second == Some('\'') {
            self.skip_quoted('\'');
        } else {
            self.skip_while(is_in_word);
        }
    }

    fn skip_number(&mut self) {
        self.skip_while(is_in_word);
        let mut ahead = self.rest().chars();
        if ahead.next() == Some('.') && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            self.skip_while(is_in_word);
        }
    }
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the raw string literal that the text begins with.
fn raw_string_length(text: &str) -> Option<usize> {
    let marked = text
        .strip_prefix("br")
        .or_else(|| text.strip_prefix("cr"))
        .or_else(|| text.strip_prefix('r'))?;
    let inner = marked.trim_start_matches('#');
    let hashes = &marked[..marked.len() - inner.len()];
    let content = inner.strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let length = content.find(&end)? + end.len();
    Some(text.len() - content.len() + length)
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_are_no_tokens() {
        assert_eq!(texts("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
    }

    #[test]
    fn a_literal_is_one_token() {
        assert_eq!(
            texts(r##"x("a // \" b", r#"c " d"#, b'"', '\'', 1.5)"##),
            [
                "x",
                "(",
                r#""a // \" b""#,
                ",",
                r##"r#"c " d"#"##,
                ",",
                "b'\"'",
                ",",
                r"'\''",
                ",",
                "1.5",
                ")",
            ]
        );
    }

    #[test]
    fn a_lifetime_opens_no_literal() {
        assert_eq!(
            texts("<'a>(x: &'a str)"),
            ["<", "'a", ">", "(", "x", ":", "&", "'a", "str", ")"]
        );
    }

    #[test]
    fn a_token_has_its_line_number() {
        let lines: Vec<_> = tokens("a\n\"b\nc\" d").iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }
}

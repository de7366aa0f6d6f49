//! The parts of a Rust file that the rules are about: production code without tests, functions, types, imports and other paths.

use crate::lexer::{Token, tokens};

/// A Rust file without its comments and its tests.
pub struct Source<'a> {
    /// The tokens of the items that are compiled outside of tests.
    pub tokens: Vec<Token<'a>>,
    /// All imports, and all other paths of two or more segments.
    pub paths: Vec<CodePath<'a>>,
    /// The names of the modules in other files that are only compiled for tests.
    pub test_modules: Vec<&'a str>,
}

/// A function with a body.
pub struct Function<'a> {
    /// The name.
    pub name: &'a str,
    /// The line with `fn`.
    pub line: usize,
    /// The number of lines from `fn` to the closing brace.
    pub lines: usize,
}

/// A path in the code, such as `crate::config::Config` or `Vec::new`.
pub struct CodePath<'a> {
    /// The segments. The last one is `*` in an import of all names.
    pub segments: Vec<&'a str>,
    /// The name that an import gives to the path; none for other paths.
    pub import: Option<&'a str>,
    /// The line of the last segment.
    pub line: usize,
}

impl<'a> Source<'a> {
    /// Reads the text of a Rust file.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let all = tokens(text);
        let mut source = Self {
            tokens: Vec::new(),
            paths: Vec::new(),
            test_modules: Vec::new(),
        };
        let mut at = 0;
        while at < all.len() {
            let end = attribute_end(&all, at);
            match end {
                Some(end) if is_for_tests(&all[at..end]) => {
                    let next = item_end(&all, end);
                    source.test_modules.extend(module_name(&all[end..next]));
                    at = next;
                }
                Some(end) => {
                    source.tokens.extend(&all[at..end]);
                    at = end;
                }
                None => {
                    source.tokens.push(all[at]);
                    at += 1;
                }
            }
        }
        source.paths = source.read_paths();
        source
    }

    /// Returns the functions that have a body.
    #[must_use]
    pub fn functions(&self) -> Vec<Function<'a>> {
        let starts = self
            .named("fn")
            .filter_map(|at| Some((at, self.body_end(at)?)));
        let function = |(at, end): (usize, usize)| Function {
            name: self.tokens[at + 1].text,
            line: self.tokens[at].line,
            lines: self.tokens[end].line - self.tokens[at].line + 1,
        };
        starts.map(function).collect()
    }

    /// Returns the names of the structs, enums and traits.
    #[must_use]
    pub fn types(&self) -> Vec<&'a str> {
        let kinds = ["struct", "enum", "trait"];
        let found = kinds.into_iter().flat_map(|kind| self.named(kind));
        found.map(|at| self.tokens[at + 1].text).collect()
    }

    /// Returns the names of all items that can be imported, except modules.
    #[must_use]
    pub fn items(&self) -> Vec<&'a str> {
        let kinds = [
            "struct", "enum", "trait", "union", "fn", "const", "static", "type",
        ];
        let found = kinds.into_iter().flat_map(|kind| self.named(kind));
        found.map(|at| self.tokens[at + 1].text).collect()
    }

    fn read_paths(&self) -> Vec<CodePath<'a>> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let follows_path = at > 0 && self.tokens[at - 1].text == "::";
            if self.text(at) == "use" && self.text(at + 1) != "<" {
                at = self.read_import(at + 1, &mut Vec::new(), &mut found);
            } else if self.tokens[at].is_word() && self.text(at + 1) == "::" && !follows_path {
                at = self.read_path(at, &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    /// Returns the positions of a keyword that a name follows.
    fn named(&self, keyword: &str) -> impl Iterator<Item = usize> {
        let pairs = self.tokens.windows(2).enumerate();
        pairs
            .filter(move |(_, pair)| pair[0].text == keyword && pair[1].is_word())
            .map(|(at, _)| at)
    }

    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    /// Returns the position of the brace that closes the body of a function.
    fn body_end(&self, start: usize) -> Option<usize> {
        let mut at = start;
        loop {
            match self.text(at) {
                "{" => return Some(closing(&self.tokens, at)),
                "(" | "[" => at = closing(&self.tokens, at) + 1,
                ";" | "" => return None,
                _ => at += 1,
            }
        }
    }

    /// Reads a tree of imports below the segments of `parents`, and returns the position behind it.
    fn read_import(
        &self,
        start: usize,
        parents: &mut Vec<&'a str>,
        found: &mut Vec<CodePath<'a>>,
    ) -> usize {
        let depth = parents.len();
        let mut at = start;
        while self.text(at) != "{" && (self.text(at + 1) == "::" || self.text(at) == "::") {
            if self.text(at) != "::" {
                parents.push(self.text(at));
            }
            at += 1;
        }
        if self.text(at) == "{" {
            let end = closing(&self.tokens, at);
            at += 1;
            while at < end {
                at = self.read_import(at, parents, found) + 1;
            }
            at = end + 1;
        } else {
            at = self.read_leaf(at, parents, found);
        }
        parents.truncate(depth);
        at
    }

    /// Reads the last segment of an import with its new name, and returns the position behind it.
    fn read_leaf(&self, at: usize, parents: &[&'a str], found: &mut Vec<CodePath<'a>>) -> usize {
        let mut segments = parents.to_vec();
        if self.text(at) != "self" || segments.is_empty() {
            segments.push(self.text(at));
        }
        let is_renamed = self.text(at + 1) == "as";
        let name = if is_renamed {
            self.text(at + 2)
        } else {
            segments.last().copied().unwrap_or_default()
        };
        let line = self.tokens[at].line;
        found.push(CodePath {
            segments,
            import: Some(name),
            line,
        });
        if is_renamed { at + 3 } else { at + 1 }
    }

    /// Reads a path outside of imports, and returns the position behind it.
    fn read_path(&self, start: usize, found: &mut Vec<CodePath<'a>>) -> usize {
        let mut segments = vec![self.text(start)];
        let mut at = start;
        while self.text(at + 1) == "::" && self.tokens.get(at + 2).is_some_and(Token::is_word) {
            at += 2;
            segments.push(self.text(at));
        }
        let is_in_macro = start > 0 && self.text(start - 1) == "$";
        if !is_in_macro {
            found.push(CodePath {
                segments,
                import: None,
                line: self.tokens[at].line,
            });
        }
        at + 1
    }
}

/// Returns the position behind the attribute that begins here.
fn attribute_end(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let is_attribute = tokens[at].text == "#" && tokens.get(at + 1)?.text == "[";
    is_attribute.then(|| closing(tokens, at + 1) + 1)
}

/// Returns whether an attribute is `#[cfg(test)]`, or contains `test` as the first of several conditions.
fn is_for_tests(attribute: &[Token<'_>]) -> bool {
    let texts: Vec<_> = attribute.iter().map(|token| token.text).collect();
    matches!(
        texts.as_slice(),
        ["#", "[", "cfg", "(", "test", ..] | ["#", "[", "cfg", "(", "any" | "all", "(", "test", ..]
    )
}

/// Returns the position behind the item, statement or field that begins here.
fn item_end(tokens: &[Token<'_>], start: usize) -> usize {
    let mut at = start;
    while let Some(end) = tokens.get(at).and_then(|_| attribute_end(tokens, at)) {
        at = end;
    }
    let (is_field, has_semicolon) = form(&tokens[at..]);
    // The commas of a field's generic type do not end the field.
    let mut angles = 0;
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "," if is_field && angles == 0 => return at + 1,
            "}" | ")" => return at,
            "{" if !has_semicolon => return closing(tokens, at) + 1,
            "(" | "[" | "{" => at = closing(tokens, at),
            "<" => angles += 1,
            ">" => angles -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Returns whether the item is a field, and whether it ends with a semicolon even if it contains braces.
fn form(item: &[Token<'_>]) -> (bool, bool) {
    let item = without_visibility(item);
    let text = |at: usize| item.get(at).map_or("", |token| token.text);
    let has_semicolon = match text(0) {
        "use" | "static" | "type" | "let" => true,
        "const" => text(1) != "fn",
        _ => false,
    };
    (text(1) == ":", has_semicolon)
}

fn without_visibility<'a, 't>(item: &'t [Token<'a>]) -> &'t [Token<'a>] {
    match item {
        [first, second, ..] if first.text == "pub" && second.text == "(" => {
            &item[closing(item, 1) + 1..]
        }
        [first, rest @ ..] if first.text == "pub" => rest,
        _ => item,
    }
}

/// Returns the name of the module if the item is `mod name;`.
fn module_name<'a>(item: &[Token<'a>]) -> Option<&'a str> {
    let mut item = item;
    while let Some(end) = item.first().and_then(|_| attribute_end(item, 0)) {
        item = &item[end..];
    }
    match without_visibility(item) {
        [keyword, name, end] if keyword.text == "mod" && end.text == ";" => Some(name.text),
        _ => None,
    }
}

/// Returns the position of the bracket that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new(text);
        let paths = source.paths.iter();
        paths.map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn code_behind_the_tests_is_read() {
        let source =
            Source::new("#[cfg(test)]\nmod tests;\nuse a::b;\n#[cfg(test)] use c::{d};\nfn f() {}");
        assert_eq!(source.test_modules, ["tests"]);
        let names: Vec<_> = source.functions().iter().map(|f| f.name).collect();
        assert_eq!(names, ["f"]);
    }

    #[test]
    fn a_module_of_tests_between_others_is_left_out() {
        let source = Source::new("struct A;\n#[cfg(test)]\nmod tests { struct B; }\nstruct C;");
        assert_eq!(source.types(), ["A", "C"]);
    }

    #[test]
    fn a_field_for_tests_is_left_out_alone() {
        let text = "struct A { #[cfg(test)] pub(crate) b: C<d::E, f::G>, h: i::J }";
        assert_eq!(paths(text), ["i::J"]);
    }

    #[test]
    fn imports_over_several_lines_are_read() {
        let text = "use crate::{\n    a::{self, B},\n    c::*,\n    d as e,\n};";
        assert_eq!(
            paths(text),
            ["crate::a", "crate::a::B", "crate::c::*", "crate::d"]
        );
    }

    #[test]
    fn a_path_outside_of_imports_is_read_once() {
        assert_eq!(
            paths("fn f() { super::a::B::new(c.d) }"),
            ["super::a::B::new"]
        );
    }

    #[test]
    fn a_function_is_as_long_as_its_lines() {
        let source = Source::new("trait A { fn b(); }\nfn c(d: [u8; 2])\n{\n    // e\n}\n");
        let lines: Vec<_> = source
            .functions()
            .iter()
            .map(|f| (f.name, f.lines))
            .collect();
        assert_eq!(lines, [("c", 4)]);
    }
}

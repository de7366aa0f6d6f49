//! A route's pattern: whether it matches a path, and which of two patterns is closer. Independent of methods and handlers.
//!
//! The syntax is that of `matchit`, which the host's routes use, except that a parameter must be a whole segment.
//! `matchit` itself is not used because a router lives for one request only: its tree for twelve routes, built and
//! searched once in a fresh instance, took 25 µs and 37 KB of the component. README.md has the figures of this module.

use std::borrow::Cow;
use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

/// A validated pattern.
pub(super) struct Pattern {
    text: Cow<'static, str>,
    /// Position of the first parameter, or the length of the pattern.
    literal_bytes: usize,
}

/// A segment of a pattern that is a parameter.
#[derive(Clone, Copy)]
enum Parameter<'p> {
    Segment(&'p str),
    Rest(&'p str),
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Panics
    /// If the pattern does not begin with `/`, has braces that are not a whole segment, has a parameter without a name,
    /// or continues after its `{*rest}`.
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        match literal_bytes(&text) {
            Ok(literal_bytes) => Self {
                text,
                literal_bytes,
            },
            Err(fault) => panic!("the route `{text}` {fault}"),
        }
    }

    /// Returns the same pattern below a prefix.
    pub(super) fn below(self, prefix: &'static str) -> Self {
        match (prefix.trim_end_matches('/'), &*self.text) {
            ("", _) => self,
            (prefix, "/") => Self::new(prefix),
            (prefix, pattern) => Self::new(format!("{prefix}{pattern}")),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether the pattern matches a path, as it was sent.
    pub(super) fn fits(&self, path: &str) -> bool {
        let (literal, rest) = self.text.split_at(self.literal_bytes);
        match path.strip_prefix(literal) {
            Some(path) => fit(rest, path, |_, _| {}),
            None => false,
        }
    }

    /// Returns the parameters of a path that the pattern matches, percent-decoded.
    pub(super) fn parameters(&self, path: &str) -> Vec<(String, String)> {
        let mut parameters = Vec::new();
        if self.literal_bytes < self.text.len() {
            fit(&self.text, path, |name, value| {
                let value = percent_decode_str(value).decode_utf8_lossy();
                parameters.push((name.to_owned(), value.into_owned()));
            });
        }
        parameters
    }

    /// Compares two patterns that both match a path: `Less` means that this one is closer, `Equal` that neither is. The
    /// first segment in which they differ decides: a literal segment is closer than a parameter, and a parameter is
    /// closer than a `{*rest}`.
    pub(super) fn closeness(&self, other: &Self) -> Ordering {
        if self.text == other.text {
            return Ordering::Equal;
        }
        let rank = |segment: &str| match parameter(segment) {
            None => 0,
            Some((Parameter::Segment(_), _)) => 1,
            Some((Parameter::Rest(_), _)) => 2,
        };
        let (ours, theirs) = (self.text.split('/'), other.text.split('/'));
        ours.map(rank).cmp(theirs.map(rank))
    }
}

/// Returns whether the rest of a pattern matches the rest of a path, and passes each parameter's name and value to `tell`.
fn fit<'a>(
    mut pattern: &'a str,
    mut path: &'a str,
    mut tell: impl FnMut(&'a str, &'a str),
) -> bool {
    loop {
        let literal = position(pattern, b'{').unwrap_or(pattern.len());
        let (literal, rest) = pattern.split_at(literal);
        let Some(sent) = path.strip_prefix(literal) else {
            return false;
        };
        let Some((parameter, after)) = parameter(rest) else {
            return sent.is_empty();
        };
        let (name, end) = match parameter {
            Parameter::Segment(name) => (name, position(sent, b'/').unwrap_or(sent.len())),
            Parameter::Rest(name) => (name, sent.len()),
        };
        let (value, left) = sent.split_at(end);
        if value.is_empty() {
            return false;
        }
        tell(name, value);
        (pattern, path) = (after, left);
    }
}

/// Returns the parameter that a text begins with, and the text after it.
fn parameter(text: &str) -> Option<(Parameter<'_>, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_at(position(text, b'}')? - 1);
    let parameter = match name.strip_prefix('*') {
        Some(name) => Parameter::Rest(name),
        None => Parameter::Segment(name),
    };
    Some((parameter, &after[1..]))
}

/// Returns the length of the literal part of a pattern, or a description of its fault.
fn literal_bytes(pattern: &str) -> Result<usize, &'static str> {
    if !pattern.starts_with('/') {
        return Err("does not begin with `/`");
    }
    let Some(literal_bytes) = position(pattern, b'{') else {
        return Ok(pattern.len());
    };
    for segment in pattern[literal_bytes..].split_inclusive('/') {
        let segment_name = segment.trim_end_matches('/');
        match parameter(segment_name) {
            None if segment_name.contains(['{', '}']) => {
                return Err("has a brace that is not a whole segment");
            }
            Some((_, after)) if !after.is_empty() => {
                return Err("has a brace that is not a whole segment");
            }
            Some((Parameter::Segment("") | Parameter::Rest(""), _)) => {
                return Err("has a parameter without a name");
            }
            Some((Parameter::Rest(_), _)) if segment.ends_with('/') => {
                return Err("continues after its `{*rest}`");
            }
            None | Some(_) => {}
        }
    }
    match pattern[..literal_bytes].ends_with('/') {
        true => Ok(literal_bytes),
        false => Err("has a brace that is not a whole segment"),
    }
}

/// A plain loop, which is the fastest search in short texts in a fresh instance.
fn position(text: &str, byte: u8) -> Option<usize> {
    text.bytes().position(|other| other == byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(pattern: &'static str) -> Option<&'static str> {
        literal_bytes(pattern).err()
    }

    #[test]
    fn an_invalid_pattern_is_refused() {
        for pattern in ["/", "/a", "/a/", "/{a}", "/a/{b}/c/{*d}", "/a}", "//"] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
        for pattern in ["", "a", "{a}"] {
            assert_eq!(fault(pattern), Some("does not begin with `/`"), "{pattern}");
        }
        for pattern in ["/a{b}", "/{b}c", "/{b", "/{a}/b}", "/{a}{b}", "/{a}/x{b}"] {
            let expected = Some("has a brace that is not a whole segment");
            assert_eq!(fault(pattern), expected, "{pattern}");
        }
        assert_eq!(fault("/{}"), Some("has a parameter without a name"));
        assert_eq!(fault("/{*}"), Some("has a parameter without a name"));
        assert_eq!(fault("/{*a}/b"), Some("continues after its `{*rest}`"));
    }

    #[test]
    fn a_pattern_matches_literals_parameters_and_catch_alls() {
        let fits = |pattern: &'static str, path| Pattern::new(pattern).fits(path);
        assert!(fits("/", "/") && fits("/a", "/a") && fits("/{a}", "/b"));
        assert!(fits("/a/{b}/c", "/a/x/c") && fits("/a/{*b}", "/a/x/c/") && fits("/{*b}", "//"));
        assert!(!fits("/", "/a") && !fits("/a", "/a/") && !fits("/a", "/ab"));
        assert!(!fits("/{a}", "/") && !fits("/{a}", "/b/") && !fits("/{a}/", "/b"));
        assert!(
            !fits("/a/{b}/c", "/a//c") && !fits("/a/{b}/c", "/a/x/d") && !fits("/a/{*b}", "/a/")
        );
    }

    #[test]
    fn the_first_differing_segment_decides_which_pattern_is_more_specific() {
        let closer = |a: &'static str, b: &'static str| Pattern::new(a).closeness(&Pattern::new(b));
        assert_eq!(closer("/a/{b}", "/a/{c}"), Ordering::Equal);
        assert_eq!(closer("/a/b", "/a/{b}"), Ordering::Less);
        assert_eq!(closer("/{a}/b", "/a/{b}"), Ordering::Greater);
        assert_eq!(closer("/a/{b}", "/a/{*b}"), Ordering::Less);
        assert_eq!(closer("/{*a}", "/{a}/{*b}"), Ordering::Greater);
    }
}

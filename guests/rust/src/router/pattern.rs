//! A route's pattern: whether a path fits it, and which of two is the closer one. Knows no methods and no handlers.
//!
//! The syntax is `matchit`'s, which the host's routes are written in, but that a parameter is a whole segment. It is not
//! `matchit` itself because a router lives for one request: its tree for twelve routes, made and searched once in a fresh
//! instance, took 25 µs and 37 KB of the component. README.md has what this takes.

use std::borrow::Cow;
use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

/// A pattern that was looked at.
pub(super) struct Pattern {
    text: Cow<'static, str>,
    /// Where its first parameter begins, or its length.
    literal_bytes: usize,
}

/// A segment of a pattern that is a parameter.
#[derive(Clone, Copy)]
enum Parameter<'p> {
    Segment(&'p str),
    Rest(&'p str),
}

impl Pattern {
    /// # Panics
    /// If it does not begin with `/`, has braces that are no whole segment, or goes on behind `{*rest}`.
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

    /// The same pattern below a prefix.
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

    /// Whether a path, as it was sent, fits.
    pub(super) fn fits(&self, path: &str) -> bool {
        let (literal, rest) = self.text.split_at(self.literal_bytes);
        match path.strip_prefix(literal) {
            Some(path) => fit(rest, path, |_, _| {}),
            None => false,
        }
    }

    /// The parameters in a path that fits, percent-decoded.
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

    /// Which of two patterns that both fit a path is the closer one: `Less` is this one, `Equal` is neither. The first
    /// segment in which they differ decides: a literal one is closer than a parameter, that closer than a `{*rest}`.
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

/// Whether the rest of a path fits the rest of a pattern; tells each parameter's name and value.
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

/// The parameter that a text begins with, and what follows it.
fn parameter(text: &str) -> Option<(Parameter<'_>, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_at(position(text, b'}')? - 1);
    let parameter = match name.strip_prefix('*') {
        Some(name) => Parameter::Rest(name),
        None => Parameter::Segment(name),
    };
    Some((parameter, &after[1..]))
}

/// Where the literal part of a pattern ends; or what is wrong with it.
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
                return Err("has a brace that is no whole segment");
            }
            Some((_, after)) if !after.is_empty() => {
                return Err("has a brace that is no whole segment");
            }
            Some((Parameter::Segment("") | Parameter::Rest(""), _)) => {
                return Err("has a parameter without a name");
            }
            Some((Parameter::Rest(_), _)) if segment.ends_with('/') => {
                return Err("goes on behind its `{*rest}`");
            }
            None | Some(_) => {}
        }
    }
    match pattern[..literal_bytes].ends_with('/') {
        true => Ok(literal_bytes),
        false => Err("has a brace that is no whole segment"),
    }
}

/// Short texts, and a fresh instance: a plain loop is the fastest search.
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
    fn what_is_no_pattern_is_refused() {
        for pattern in ["/", "/a", "/a/", "/{a}", "/a/{b}/c/{*d}", "/a}", "//"] {
            assert_eq!(fault(pattern), None, "{pattern}");
        }
        for pattern in ["", "a", "{a}"] {
            assert_eq!(fault(pattern), Some("does not begin with `/`"), "{pattern}");
        }
        for pattern in ["/a{b}", "/{b}c", "/{b", "/{a}/b}", "/{a}{b}", "/{a}/x{b}"] {
            let expected = Some("has a brace that is no whole segment");
            assert_eq!(fault(pattern), expected, "{pattern}");
        }
        assert_eq!(fault("/{}"), Some("has a parameter without a name"));
        assert_eq!(fault("/{*}"), Some("has a parameter without a name"));
        assert_eq!(fault("/{*a}/b"), Some("goes on behind its `{*rest}`"));
    }

    #[test]
    fn a_path_fits_or_not() {
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
    fn the_first_segment_that_differs_decides_which_is_closer() {
        let closer = |a: &'static str, b: &'static str| Pattern::new(a).closeness(&Pattern::new(b));
        assert_eq!(closer("/a/{b}", "/a/{c}"), Ordering::Equal);
        assert_eq!(closer("/a/b", "/a/{b}"), Ordering::Less);
        assert_eq!(closer("/{a}/b", "/a/{b}"), Ordering::Greater);
        assert_eq!(closer("/a/{b}", "/a/{*b}"), Ordering::Less);
        assert_eq!(closer("/{*a}", "/{a}/{*b}"), Ordering::Greater);
    }
}

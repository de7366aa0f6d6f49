//! What a route grants its guest on the session: nothing, reading or writing, on all keys or on some, up to some size.

/// A guest's rights on the session.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Grant {
    /// The most it may do.
    pub access: Access,
    /// The keys it may read.
    pub read_keys: KeyPatterns,
    /// The keys it may write.
    pub write_keys: KeyPatterns,
    /// Largest session that it may make, in bytes, where that is less than the limit of all.
    pub session_bytes_max: Option<usize>,
    /// Most keys of a session that it may add to, where that is less than the limit of all.
    pub keys_max: Option<usize>,
}

/// How far a [`Grant`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Access {
    /// Every call is denied, and the store is never asked.
    #[default]
    None,
    /// Calls that change nothing.
    Read,
    /// Everything.
    Write,
}

impl Grant {
    /// Everything on all keys.
    pub fn write() -> Self {
        Self {
            access: Access::Write,
            ..Self::default()
        }
    }

    /// Reading all keys.
    pub fn read() -> Self {
        Self {
            access: Access::Read,
            ..Self::default()
        }
    }
}

/// Keys by pattern: exact, or a beginning followed by `*`. An empty list means all keys.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyPatterns(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Beginning(String),
}

impl KeyPatterns {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys that one of `patterns` names; all keys if there is none.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let parse = |text: String| match text.strip_suffix('*') {
            Some(beginning) => Pattern::Beginning(beginning.to_owned()),
            None => Pattern::Exact(text),
        };
        Self(
            patterns
                .into_iter()
                .map(|text| parse(text.into()))
                .collect(),
        )
    }

    /// Whether `key` is among them.
    pub fn covers(&self, key: &str) -> bool {
        let matches = |pattern: &Pattern| match pattern {
            Pattern::Exact(exact) => exact == key,
            Pattern::Beginning(beginning) => key.starts_with(beginning.as_str()),
        };
        self.0.is_empty() || self.0.iter().any(matches)
    }

    /// Whether every key is among them.
    pub fn covers_all(&self) -> bool {
        let everything = Pattern::Beginning(String::new());
        self.0.is_empty() || self.0.contains(&everything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_means_every_key() {
        assert!(KeyPatterns::all().covers("anything"));
        assert!(KeyPatterns::all().covers_all());
        assert!(KeyPatterns::new(["a", "*"]).covers_all());
    }

    #[test]
    fn a_pattern_is_exact_or_a_beginning() {
        let patterns = KeyPatterns::new(["user", "cart.*"]);
        assert!(
            patterns.covers("user") && patterns.covers("cart.items") && patterns.covers("cart.")
        );
        assert!(!patterns.covers("users") && !patterns.covers("cart") && !patterns.covers(""));
        assert!(!patterns.covers_all());
    }
}

//! The session permissions that a route grants its guest: none, reading or writing, on all keys or on some, up to some size.

/// A guest's permissions on the session.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SessionGrant {
    /// The highest level of access.
    pub access: SessionAccessLevel,
    /// The keys that the guest may read.
    pub read_keys: KeyPatterns,
    /// The keys that the guest may write.
    pub write_keys: KeyPatterns,
    /// The largest session that the guest may create, in bytes, if that is less than the host-wide limit.
    pub session_bytes_max: Option<usize>,
    /// The largest number of keys in a session that the guest may add keys to, if that is less than the host-wide limit.
    pub keys_max: Option<usize>,
}

/// The level of access of a [`SessionGrant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SessionAccessLevel {
    /// Every call is denied, and the store is never asked.
    #[default]
    None,
    /// Calls that change nothing are allowed.
    Read,
    /// All calls are allowed.
    Write,
}

impl SessionGrant {
    /// Grants all calls on all keys.
    pub fn write() -> Self {
        Self {
            access: SessionAccessLevel::Write,
            ..Self::default()
        }
    }

    /// Grants reading of all keys.
    pub fn read() -> Self {
        Self {
            access: SessionAccessLevel::Read,
            ..Self::default()
        }
    }
}

/// Key patterns. A pattern is an exact key, or a prefix followed by `*`. An empty list matches all keys.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyPatterns(Vec<KeyPattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum KeyPattern {
    Exact(String),
    Beginning(String),
}

impl KeyPatterns {
    /// Returns patterns that match all keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// Parses `patterns`. Without any pattern, all keys match.
    pub fn new(patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let parse = |text: String| match text.strip_suffix('*') {
            Some(beginning) => KeyPattern::Beginning(beginning.to_owned()),
            None => KeyPattern::Exact(text),
        };
        Self(
            patterns
                .into_iter()
                .map(|text| parse(text.into()))
                .collect(),
        )
    }

    /// Returns the patterns as texts, which [`KeyPatterns::new`] accepts.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|pattern| match pattern {
            KeyPattern::Exact(exact) => exact.clone(),
            KeyPattern::Beginning(beginning) => format!("{beginning}*"),
        })
    }

    /// Returns whether a pattern matches `key`.
    pub fn covers(&self, key: &str) -> bool {
        let matches = |pattern: &KeyPattern| match pattern {
            KeyPattern::Exact(exact) => exact == key,
            KeyPattern::Beginning(beginning) => key.starts_with(beginning.as_str()),
        };
        self.0.is_empty() || self.0.iter().any(matches)
    }

    /// Returns whether the patterns match every key.
    pub fn covers_all(&self) -> bool {
        let everything = KeyPattern::Beginning(String::new());
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
    fn a_key_pattern_is_an_exact_key_or_a_prefix() {
        let patterns = KeyPatterns::new(["user", "cart.*"]);
        assert!(
            patterns.covers("user") && patterns.covers("cart.items") && patterns.covers("cart.")
        );
        assert!(!patterns.covers("users") && !patterns.covers("cart") && !patterns.covers(""));
        assert!(!patterns.covers_all());
    }
}

//! The session ID: 192 random bits in the format of Express's `uid(24)`. It is never printed.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use cloakroom_base::limits::SESSION_ID_BYTES_MAX;

/// A session's ID. It is a credential, so it has no `Display`, and its `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Length of the IDs that the host generates: 24 bytes in base64url.
    pub const GENERATED_CHARS: usize = 32;

    /// Generates an ID from the operating system's random numbers: 32 characters of base64url (RFC 4648, section 5).
    pub fn generate() -> Self {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        Self(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// Takes an ID that another process generated. Returns `None` if it cannot be a row's key (empty or over 128 bytes).
    pub fn from_foreign(text: &str) -> Option<Self> {
        (1..=SESSION_ID_BYTES_MAX)
            .contains(&text.len())
            .then(|| Self(text.into()))
    }

    /// Returns whether a text has the form of the IDs that this host and express-session generate: 32 characters of base64url.
    pub fn could_be(text: &str) -> bool {
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        text.len() == Self::GENERATED_CHARS && text.bytes().all(is_base64url)
    }

    /// Returns the ID as it appears in the cookie and in the row.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_url_safe_characters_and_differ() {
        let (a, b) = (SessionId::generate(), SessionId::generate());
        assert_ne!(a, b);
        assert!(SessionId::could_be(a.as_str()));
        for text in [
            "",
            &"a".repeat(31),
            &"a".repeat(33),
            &"a+".repeat(16),
            &"é".repeat(16),
        ] {
            assert!(!SessionId::could_be(text), "{text}");
        }
    }

    #[test]
    fn debug_does_not_show_the_id() {
        let id = SessionId::generate();
        assert!(!format!("{id:?}").contains(id.as_str()));
    }

    #[test]
    fn foreign_ids_must_fit_the_column() {
        assert!(SessionId::from_foreign("").is_none());
        assert!(SessionId::from_foreign(&"x".repeat(128)).is_some());
        assert!(SessionId::from_foreign(&"x".repeat(129)).is_none());
    }
}

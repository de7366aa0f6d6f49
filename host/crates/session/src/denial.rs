//! The reasons why a session call was denied: what the guest's grant does not cover. Does not depend on the configuration file.

use std::fmt;

/// An action that the guest may not perform. `Display` is the text for the guest. It may name a key, so it must not be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionDenial {
    /// Any access.
    NoAccess,
    /// Any access on this path, which the session's cookie is not sent to.
    OutsidePath,
    /// Changing the session.
    ReadOnly,
    /// Reading this key.
    ReadKey(String),
    /// Writing this key.
    WriteKey(String),
    /// An operation that writes every key.
    WriteEvery(&'static str),
}

impl fmt::Display for SessionDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAccess => f.write_str("this guest is granted no access to the session"),
            Self::OutsidePath => f.write_str("this path is outside of the session cookie's path"),
            Self::ReadOnly => f.write_str("this guest may read the session but not change it"),
            Self::ReadKey(key) => write!(f, "this guest may not read `{key}`"),
            Self::WriteKey(key) => write!(f, "this guest may not write `{key}`"),
            Self::WriteEvery(operation) => {
                write!(f, "`{operation}` needs the right to write every key")
            }
        }
    }
}

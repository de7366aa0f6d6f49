//! Why a guest was denied a call on its session: what its grant does not cover. Knows no configuration file.

use std::fmt;

/// What a guest may not do. `Display` is what the guest is told; it may name a key, so it is not for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Anything at all.
    NoAccess,
    /// Anything on this path: the session's cookie does not come here.
    OutsidePath,
    /// To change the session.
    ReadOnly,
    /// To read this key.
    ReadKey(String),
    /// To write this key.
    WriteKey(String),
    /// An operation that writes every key.
    WriteEvery(&'static str),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAccess => f.write_str("this guest is granted no access to the session"),
            Self::OutsidePath => f.write_str("this path is outside of the session cookie's path"),
            Self::ReadOnly => f.write_str("this guest may read the session and not change it"),
            Self::ReadKey(key) => write!(f, "this guest may not read `{key}`"),
            Self::WriteKey(key) => write!(f, "this guest may not write `{key}`"),
            Self::WriteEvery(operation) => {
                write!(f, "`{operation}` needs the right to write every key")
            }
        }
    }
}

//! Why a session call was refused.

use std::fmt;

use crate::raw::session as raw;

/// Why a call was refused. A refused call has changed nothing. No text in it holds session data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The guest's grant does not cover this key or this operation.
    Denied(String),
    /// Not right in any session: a reserved key, not an integer; or a write after [`destroy`](super::destroy).
    Invalid(String),
    /// The session would pass the limit of this many bytes.
    TooLarge(u64),
    /// The response has been released: the session is read-only now.
    Committed,
    /// The store did not answer in time. Only [`save`](super::save) and [`reload`](super::reload) say this.
    Unavailable(String),
    /// The value does not fit the Rust type: what was read is of another shape, or what was to be written is no JSON.
    Shape(String),
}

impl From<raw::Error> for Error {
    fn from(error: raw::Error) -> Self {
        match error {
            raw::Error::Denied(what) => Self::Denied(what),
            raw::Error::Invalid(what) => Self::Invalid(what),
            raw::Error::TooLarge(bytes_max) => Self::TooLarge(bytes_max),
            raw::Error::Committed => Self::Committed,
            raw::Error::Unavailable(what) => Self::Unavailable(what),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(what) => write!(f, "session: not granted: {what}"),
            Self::Invalid(what) => write!(f, "session: invalid: {what}"),
            Self::TooLarge(bytes_max) => write!(f, "the session would pass {bytes_max} bytes"),
            Self::Committed => {
                f.write_str("the response has been released: the session is read-only")
            }
            Self::Unavailable(what) => write!(f, "the session store is unavailable: {what}"),
            Self::Shape(what) => write!(f, "session: the value does not fit its type: {what}"),
        }
    }
}

impl std::error::Error for Error {}

//! The error of session calls.

use std::fmt;

use crate::raw::session as raw;

/// Error returned when a session call is refused. A refused call has changed nothing. No text in it contains session data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The guest's grant does not cover this key or this operation.
    Denied(String),
    /// The call is invalid in every session: the key is reserved, or the entry is not an integer. Or it is a write
    /// after [`destroy`](super::destroy).
    Invalid(String),
    /// The change would make the session larger than this many bytes, which is its limit.
    TooLarge(u64),
    /// The response has been released: the session is now read-only.
    Committed,
    /// The store did not answer in time. Only [`save`](super::save) and [`reload`](super::reload) return this error.
    Unavailable(String),
    /// The value does not fit the Rust type: a value that was read has another shape, or a value to write cannot be
    /// written as JSON.
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
            Self::TooLarge(bytes_max) => write!(f, "the session would exceed {bytes_max} bytes"),
            Self::Committed => {
                f.write_str("the response has been released: the session is read-only")
            }
            Self::Unavailable(what) => write!(f, "the session store is unavailable: {what}"),
            Self::Shape(what) => write!(f, "session: the value does not fit its type: {what}"),
        }
    }
}

impl std::error::Error for Error {}

//! The session of the visitor whose request is being handled, with Rust's types.
//!
//! Values go through serde. What each function means, when changes are stored, and what happens when two requests of a
//! session meet is told in the WIT package's `session.wit`. In short: nothing is stored before the handler has returned, and all of it is
//! stored before the visitor sees the answer. If another request changed what this one has read, the host runs the
//! handler again.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::raw;

pub use crate::raw::CookieAttributes;

/// Why a call was refused. A refused call has changed nothing.
#[derive(Debug)]
pub enum Error {
    /// The guest's grant does not cover this key or this operation.
    Denied(String),
    /// Not right in any session: a reserved key, not an integer; or a write after [`destroy`].
    Invalid(String),
    /// The session would pass the limit of this many bytes.
    TooLarge(u64),
    /// The response has been released: the session is read-only now.
    Committed,
    /// The store did not answer in time. Only [`save`] and [`reload`] say this.
    Unavailable(String),
    /// The value does not fit the Rust type: what was read is of another shape, or what was to be written is no JSON.
    Json(serde_json::Error),
}

/// The value of an entry, `None` if there is none. Counts as a read of this key.
///
/// # Errors
/// [`Error::Json`] if the value is no `T`; `Denied`, `Invalid`.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    match raw::get(key)? {
        Some(json) => serde_json::from_str(&json).map(Some).map_err(Error::Json),
        None => Ok(None),
    }
}

/// Writes an entry, new or not.
///
/// # Errors
/// [`Error::Json`] if the value is no JSON (a map whose keys are no texts); `Denied`, `Invalid`, `TooLarge`, `Committed`.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let json = serde_json::to_string(value).map_err(Error::Json)?;
    Ok(raw::set(key, &json)?)
}

/// Removes an entry. It is no error if there is none.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn delete(key: &str) -> Result<(), Error> {
    Ok(raw::delete(key)?)
}

/// The keys of all entries, in the session's order. Counts as a read of every key.
///
/// # Errors
/// `Denied`.
pub fn list_keys() -> Result<Vec<String>, Error> {
    Ok(raw::list_keys()?)
}

/// Adds to an integer (absent: 0) without learning the sum, so that it never causes another run.
///
/// # Errors
/// `Denied`, `Invalid` (no integer, or the sum does not fit), `TooLarge`, `Committed`.
pub fn add(key: &str, delta: i64) -> Result<(), Error> {
    Ok(raw::add(key, delta)?)
}

/// Adds to an integer (absent: 0) and returns the sum, which no other request of this session is given.
///
/// # Errors
/// As [`add`].
pub fn increment(key: &str, delta: i64) -> Result<i64, Error> {
    Ok(raw::increment(key, delta)?)
}

/// Removes all entries. The session, its id and its cookie stay.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn clear() -> Result<(), Error> {
    Ok(raw::clear()?)
}

/// A stable name for this session that is worthless as a credential; `None` before it has one. Counts as a read.
///
/// # Errors
/// `Denied`.
pub fn fingerprint() -> Result<Option<String>, Error> {
    Ok(raw::fingerprint()?)
}

/// Gives the session a new id and keeps its entries: call it at login.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn renew() -> Result<(), Error> {
    Ok(raw::renew()?)
}

/// Gives the session a new id and drops its entries.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn regenerate() -> Result<(), Error> {
    Ok(raw::regenerate()?)
}

/// Deletes the session and expires its cookie: the logout.
///
/// # Errors
/// `Denied`, `Committed`.
pub fn destroy() -> Result<(), Error> {
    Ok(raw::destroy()?)
}

/// Stores the changes made so far now, not only when the handler has returned.
///
/// # Errors
/// `Denied`, `Committed`, `Unavailable`.
pub fn save() -> Result<(), Error> {
    Ok(raw::save()?)
}

/// Forgets the changes that are not stored and reads the session again.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`, `Unavailable`.
pub fn reload() -> Result<(), Error> {
    Ok(raw::reload()?)
}

/// Starts the session's lifetime afresh, as every use of it does.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn touch() -> Result<(), Error> {
    Ok(raw::touch()?)
}

/// Does what the host's option `unset` says: deletes the session, or drops this request's changes.
///
/// # Errors
/// `Denied`, `Committed`.
pub fn unset() -> Result<(), Error> {
    Ok(raw::unset()?)
}

/// The attributes of the session's cookie; ages and times in milliseconds. Counts as a read.
///
/// # Errors
/// `Denied`.
pub fn cookie() -> Result<CookieAttributes, Error> {
    Ok(raw::cookie()?)
}

/// Gives this session a lifetime of its own, in whole milliseconds; `None`: until the browser is closed.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn set_max_age(lifetime: Option<Duration>) -> Result<(), Error> {
    let milliseconds =
        lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
    Ok(raw::set_max_age(milliseconds)?)
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
            Self::Denied(what) => write!(f, "not granted: {what}"),
            Self::Invalid(what) => write!(f, "invalid: {what}"),
            Self::TooLarge(bytes_max) => write!(f, "the session would pass {bytes_max} bytes"),
            Self::Committed => {
                f.write_str("the response has been released: the session is read-only")
            }
            Self::Unavailable(what) => write!(f, "the session store is unavailable: {what}"),
            Self::Json(error) => write!(f, "the value does not fit its type: {error}"),
        }
    }
}

impl std::error::Error for Error {}

//! The session of the visitor whose request is being handled, with Rust's types.
//!
//! Values go through serde. What each function means, when changes are stored, and what happens when two requests of a
//! session meet is told in the WIT package's `session.wit`. In short: nothing is stored before the handler has returned, and all of it is
//! stored before the visitor sees the answer. If another request changed what this one has read, the host runs the
//! handler again.
//!
//! # An error that becomes a response
//!
//! An answer stores what was changed before it, and an [`Error`](crate::Error) that a handler returns is an answer like any other.
//! Where half of a change must not be stored, drop the changes first: `session::reload()?`. Only a panic stores nothing.
//!
//! # What a type keeps of a value
//!
//! A value is what its Rust type says, no more: serde skips the fields that a struct does not name, so writing it back, as
//! [`update`] does, drops what another application or a later version of this one has put there. A struct keeps them
//! with one more field, or refuses such values:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use serde_json::{Map, Value};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Cart {
//!     items: Vec<String>,
//!     #[serde(flatten)]
//!     rest: Map<String, Value>,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Address {
//!     city: String,
//! }
//!
//! let cart: Cart = serde_json::from_str(r#"{"items":[],"coupon":"X7"}"#)?;
//! assert_eq!(serde_json::to_string(&cart)?, r#"{"items":[],"coupon":"X7"}"#);
//! assert!(serde_json::from_str::<Address>(r#"{"city":"Busan","zip":1}"#).is_err());
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! Numbers are exact up to 64 bits in an integer type; an `f64` rounds, as does a [`serde_json::Value`] beyond 64 bits. NaN and the
//! infinities are written as `null`, as `JSON.stringify` does it: an `f64` cannot be read from that, an `Option<f64>` is
//! `None`. [`raw`](crate::raw::session) has each value's text as it is.

mod error;
mod key;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json;
use crate::raw::session as raw;

pub use self::error::Error;
pub use self::key::Key;
pub use crate::raw::session::CookieAttributes;
pub use crate::raw::types::{Priority, SameSite};

/// The value of an entry, `None` if there is none. Counts as a read of this key.
///
/// # Errors
/// [`Error::Shape`] if the value is no `T`; `Denied`, `Invalid`.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(text) = raw::get(key)? else {
        return Ok(None);
    };
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| shape(key, &error))
}

/// Writes an entry, new or not.
///
/// # Errors
/// [`Error::Shape`] if the value is no JSON (a map whose keys are no texts; but NaN and the infinities become `null`); `Denied`,
/// `Invalid`, `TooLarge`, `Committed`.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|error| shape(key, &error))?;
    Ok(raw::set(key, &text)?)
}

/// Changes the value of an entry in place and writes it back; an absent entry begins as `T`'s default. Returns what
/// `change` returns. Counts as a read of this key, so no parallel request's change is lost. Fields that `T` does not name are
/// dropped; [how to keep them](self#what-a-type-keeps-of-a-value).
///
/// ```no_run
/// use cloakroom_guest::session;
///
/// let items = session::update("cart", |cart: &mut Vec<String>| {
///     cart.push("umbrella".to_owned());
///     cart.len()
/// })?;
/// # Ok::<(), session::Error>(())
/// ```
///
/// # Errors
/// As [`get`] and [`set`].
pub fn update<T, R>(key: &str, change: impl FnOnce(&mut T) -> R) -> Result<R, Error>
where
    T: Serialize + DeserializeOwned + Default,
{
    let mut value = get::<T>(key)?.unwrap_or_default();
    let result = change(&mut value);
    set(key, &value)?;
    Ok(result)
}

/// Removes an entry and returns what it was, `None` if there was none. Counts as a read of this key.
///
/// # Errors
/// As [`get`] and [`delete`]; if the value is no `T`, it stays.
pub fn take<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let value = get(key)?;
    if value.is_some() {
        delete(key)?;
    }
    Ok(value)
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

/// Forgets the changes that are not stored and reads the session again: also before an error that shall store nothing.
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

fn shape(key: &str, error: &serde_json::Error) -> Error {
    Error::Shape(format!("`{key}`: {}", json::fault(error)))
}

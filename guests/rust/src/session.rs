//! The session of the visitor whose request is being handled, with Rust types.
//!
//! Values go through serde. The WIT package's `session.wit` defines each function, when changes are stored, and what happens when
//! two requests of one session conflict. In short: changes are stored after the handler has returned, and before the visitor
//! receives the response. If another request has changed an entry that this request has read, the host runs the handler again.
//!
//! # An error that becomes a response
//!
//! A response stores the changes made before it. An [`Error`](crate::Error) that a handler returns becomes a response and stores
//! them too. If half of a change must not be stored, drop the changes first: `session::reload()?`. Only a panic stores nothing.
//!
//! # What a type keeps of a value
//!
//! A Rust type keeps only the parts of a value that it names. serde skips the fields that a struct does not name, so
//! writing the value back, as [`update`] does, drops fields that another application or a later version of this one has
//! added. A struct keeps such fields with one more field, or refuses values that have them:
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
//! Numbers are exact up to 64 bits in an integer type. An `f64` rounds, and so does a [`serde_json::Value`] beyond 64
//! bits. NaN and the infinities are written as `null`, as by `JSON.stringify`: reading that as an `f64` is an error,
//! and an `Option<f64>` is `None`. [`raw`](crate::raw::session) returns the JSON text of each value.

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

/// Returns the value of an entry, or `None` if there is no entry. Counts as a read of this key.
///
/// # Errors
/// [`Error::Shape`] if the value is not a `T`; `Denied`, `Invalid`.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(text) = raw::get(key)? else {
        return Ok(None);
    };
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| shape(key, &error))
}

/// Writes an entry, whether it exists or not.
///
/// # Errors
/// [`Error::Shape`] if the value cannot be written as JSON (a map whose keys are not texts; NaN and the infinities
/// become `null` instead); `Denied`, `Invalid`, `TooLarge`, `Committed`.
pub fn set<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let text = serde_json::to_string(value).map_err(|error| shape(key, &error))?;
    Ok(raw::set(key, &text)?)
}

/// Changes the value of an entry in place and writes it back. A missing entry begins as the default of `T`. Returns the
/// result of `change`. Counts as a read of this key, so no change of a parallel request is lost. Fields that `T` does
/// not name are dropped, unless `T` [keeps them](self#what-a-type-keeps-of-a-value).
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

/// Removes an entry and returns its value, or `None` if there was no entry. Counts as a read of this key.
///
/// # Errors
/// As [`get`] and [`delete`]. If the value is not a `T`, the entry is not removed.
pub fn take<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let value = get(key)?;
    if value.is_some() {
        delete(key)?;
    }
    Ok(value)
}

/// Removes an entry. A missing entry is not an error.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn delete(key: &str) -> Result<(), Error> {
    Ok(raw::delete(key)?)
}

/// Returns the keys of all entries, in the session's order. Counts as a read of every key.
///
/// # Errors
/// `Denied`.
pub fn list_keys() -> Result<Vec<String>, Error> {
    Ok(raw::list_keys()?)
}

/// Adds to an integer; a missing entry counts as 0. It does not return the sum, so it never causes another run.
///
/// # Errors
/// `Denied`, `Invalid` (the entry is not an integer, or the sum does not fit in 64 bits), `TooLarge`, `Committed`.
pub fn add(key: &str, delta: i64) -> Result<(), Error> {
    Ok(raw::add(key, delta)?)
}

/// Adds to an integer; a missing entry counts as 0. Returns the sum. No other request of this session receives the same sum.
///
/// # Errors
/// As [`add`].
pub fn increment(key: &str, delta: i64) -> Result<i64, Error> {
    Ok(raw::increment(key, delta)?)
}

/// Removes all entries. The session, its id and its cookie remain.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn clear() -> Result<(), Error> {
    Ok(raw::clear()?)
}

/// Returns a stable name for this session that is worthless as a credential, or `None` if the session has no id yet.
/// Counts as a read.
///
/// # Errors
/// `Denied`.
pub fn fingerprint() -> Result<Option<String>, Error> {
    Ok(raw::fingerprint()?)
}

/// Gives the session a new id and keeps its entries. Call it at login.
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

/// Deletes the session and expires its cookie. Call it at logout.
///
/// # Errors
/// `Denied`, `Committed`.
pub fn destroy() -> Result<(), Error> {
    Ok(raw::destroy()?)
}

/// Stores the changes made so far now, instead of after the handler has returned.
///
/// # Errors
/// `Denied`, `Committed`, `Unavailable`.
pub fn save() -> Result<(), Error> {
    Ok(raw::save()?)
}

/// Drops the changes that are not stored and reads the session again. Call it before you return an error that must not
/// store anything.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`, `Unavailable`.
pub fn reload() -> Result<(), Error> {
    Ok(raw::reload()?)
}

/// Starts the session's lifetime again, as every use of the session does.
///
/// # Errors
/// `Denied`, `Invalid`, `Committed`.
pub fn touch() -> Result<(), Error> {
    Ok(raw::touch()?)
}

/// Does what the host's option `unset` defines: deletes the session, or drops this request's changes.
///
/// # Errors
/// `Denied`, `Committed`.
pub fn unset() -> Result<(), Error> {
    Ok(raw::unset()?)
}

/// Returns the attributes of the session's cookie. Ages and times are in milliseconds. Counts as a read.
///
/// # Errors
/// `Denied`.
pub fn cookie() -> Result<CookieAttributes, Error> {
    Ok(raw::cookie()?)
}

/// Sets the lifetime of this session, in whole milliseconds. `None` means until the browser is closed.
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

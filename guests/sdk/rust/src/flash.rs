//! Messages that are stored in the session until the next page shows them, such as "saved" after a redirect.
//!
//! They are stored in the entry `flash` in the format of Express's `connect-flash`, so Express and this crate show each
//! other's messages:
//!
//! ```no_run
//! use cloakroom_guest::{Error, Request, Response, flash};
//!
//! fn save(_request: Request) -> Result<Response, Error> {
//!     flash::push("info", "Your address is saved.")?;
//!     Ok(Response::see_other("/account"))
//! }
//!
//! fn account(_request: Request) -> Result<Response, Error> {
//!     Ok(Response::text(flash::take("info")?.join("\n")))
//! }
//! ```

use std::collections::BTreeMap;

use crate::session::{Error, Key};

/// Messages by kind, in the order they were added.
pub type Messages = BTreeMap<String, Vec<String>>;

/// The session entry that contains the messages.
const FLASH: Key<Messages> = Key::new("flash");

/// Adds a message of this kind (`info`, `error`, any word).
///
/// # Errors
/// As [`session::update`](crate::session::update).
pub fn push(kind: &str, message: impl Into<String>) -> Result<(), Error> {
    FLASH.update(|messages| {
        let of_kind = messages.entry(kind.to_owned()).or_default();
        of_kind.push(message.into());
    })
}

/// Removes and returns the messages of one kind.
///
/// # Errors
/// As [`session::take`](crate::session::take).
pub fn take(kind: &str) -> Result<Vec<String>, Error> {
    let Some(mut messages) = FLASH.get()? else {
        return Ok(Vec::new());
    };
    let Some(taken) = messages.remove(kind) else {
        return Ok(Vec::new());
    };
    if messages.is_empty() {
        FLASH.delete()?;
    } else {
        FLASH.set(&messages)?;
    }
    Ok(taken)
}

/// Removes and returns all messages.
///
/// # Errors
/// As [`session::take`](crate::session::take).
pub fn take_all() -> Result<Messages, Error> {
    Ok(FLASH.take()?.unwrap_or_default())
}

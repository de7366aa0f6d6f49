//! Messages that wait in the session for the next page: "saved", after a redirect. Knows only the session.
//!
//! They are kept as Express's `connect-flash` keeps them, in the entry `flash`, so a page of either side shows what the
//! other one left:
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

/// Messages by kind, in the order they came in.
pub type Messages = BTreeMap<String, Vec<String>>;

/// Where they wait.
const FLASH: Key<Messages> = Key::new("flash");

/// Leaves a message of this kind (`info`, `error`, any word).
///
/// # Errors
/// As [`session::update`](crate::session::update).
pub fn push(kind: &str, message: impl Into<String>) -> Result<(), Error> {
    FLASH.update(|messages| {
        let of_kind = messages.entry(kind.to_owned()).or_default();
        of_kind.push(message.into());
    })
}

/// Takes the messages of one kind: whoever asks next finds none.
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

/// Takes all messages.
///
/// # Errors
/// As [`session::take`](crate::session::take).
pub fn take_all() -> Result<Messages, Error> {
    Ok(FLASH.take()?.unwrap_or_default())
}

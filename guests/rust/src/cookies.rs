//! The guest's own cookies: plain, signed and JSON, compatible with Express's `cookie-parser` and `res.cookie`.
//!
//! The host signs and verifies cookies with its secrets, which the guest never receives. The session's cookie is not
//! accessible. The WIT package's `cookies.wit` defines the details.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use cloakroom_guest::cookies::{self, Cookie};
//! use cloakroom_guest::{Error, Request, Response};
//!
//! fn choose(_request: Request) -> Result<Response, Error> {
//!     let theme = Cookie::new("theme", "dark").signed().max_age(Duration::from_secs(86_400));
//!     Ok(Response::text("dark it is").cookie(theme)?)
//! }
//!
//! fn show(_request: Request) -> String {
//!     // Only what the host has signed is found here.
//!     cookies::signed("theme").unwrap_or_else(|| "light".to_owned())
//! }
//! ```
//!
//! A signed cookie and a plain cookie of the same name are two different cookies. Every visitor can write any value
//! into a plain cookie.

mod cookie;

use std::fmt;

use serde::de::DeserializeOwned;

use crate::json;
use crate::raw::cookies as raw;

pub use self::cookie::Cookie;
pub use crate::raw::types::{Priority, SameSite};

/// Error returned when a cookie call is refused, or when a value does not have the expected type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The cookie is the session's, or its signed text has the shape of a session's id.
    Denied(String),
    /// A cookie cannot have this name, path or domain, or a time is out of range.
    Invalid(String),
    /// The value is not JSON, or not of the expected type.
    Shape(String),
}

/// A cookie that was sent with the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// Name of the cookie.
    pub name: String,
    /// Value of the cookie; `None` if it claims to be signed and the host does not accept the signature.
    pub value: Option<Value>,
    /// Whether the cookie is signed or claims to be signed.
    pub is_signed: bool,
}

/// The value of a cookie.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A JSON text.
    Json(String),
}

/// Returns all cookies of the request in their order, without the session's cookie. Express has them in `req.cookies`
/// and `req.signedCookies`.
pub fn all() -> Vec<Received> {
    let cookies = raw::all().into_iter();
    cookies
        .map(|cookie| Received {
            name: cookie.name,
            value: cookie.value.map(|value| match value {
                raw::Value::Text(text) => Value::Text(text),
                raw::Value::Json(json) => Value::Json(json),
            }),
            is_signed: cookie.signed,
        })
        .collect()
}

/// Returns the text of a plain cookie, which the visitor may have forged. `None` if the cookie is absent, signed, or JSON.
pub fn get(name: &str) -> Option<String> {
    value(name, false).and_then(text)
}

/// Returns the text of a signed cookie. `None` if the cookie is absent, not signed with this host's secrets, or JSON.
pub fn signed(name: &str) -> Option<String> {
    value(name, true).and_then(text)
}

/// Returns the value of a plain JSON cookie, which the visitor may have forged. `None` if the cookie is absent, signed,
/// or a text.
///
/// # Errors
/// [`Error::Shape`] if the value is not a `T`.
pub fn get_json<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Error> {
    parsed(name, value(name, false))
}

/// Returns the value of a signed JSON cookie. `None` if the cookie is absent, not signed with this host's secrets, or a text.
///
/// # Errors
/// [`Error::Shape`] if the value is not a `T`.
pub fn signed_json<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Error> {
    parsed(name, value(name, true))
}

fn value(name: &str, is_signed: bool) -> Option<Value> {
    let mut cookies = all().into_iter();
    let cookie = cookies.find(|cookie| cookie.name == name && cookie.is_signed == is_signed)?;
    cookie.value
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Json(_) => None,
    }
}

fn parsed<T: DeserializeOwned>(name: &str, value: Option<Value>) -> Result<Option<T>, Error> {
    let Some(Value::Json(json)) = value else {
        return Ok(None);
    };
    let value = serde_json::from_str(&json);
    value.map(Some).map_err(|error| shape(name, &error))
}

fn shape(name: &str, error: &serde_json::Error) -> Error {
    Error::Shape(format!("`{name}`: {}", json::fault(error)))
}

impl From<raw::Error> for Error {
    fn from(error: raw::Error) -> Self {
        match error {
            raw::Error::Denied(what) => Self::Denied(what),
            raw::Error::Invalid(what) => Self::Invalid(what),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(what) => write!(f, "cookie: not granted: {what}"),
            Self::Invalid(what) => write!(f, "cookie: invalid: {what}"),
            Self::Shape(what) => write!(f, "cookie: the value does not fit its type: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// Omits the value, because cookie values must not be logged.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("name", &self.name)
            .field("is_signed", &self.is_signed)
            .finish_non_exhaustive()
    }
}

/// Omits the content, because cookie values must not be logged.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Json(_) => "Json(..)",
        })
    }
}

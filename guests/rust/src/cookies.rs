//! Cookies of the guest's own, plain, signed and JSON, as Express's `cookie-parser` and `res.cookie` have them.
//!
//! The host signs with its secrets and verifies; the guest never holds one. The session's cookie is out of reach. What each
//! thing means is told in the WIT package's `cookies.wit`.
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
//! A signed cookie and a plain one of the same name are two things: whoever asks for a plain one believes what any
//! visitor may write.

mod cookie;

use std::fmt;

use serde::de::DeserializeOwned;

use crate::json;
use crate::raw::cookies as raw;

pub use self::cookie::Cookie;
pub use crate::raw::types::{Priority, SameSite};

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The session's cookie, or a text that could be one.
    Denied(String),
    /// A name, a path or a domain that no cookie can have, or a time out of range.
    Invalid(String),
    /// The value is no JSON, or not of the expected type.
    Shape(String),
}

/// A cookie that came with the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// Its name.
    pub name: String,
    /// What it holds; `None` if it claims to be signed and is not.
    pub value: Option<Value>,
    /// Whether it is signed, or claims to be.
    pub is_signed: bool,
}

/// What a cookie holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A JSON text.
    Json(String),
}

/// All cookies of the request in their order, without the session's. Express: `req.cookies` and `req.signedCookies`.
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

/// The text of a plain cookie, which the visitor may have made up. `None` if it is absent, signed, or JSON.
pub fn get(name: &str) -> Option<String> {
    value(name, false).and_then(text)
}

/// The text of a signed cookie. `None` if it is absent, not signed by this host's secrets, or JSON.
pub fn signed(name: &str) -> Option<String> {
    value(name, true).and_then(text)
}

/// The value of a plain JSON cookie, which the visitor may have made up. `None` if it is absent, signed, or a text.
///
/// # Errors
/// [`Error::Shape`] if it is no `T`.
pub fn get_json<T: DeserializeOwned>(name: &str) -> Result<Option<T>, Error> {
    parsed(name, value(name, false))
}

/// The value of a signed JSON cookie. `None` if it is absent, not signed by this host's secrets, or a text.
///
/// # Errors
/// [`Error::Shape`] if it is no `T`.
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

/// Without the value: what a cookie holds is for no log.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("name", &self.name)
            .field("is_signed", &self.is_signed)
            .finish_non_exhaustive()
    }
}

/// Without what it holds.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Json(_) => "Json(..)",
        })
    }
}

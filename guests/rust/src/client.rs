//! Requests to other servers, for guests on WASI 0.2. A guest may ask only the hosts that the configuration grants it
//! (`outbound_hosts`).
//!
//! ```no_run
//! use cloakroom_guest::{Error, Request, Response, client};
//!
//! #[derive(serde::Deserialize, serde::Serialize)]
//! struct Rate {
//!     krw: f64,
//! }
//!
//! fn rate(_request: Request) -> Result<Response, Error> {
//!     let rate: Rate = client::get("https://rates.example/usd")?.json()?;
//!     Ok(Response::json(&rate))
//! }
//! ```
//!
//! A call out is an effect that cannot be taken back: the host does not run the handler again after it. If another
//! request of the same session has changed what this one has read, the visitor is answered with 409 instead. So read and write
//! the session after the call where you can.

mod request;
mod response;
mod send;

use std::fmt;

pub use self::request::Request;
pub use self::response::Response;

/// The longest body of an answer that is read whole, in bytes: 10 MiB.
pub const BODY_BYTES_MAX: usize = 10 << 20;

/// Why there is no answer, or not the expected one. Of the URL it says scheme, host and port alone: the rest may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The configuration does not grant this guest the host, or not so many calls. Says which host was asked for.
    NotGranted(String),
    /// The URL is no absolute one of `http` or `https`, or has a user in it, who belongs into a header.
    Url(String),
    /// The server did not answer in time.
    Timeout,
    /// The server could not be reached, or broke off.
    Failed(String),
    /// The answer's body has more than [`BODY_BYTES_MAX`] bytes.
    TooLarge,
    /// The answer has this status, and [`Response::success`] wanted another one.
    Status(u16),
    /// The answer's body is no UTF-8, or not the expected JSON.
    Body(String),
}

/// Sends a GET and reads the answer, whatever its status.
///
/// # Errors
/// `NotGranted`, `Url`, `Timeout`, `Failed`, `TooLarge`.
pub fn get(url: &str) -> Result<Response, Error> {
    Request::new("GET", url).send()
}

/// A POST, to be given a body and sent.
pub fn post(url: &str) -> Request {
    Request::new("POST", url)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(host) => write!(
                f,
                "call out: not granted: `{host}` (see `outbound_hosts` and `limits.outbound_calls` of this guest)"
            ),
            Self::Url(url) => write!(
                f,
                "call out: no absolute http or https URL without a user: `{url}`"
            ),
            Self::Timeout => f.write_str("call out: no answer in time"),
            Self::Failed(why) => write!(f, "call out: {why}"),
            Self::TooLarge => write!(f, "call out: more than {BODY_BYTES_MAX} bytes"),
            Self::Status(status) => write!(f, "call out: status {status}"),
            Self::Body(why) => write!(f, "call out: the answer's body: {why}"),
        }
    }
}

impl std::error::Error for Error {}

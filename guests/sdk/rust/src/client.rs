//! Requests to other servers, for guests on WASI 0.2. A guest can send requests only to the hosts that the
//! configuration grants it (`outbound_hosts`).
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
//! An outbound call has an effect that cannot be undone, so the host does not run the handler again after it. If
//! another request of the same session has changed an entry that this request has read, the visitor receives a 409
//! instead. Read and write the session after the call where you can.

mod request;
mod response;
mod send;

use std::fmt;

pub use self::request::Request;
pub use self::response::Response;

/// Maximum length of a response body, in bytes: 10 MiB. A longer body is an error.
pub const BODY_BYTES_MAX: usize = 10 << 20;

/// Error returned when an outbound call fails, or when its response is not the expected one. Of the URL, it shows only
/// the scheme, the host and the port, because the rest may contain secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The configuration does not grant the guest this host or does not grant it this many calls. Contains the requested host.
    NotGranted(String),
    /// The URL is not an absolute `http` or `https` URL, or it contains a user. Credentials belong in a header.
    Url(String),
    /// The server did not respond in time.
    Timeout,
    /// The server could not be reached, or the connection broke.
    Failed(String),
    /// The response's body is longer than [`BODY_BYTES_MAX`] bytes.
    TooLarge,
    /// The response has this status, which [`Response::success`] does not accept.
    Status(u16),
    /// The response's body is not UTF-8 or not the expected JSON, or the request's body could not be serialized.
    Body(String),
}

/// Sends a GET request and returns the response, whatever its status.
///
/// # Errors
/// `NotGranted`, `Url`, `Timeout`, `Failed`, `TooLarge`.
pub fn get(url: &str) -> Result<Response, Error> {
    Request::new("GET", url).send()
}

/// Creates a POST request. Add a body to it and call [`Request::send`].
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
                "call out: not an absolute http or https URL without a user: `{url}`"
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

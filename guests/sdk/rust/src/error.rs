//! Errors that become responses. Every `?` in a handler converts an error into this type. Contains the status of each
//! error of this crate.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use crate::{IntoResponse, Response, client, session};

/// An error that becomes a response: a status, a text for the visitor and, if the error is not the visitor's fault, a
/// cause for the log.
///
/// Every error type is converted into this type by `?`:
///
/// | error | status | text for the visitor |
/// | --- | --- | --- |
/// | [`session::Error::TooLarge`] | 413 | `the session is full` |
/// | [`session::Error::Unavailable`] | 503 | the status text |
/// | every other [`session::Error`], [`cookies::Error`](crate::cookies::Error) | 500 | the status text |
/// | [`client::Error::Timeout`] | 504 | the status text |
/// | [`client::Error::NotGranted`], [`client::Error::Url`] | 500 | the status text |
/// | every other [`client::Error`] | 502 | the status text |
/// | any other error | 500 | the status text |
///
/// The cause of these errors is written to standard error, which the host logs with the request's id. If
/// [`Request`](crate::Request) cannot read a request, its error is sent to the visitor and is not logged: 400 if the
/// body or the query cannot be parsed, 415 if the body has another type, 422 if the body does not have the expected
/// shape, 404 if a path parameter is not a `T`.
///
/// A type of your own that does not implement [`std::error::Error`] needs
/// `impl From<MyError> for cloakroom_guest::Error`.
#[derive(Debug)]
pub struct Error {
    status: u16,
    message: Cow<'static, str>,
    cause: Option<String>,
}

impl Error {
    /// Creates an error with this status and this text, which is sent to the visitor. Nothing is logged.
    pub fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            cause: None,
        }
    }

    /// Creates an error with status 400 and this text.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, message)
    }

    /// Creates an error with status 404 and the text `not found`.
    pub fn not_found() -> Self {
        Self::new(404, "not found")
    }

    /// Creates an error with status 500 and the text `internal server error`. The cause is only logged. It must contain
    /// neither secrets nor the visitor's data.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(500, "internal server error").caused_by(cause)
    }

    /// Adds a cause for the log.
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Returns the status of the response.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the text for the visitor.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.message)?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

/// Converts any error, like `anyhow::Error`. As there, this type can therefore not implement [`std::error::Error`] itself.
impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let (status, message) = answer(&error);
        Self::new(status, message).caused_by(error)
    }
}

/// Returns the status and the text for an error, as in the table above.
fn answer(error: &dyn Any) -> (u16, &'static str) {
    if let Some(error) = error.downcast_ref::<session::Error>() {
        match error {
            session::Error::TooLarge(_) => return (413, "the session is full"),
            session::Error::Unavailable(_) => return (503, "service unavailable"),
            session::Error::Denied(_)
            | session::Error::Invalid(_)
            | session::Error::Committed
            | session::Error::Shape(_) => {}
        }
    }
    if let Some(error) = error.downcast_ref::<client::Error>() {
        match error {
            client::Error::Timeout => return (504, "gateway timeout"),
            client::Error::NotGranted(_) | client::Error::Url(_) => {}
            client::Error::Failed(_)
            | client::Error::TooLarge
            | client::Error::Status(_)
            | client::Error::Body(_) => return (502, "bad gateway"),
        }
    }
    (500, "internal server error")
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            eprintln!("{} {}: {cause}", self.status, self.message);
        }
        Response::text(format!("{}\n", self.message)).status(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing<E: std::error::Error + 'static>(error: E) -> (u16, String) {
        let handler = || -> Result<(), Error> { Err(error)? };
        let response = handler().into_response();
        let text = String::from_utf8(response.body).expect("a text");
        (response.status, text)
    }

    #[test]
    fn an_error_of_any_type_becomes_a_bare_500() {
        assert_eq!(
            failing(std::io::Error::other("the secret reason")),
            (500, "internal server error\n".to_owned())
        );
    }

    #[test]
    fn errors_of_the_session_have_their_statuses() {
        let status = |error: session::Error| failing(error).0;
        assert_eq!(status(session::Error::Denied("`cart`".into())), 500);
        assert_eq!(status(session::Error::Invalid("`id`".into())), 500);
        assert_eq!(status(session::Error::TooLarge(65_536)), 413);
        assert_eq!(status(session::Error::Committed), 500);
        assert_eq!(status(session::Error::Unavailable("late".into())), 503);
        assert_eq!(status(session::Error::Shape("`cart`".into())), 500);
    }

    #[test]
    fn errors_of_calls_out_have_their_statuses() {
        let status = |error: client::Error| failing(error).0;
        assert_eq!(status(client::Error::NotGranted("a.example".into())), 500);
        assert_eq!(status(client::Error::Url("x".into())), 500);
        assert_eq!(status(client::Error::Timeout), 504);
        assert_eq!(status(client::Error::Failed("refused".into())), 502);
        assert_eq!(status(client::Error::TooLarge), 502);
        assert_eq!(status(client::Error::Status(404)), 502);
        assert_eq!(status(client::Error::Body("no text".into())), 502);
    }

    #[test]
    fn a_custom_error_responds_with_its_status_and_message() {
        let response = Error::new(409, "somebody was faster").into_response();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (409, "somebody was faster\n".as_bytes())
        );
        let error = Error::internal("the disk is full");
        assert_eq!(
            error.to_string(),
            "500 internal server error: the disk is full"
        );
    }
}

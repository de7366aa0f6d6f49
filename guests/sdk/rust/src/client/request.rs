//! A request to another server, before it is sent.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Error, Response, send};

/// A request to another server.
#[derive(Clone)]
#[must_use = "it is sent by `send`"]
pub struct Request {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) timeout: Option<Duration>,
}

impl Request {
    /// Creates a request without headers and without a body.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value = value.as_bytes().to_vec();
        self.headers.push((name.to_owned(), value));
        self
    }

    /// Sets the body. Describe its type with a `content-type` header.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, with the matching `content-type`.
    ///
    /// # Errors
    /// `Body` if the value cannot be written as JSON (a map whose keys are not texts).
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Error> {
        let json = serde_json::to_vec(value).map_err(|error| Error::Body(error.to_string()))?;
        Ok(self.header("content-type", "application/json").body(json))
    }

    /// Sets the body to the fields of a form, with the matching `content-type`.
    ///
    /// # Errors
    /// `Body` if the value is not a flat structure of texts and numbers.
    pub fn form<T: Serialize + ?Sized>(self, fields: &T) -> Result<Self, Error> {
        let form =
            serde_html_form::to_string(fields).map_err(|error| Error::Body(error.to_string()))?;
        Ok(self
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form))
    }

    /// Sets how long the server may stay silent: while the connection is made, before it responds, and between two
    /// pieces of its body. The guest's own deadline still applies.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request and returns the response, whatever its status.
    ///
    /// # Errors
    /// `NotGranted`, `Url`, `Timeout`, `Failed`, `TooLarge`.
    pub fn send(self) -> Result<Response, Error> {
        send::send(&self)
    }
}

/// Shows neither the headers, nor the body, nor the path and query of the URL, because they may contain secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &send::origin(&self.url))
            .finish_non_exhaustive()
    }
}

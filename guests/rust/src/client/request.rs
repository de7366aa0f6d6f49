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
    /// A request without headers or body.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
        }
    }

    /// The same request with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let value = value.as_bytes().to_vec();
        self.headers.push((name.to_owned(), value));
        self
    }

    /// The same request with this body; say what it is with a `content-type`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The same request with a value as JSON.
    ///
    /// # Errors
    /// `Body` if the value is no JSON (a map whose keys are no texts).
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Error> {
        let json = serde_json::to_vec(value).map_err(|error| Error::Body(error.to_string()))?;
        Ok(self.header("content-type", "application/json").body(json))
    }

    /// The same request with a form's fields.
    ///
    /// # Errors
    /// `Body` if the value is no flat structure of texts and numbers.
    pub fn form<T: Serialize + ?Sized>(self, fields: &T) -> Result<Self, Error> {
        let form =
            serde_html_form::to_string(fields).map_err(|error| Error::Body(error.to_string()))?;
        Ok(self
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form))
    }

    /// The same request, given up when the server is silent for so long: before it answers, and between two pieces of its
    /// body. The guest's own deadline holds besides.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it and reads the answer, whatever its status.
    ///
    /// # Errors
    /// `NotGranted`, `Url`, `Timeout`, `Failed`, `TooLarge`.
    pub fn send(self) -> Result<Response, Error> {
        send::send(&self)
    }
}

/// Without headers, body, and what the URL has beside scheme, host and port: they may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &send::origin(&self.url))
            .finish_non_exhaustive()
    }
}

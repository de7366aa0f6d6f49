//! The response of another server. Its whole body has been read.

use std::fmt;

use serde::de::DeserializeOwned;

use super::Error;
use crate::json;

/// A response of another server.
#[derive(Clone)]
pub struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns all headers in the order they arrived, with names in lower case.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// Returns the first header of this name, in upper or lower case, if its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns this response if its status means success (200 to 299).
    ///
    /// # Errors
    /// `Status` if the status does not mean success.
    pub fn success(self) -> Result<Self, Error> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(Error::Status(status)),
        }
    }

    /// Returns the body as a text.
    ///
    /// # Errors
    /// `Body` if the body is not UTF-8.
    pub fn text(self) -> Result<String, Error> {
        String::from_utf8(self.body).map_err(|_| Error::Body("not UTF-8".to_owned()))
    }

    /// Parses the body as JSON.
    ///
    /// # Errors
    /// `Body` if the body is not a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Body(json::fault(&error)))
    }
}

/// Shows neither the headers nor the body, because they may contain secrets.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> Response {
        Response {
            status,
            headers: vec![("x-a".to_owned(), b"1".to_vec())],
            body: body.to_vec(),
        }
    }

    #[test]
    fn a_response_body_is_decoded_as_text_or_json_or_gives_an_error() {
        assert_eq!(answer(200, b"1").text(), Ok("1".to_owned()));
        assert_eq!(
            answer(200, &[0xff]).text(),
            Err(Error::Body("not UTF-8".to_owned()))
        );
        assert_eq!(answer(200, b"[1]").json::<Vec<u8>>(), Ok(vec![1]));
        let fault = answer(200, br#""secret""#)
            .json::<u8>()
            .expect_err("a text");
        assert!(!fault.to_string().contains("secret"), "{fault}");
    }

    #[test]
    fn a_status_outside_2xx_is_an_error() {
        assert_eq!(answer(204, b"").success().map(|a| a.status()), Ok(204));
        let refused = answer(404, b"").success().map(|a| a.status());
        assert_eq!(refused, Err(Error::Status(404)));
    }

    #[test]
    fn neither_body_nor_headers_are_shown_by_debug() {
        assert_eq!(
            format!("{:?}", answer(200, b"secret")),
            "Response { status: 200, .. }"
        );
    }
}

//! The response a handler gives. Knows neither version of WASI.

use std::fmt::Display;

use serde::Serialize;

/// A response: status, headers, body.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status, 100 to 999.
    pub status: u16,
    /// The headers in the order they are sent. `content-length` is added if it is not among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a handler may return: a [`Response`], or a `Result` of one whose error becomes a line on standard error, which the
/// host logs, and a bare 500 for the visitor.
pub trait IntoResponse {
    /// The response to send.
    fn into_response(self) -> Response;
}

impl Response {
    /// An empty response with this status.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// 200 with a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(200)
            .header("content-type", "text/plain; charset=utf-8")
            .body(text.into())
    }

    /// 200 with a page.
    pub fn html(page: impl Into<String>) -> Self {
        Self::new(200)
            .header("content-type", "text/html; charset=utf-8")
            .body(page.into())
    }

    /// 200 with a value as JSON.
    ///
    /// # Errors
    /// If the value is no JSON: a map whose keys are no texts.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_vec(value)?;
        Ok(Self::new(200)
            .header("content-type", "application/json")
            .body(json))
    }

    /// 302 to this place.
    pub fn redirect(location: &str) -> Self {
        Self::new(302).header("location", location)
    }

    /// The same response with another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same response with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// The same response with this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The headers to send: those of the handler, and the length of the body.
    pub(crate) fn headers_with_length(&self) -> Vec<(String, Vec<u8>)> {
        let mut headers = self.headers.clone();
        let has_length = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let has_body_by_status = !matches!(self.status, 100..=199 | 204 | 304);
        if !has_length && has_body_by_status {
            headers.push((
                "content-length".to_owned(),
                self.body.len().to_string().into_bytes(),
            ));
        }
        headers
    }
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl<E: Display> IntoResponse for Result<Response, E> {
    fn into_response(self) -> Response {
        self.unwrap_or_else(|error| {
            eprintln!("{error}");
            Response::text("internal server error\n").status(500)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(response: &Response) -> Option<Vec<u8>> {
        let mut headers = response.headers_with_length().into_iter();
        headers
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value)
    }

    #[test]
    fn the_length_is_added_where_a_body_may_be_and_none_was_given() {
        assert_eq!(length(&Response::text("1번")), Some(b"4".to_vec()));
        assert_eq!(length(&Response::redirect("/session")), Some(b"0".to_vec()));
        assert_eq!(length(&Response::new(204)), None);
        assert_eq!(
            length(&Response::new(200).header("Content-Length", "7")),
            Some(b"7".to_vec())
        );
    }

    #[test]
    fn an_error_becomes_a_bare_500() {
        let response = Err::<Response, _>("the secret reason").into_response();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (500, b"internal server error\n".as_slice())
        );
    }
}

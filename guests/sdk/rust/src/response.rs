//! The response that a handler returns. Independent of the WASI version.

mod into_response;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::cookies::{self, Cookie};

pub use self::into_response::{Html, IntoResponse, Json};

/// A response: status, headers and body.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status, from 100 to 999.
    pub status: u16,
    /// Headers in the order they are sent. `content-length` is added if it is missing.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// Creates an empty response with this status.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Creates a response with status 200 and a text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(200)
            .header("content-type", "text/plain; charset=utf-8")
            .body(text.into())
    }

    /// Creates a response with status 200 and an HTML page.
    pub fn html(page: impl Into<String>) -> Self {
        Self::new(200)
            .header("content-type", "text/html; charset=utf-8")
            .body(page.into())
    }

    /// Creates a response with status 200 and a value as JSON. A value that cannot be written as JSON (a map whose keys
    /// are not texts) is logged, and the response has status 500.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::new(200)
                .header("content-type", "application/json")
                .body(json),
            Err(error) => crate::Error::from(error).into_response(),
        }
    }

    /// Redirects to this location with status 302, like Express's `res.redirect`. Browsers follow it with GET.
    ///
    /// As in Express, characters that a URL must not contain are percent-encoded, and existing escapes (`%20`) are
    /// kept. This applies to all redirects of this type.
    pub fn redirect(location: &str) -> Self {
        Self::redirect_with(302, location)
    }

    /// Redirects to this location with status 303, after a form. The browser follows it with GET, so a reload does not
    /// send the form again.
    pub fn see_other(location: &str) -> Self {
        Self::redirect_with(303, location)
    }

    /// Redirects to this location with status 307. The browser repeats the same request there, with its body.
    pub fn temporary_redirect(location: &str) -> Self {
        Self::redirect_with(307, location)
    }

    /// Redirects to this location permanently, with status 308. Browsers remember it and repeat the same request there.
    pub fn permanent_redirect(location: &str) -> Self {
        Self::redirect_with(308, location)
    }

    /// Sets the status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// Adds a cookie, which the host signs if it was created with [`Cookie::signed`].
    ///
    /// # Errors
    /// [`cookies::Error`] if the cookie is the session's, or if a cookie cannot have this name, path or domain.
    pub fn cookie(self, cookie: Cookie) -> Result<Self, cookies::Error> {
        let value = cookie.serialize()?;
        Ok(self.header("set-cookie", &value))
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn redirect_with(status: u16, location: &str) -> Self {
        Self::new(status).header("location", &url_safe(location))
    }

    /// Returns the handler's headers, and the length of the body unless the handler has set it or the status forbids a body.
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

/// The ASCII characters that a URL must not contain. Characters beyond ASCII are always encoded.
const NOT_IN_URLS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Percent-encodes characters that a URL must not contain, and each `%` that does not begin an escape, like Express's encodeurl.
fn url_safe(location: &str) -> String {
    let mut parts = location.split('%');
    let mut safe: String =
        utf8_percent_encode(parts.next().unwrap_or_default(), NOT_IN_URLS).collect();
    for part in parts {
        let digits = part.as_bytes().get(..2);
        let is_escape = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        safe.push_str(if is_escape { "%" } else { "%25" });
        safe.extend(utf8_percent_encode(part, NOT_IN_URLS));
    }
    safe
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
    fn each_redirect_has_its_status_and_location() {
        for (response, status) in [
            (Response::redirect("/a"), 302),
            (Response::see_other("/a"), 303),
            (Response::temporary_redirect("/a"), 307),
            (Response::permanent_redirect("/a"), 308),
        ] {
            assert_eq!(response.status, status);
            assert_eq!(response.headers, [("location".to_owned(), b"/a".to_vec())]);
        }
    }

    #[test]
    fn a_redirect_encodes_invalid_characters_and_keeps_escapes() {
        for (location, sent) in [
            ("/가?a=1&b=%20#x", "/%EA%B0%80?a=1&b=%20#x"),
            ("/a b\"<>`{}\u{7f}", "/a%20b%22%3C%3E%60%7B%7D%7F"),
            ("/100%/%zz%4", "/100%25/%25zz%254"),
            ("/%EA%b0%80", "/%EA%b0%80"),
            ("/a\r\nset-cookie: b=1", "/a%0D%0Aset-cookie:%20b=1"),
            (
                "http://[::1]:80/a;b,c'(d)*!$@~|^\\_",
                "http://[::1]:80/a;b,c'(d)*!$@~|^\\_",
            ),
            ("", ""),
        ] {
            let location = Response::redirect(location).headers.remove(0).1;
            assert_eq!(str::from_utf8(&location), Ok(sent));
        }
    }

    #[test]
    fn a_value_that_is_no_json_becomes_a_bare_500() {
        let odd = std::collections::BTreeMap::from([((1, 2), 3)]);
        let response = Response::json(&odd);
        assert_eq!(
            (response.status, response.body.as_slice()),
            (500, b"internal server error\n".as_slice())
        );
    }
}

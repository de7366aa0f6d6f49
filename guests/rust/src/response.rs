//! The response a handler gives. Knows neither version of WASI.

mod into_response;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::cookies::{self, Cookie};

pub use self::into_response::{Html, IntoResponse, Json};

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

    /// 200 with a value as JSON; a value that is none (a map whose keys are no texts) is logged and becomes a bare 500.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::new(200)
                .header("content-type", "application/json")
                .body(json),
            Err(error) => crate::Error::from(error).into_response(),
        }
    }

    /// 302 to this place: what Express's `res.redirect` sends. Browsers come back with GET.
    ///
    /// As there, what no URL may hold is percent-encoded, and escapes that are there already (`%20`) stay. So it is with
    /// each of these redirects.
    pub fn redirect(location: &str) -> Self {
        Self::redirect_with(302, location)
    }

    /// 303 to this place, after a form: the browser comes back with GET, so that a reload sends nothing twice.
    pub fn see_other(location: &str) -> Self {
        Self::redirect_with(303, location)
    }

    /// 307 to this place: the browser repeats the same request there, its body too.
    pub fn temporary_redirect(location: &str) -> Self {
        Self::redirect_with(307, location)
    }

    /// 308 to this place for good: browsers remember it, and repeat the same request there.
    pub fn permanent_redirect(location: &str) -> Self {
        Self::redirect_with(308, location)
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

    /// The same response with a cookie, which the host signs if the cookie asks for it.
    ///
    /// # Errors
    /// [`cookies::Error`]: the session's cookie is out of reach, and some names, paths and domains no cookie can have.
    pub fn cookie(self, cookie: Cookie) -> Result<Self, cookies::Error> {
        let value = cookie.serialize()?;
        Ok(self.header("set-cookie", &value))
    }

    /// The same response with this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn redirect_with(status: u16, location: &str) -> Self {
        Self::new(status).header("location", &url_safe(location))
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

/// What a URL may not hold, beside what is not ASCII.
const NOT_IN_URLS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// As Express's encodeurl: percent-encodes what no URL may hold, a `%` that begins no escape included.
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
    fn each_redirect_has_its_status_and_its_place() {
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
    fn a_redirect_encodes_what_no_url_may_hold_and_keeps_escapes() {
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

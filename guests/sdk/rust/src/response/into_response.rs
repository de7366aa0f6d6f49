//! Types that a handler can return, and the responses that they become.

use std::borrow::Cow;

use serde::Serialize;

use super::Response;
use crate::Error;

/// A type that a handler can return.
///
/// | value | response |
/// | --- | --- |
/// | [`Response`] | itself |
/// | `()` | 204 |
/// | `&str`, `String` | 200 and the text |
/// | [`Html`], [`Json`] | 200 and the page, or the value as JSON |
/// | `(status, value)` | the response of the value, with this status |
/// | `Option` | the response of the value, or 404 |
/// | `Result` | the response of the value, or of the error: see [`Error`] |
pub trait IntoResponse {
    /// Converts the value into the response to send.
    fn into_response(self) -> Response;
}

/// A value to send as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

/// A value to send as an HTML page.
#[derive(Debug, Clone, Copy)]
pub struct Html<T>(pub T);

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(204)
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for Cow<'_, str> {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(&self.0)
    }
}

impl<T: Into<String>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::html(self.0)
    }
}

impl<R: IntoResponse> IntoResponse for (u16, R) {
    fn into_response(self) -> Response {
        let (status, value) = self;
        value.into_response().status(status)
    }
}

impl<R: IntoResponse> IntoResponse for Option<R> {
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => Error::not_found().into_response(),
        }
    }
}

impl<R: IntoResponse, E: Into<Error>> IntoResponse for Result<R, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into().into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(value: impl IntoResponse) -> (u16, Option<String>, String) {
        let response = value.into_response();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a text");
        let mut headers = response.headers.into_iter();
        let kind = headers.find(|(name, _)| name == "content-type");
        (
            response.status,
            kind.map(|(_, value)| text(value)),
            text(response.body),
        )
    }

    fn whole(status: u16, kind: &str, body: &str) -> (u16, Option<String>, String) {
        (status, Some(kind.to_owned()), body.to_owned())
    }

    const TEXT: &str = "text/plain; charset=utf-8";

    #[test]
    fn plain_values_become_text_html_json_or_empty_responses() {
        assert_eq!(parts(()), (204, None, String::new()));
        assert_eq!(parts("hello"), whole(200, TEXT, "hello"));
        assert_eq!(parts(String::from("1번")), whole(200, TEXT, "1번"));
        assert_eq!(parts(Json([1, 2])), whole(200, "application/json", "[1,2]"));
        assert_eq!(
            parts(Html("<p>")),
            whole(200, "text/html; charset=utf-8", "<p>")
        );
    }

    #[test]
    fn a_pair_takes_its_status_from_the_left_and_its_body_from_the_right() {
        assert_eq!(
            parts((201, Json("x"))),
            whole(201, "application/json", "\"x\"")
        );
    }

    #[test]
    fn none_is_404_and_an_error_has_its_own_status_and_message() {
        assert_eq!(parts(Some("a")), whole(200, TEXT, "a"));
        assert_eq!(parts(None::<&str>), whole(404, TEXT, "not found\n"));
        assert_eq!(parts(Ok::<_, Error>("a")), whole(200, TEXT, "a"));
        assert_eq!(
            parts(Err::<&str, _>(Error::new(403, "members only"))),
            whole(403, TEXT, "members only\n")
        );
    }
}

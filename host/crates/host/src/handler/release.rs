//! The heads of responses.
//!
//! Header fields that a guest must not set are removed from the guest's head, the session cookie is appended after the guest's
//! cookies, and `Content-Length` is made to match the body.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, COOKIE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, response};

use super::bodies::ResponseBody;
use super::error::Problem;
use super::headers::remove_hop_by_hop;
use cloakroom_runtime::GuestBody;
use cloakroom_session::CookieChange;
use cloakroom_session::cookie;

/// Builds the response from a guest's response.
pub(crate) fn of_guest(
    mut head: response::Parts,
    body: GuestBody,
    request_id: Arc<str>,
    method: &Method,
    our_cookie: &SessionCookieField<'_>,
) -> Response<ResponseBody> {
    remove_hop_by_hop(&mut head.headers);
    drop_our_cookie(&mut head.headers, our_cookie.name, &request_id);
    our_cookie.append_to(&mut head.headers);

    let mut body = ResponseBody::of_guest(body, request_id);
    let true_length = body.len();
    if has_no_body(method, head.status) {
        body = body.emptied();
    }
    settle_length(&mut head, method, true_length);
    Response::from_parts(head, body)
}

/// Builds the host's own response for a problem.
pub(crate) fn of_problem(
    problem: &Problem,
    request_id: Arc<str>,
    method: &Method,
    our_cookie: &SessionCookieField<'_>,
) -> Response<ResponseBody> {
    let (headers, text) = problem.answer(&request_id);
    let mut response = Response::new(text);
    *response.status_mut() = problem.status();
    *response.headers_mut() = headers;
    let mut response = hook_response(response, request_id, method);
    our_cookie.append_to(response.headers_mut());
    response
}

/// Builds a response that replaces a guest's, and sets its length.
pub(crate) fn hook_response(
    response: Response<String>,
    request_id: Arc<str>,
    method: &Method,
) -> Response<ResponseBody> {
    let (mut head, text) = response.into_parts();
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    let body = ResponseBody::of_text(Bytes::from(text), request_id);
    let body = match *method {
        Method::HEAD => body.emptied(),
        _ => body,
    };
    Response::from_parts(head, body)
}

/// A change to the visitor's session cookie, with the cookie's name.
pub(crate) struct SessionCookieField<'a> {
    pub(crate) name: &'a str,
    pub(crate) change: CookieChange,
}

impl SessionCookieField<'_> {
    fn append_to(&self, headers: &mut HeaderMap) {
        let own = match &self.change {
            CookieChange::Keep => return,
            CookieChange::WithDuplicates { own, duplicates } => {
                // The most likely scope comes last: for a cookie loaded from a file, curl obeys only the last of several
                // expiries.
                for duplicate in duplicates.iter().rev() {
                    headers.append(SET_COOKIE, cookie::expire_cookie(self.name, duplicate));
                }
                &**own
            }
            own => own,
        };
        let value = match own {
            CookieChange::Set { value, attributes } => {
                Some(cookie::set_cookie(self.name, value, attributes))
            }
            CookieChange::Expire { attributes } => {
                Some(cookie::expire_cookie(self.name, attributes))
            }
            CookieChange::Keep | CookieChange::WithDuplicates { .. } => None,
        };
        if let Some(value) = value {
            headers.append(SET_COOKIE, value);
        }
        // A shared cache that stores a `Set-Cookie` would give one visitor's session to the next visitor. A guest's own
        // `Cache-Control` is kept.
        headers
            .entry(CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
}

/// Tells caches that the response depends on the visitor's cookie (RFC 9110, section 12.5.5). A response that was built from one
/// session must not be served to the next visitor. The guest does not see the cookie, so it cannot know to add this field.
pub(crate) fn vary_by_cookie(headers: &mut HeaderMap) {
    let names = |value: &HeaderValue| {
        let is_named = |name: &str| name == "*" || name.eq_ignore_ascii_case(COOKIE.as_str());
        let text = value.to_str().unwrap_or_default();
        text.split(',').map(str::trim).any(is_named)
    };
    if !headers.get_all(VARY).iter().any(names) {
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

/// Removes cookies with the session cookie's name that a guest set: they would bypass the host's sessions.
fn drop_our_cookie(headers: &mut HeaderMap, name: &str, request_id: &str) {
    let is_ours = |value: &HeaderValue| cookie::is_cookie_named(value, name);
    if !headers.get_all(SET_COOKIE).iter().any(is_ours) {
        return;
    }
    tracing::warn!(
        request_id,
        cookie = name,
        "the guest set a cookie of the session's name; it was dropped"
    );
    let others: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|value| !is_ours(value))
        .cloned()
        .collect();
    headers.remove(SET_COOKIE);
    for other in others {
        headers.append(SET_COOKIE, other);
    }
}

/// Whether the response must not have a body (RFC 9110, sections 9.3.2, 15.3.5, 15.3.6 and 15.4.5).
fn has_no_body(method: &Method, status: StatusCode) -> bool {
    let is_bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ]
    .contains(&status);
    *method == Method::HEAD || is_bodiless
}

/// Corrects or removes `Content-Length`: a wrong value desynchronizes the connection.
fn settle_length(head: &mut response::Parts, method: &Method, true_length: Option<u64>) {
    let claimed = one_length(&head.headers);
    head.headers.remove(CONTENT_LENGTH);
    let is_bodiless_status = has_no_body(&Method::GET, head.status);
    let length = match (method, true_length) {
        _ if is_bodiless_status => None,
        // A guest may answer HEAD with the length of a body that it does not produce.
        (&Method::HEAD, None | Some(0)) => claimed,
        (_, Some(length)) => Some(length),
        (_, None) => claimed,
    };
    if let Some(length) = length {
        head.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

fn one_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let first = values.next()?.to_str().ok()?;
    let is_one_number = values.next().is_none() && first.bytes().all(|byte| byte.is_ascii_digit());
    first.parse().ok().filter(|_| is_one_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> response::Parts {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for &(name, value) in fields {
            response
                .headers_mut()
                .append(name, HeaderValue::from_static(value));
        }
        response.into_parts().0
    }

    fn settled(
        status: u16,
        method: Method,
        claimed: &'static str,
        true_length: Option<u64>,
    ) -> Option<String> {
        let fields = [("content-length", claimed)];
        let mut head = head(status, if claimed.is_empty() { &[] } else { &fields });
        settle_length(&mut head, &method, true_length);
        head.headers
            .get(CONTENT_LENGTH)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn content_length_is_correct_or_absent() {
        assert_eq!(
            settled(200, Method::GET, "99", Some(5)).as_deref(),
            Some("5")
        );
        assert_eq!(settled(200, Method::GET, "", Some(5)).as_deref(), Some("5"));
        assert_eq!(settled(200, Method::GET, "7", None).as_deref(), Some("7"));
        assert_eq!(settled(200, Method::GET, "+7", None), None);
        assert_eq!(settled(200, Method::GET, "", None), None);
    }

    #[test]
    fn a_head_response_keeps_the_length_of_the_omitted_body() {
        assert_eq!(
            settled(200, Method::HEAD, "", Some(5)).as_deref(),
            Some("5")
        );
        assert_eq!(
            settled(200, Method::HEAD, "42", Some(0)).as_deref(),
            Some("42")
        );
        assert_eq!(settled(200, Method::HEAD, "", Some(0)), None);
    }

    #[test]
    fn a_status_without_a_body_has_no_length() {
        for status in [204, 205, 304] {
            assert_eq!(settled(status, Method::GET, "5", Some(5)), None, "{status}");
            assert!(has_no_body(
                &Method::GET,
                StatusCode::from_u16(status).unwrap()
            ));
        }
    }

    #[test]
    fn vary_cookie_is_added_at_most_once() {
        let varied = |fields: &[(&'static str, &'static str)]| {
            let mut head = head(200, fields);
            vary_by_cookie(&mut head.headers);
            let values = head.headers.get_all(VARY).iter();
            let values: Vec<_> = values
                .map(|value| value.to_str().unwrap().to_owned())
                .collect();
            values.join("; ")
        };
        assert_eq!(varied(&[]), "Cookie");
        assert_eq!(
            varied(&[("vary", "Accept-Encoding")]),
            "Accept-Encoding; Cookie"
        );
        assert_eq!(varied(&[("vary", "Origin, cookie")]), "Origin, cookie");
        assert_eq!(varied(&[("vary", "*")]), "*");
    }

    #[test]
    fn a_guests_cookie_of_our_name_is_dropped_and_its_others_stay() {
        let mut head = head(
            200,
            &[
                ("set-cookie", "a=1"),
                ("set-cookie", "sid=forged; Path=/"),
                ("set-cookie", " sid =forged"),
                ("set-cookie", "sidx=2"),
            ],
        );
        drop_our_cookie(&mut head.headers, "sid", "r1");
        let left: Vec<_> = head.headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=1", "sidx=2"]);
    }
}

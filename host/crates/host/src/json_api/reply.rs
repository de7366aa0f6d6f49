//! Responses: JSON, and a sentence for each error.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use cloakroom_base::telemetry::escape_json;
use cloakroom_base::telemetry::metrics::TEXT_FORMAT;

/// The body of a response.
pub type Body = Full<Bytes>;

/// The result of a request.
pub type Reply = Result<Response<Body>, Refusal>;

/// The response to a request that is rejected.
pub type Refusal = Box<Response<Body>>;

/// An error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProblemReport {
    pub(crate) error: String,
}

/// Creates a response with status 200 and this value as JSON.
pub fn ok(value: &impl Serialize) -> Response<Body> {
    json(StatusCode::OK, value)
}

/// Creates a response with this value as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string_pretty(value);
    let text = text.expect("an answer has text keys and no maps that fail");
    // The text is read mainly in terminals.
    let text = format!("{}\n", escape_json(&text));
    of(status, "application/json", text.into_bytes())
}

/// Returns `{"error": "..."}`. The sentence names the problem and, if it is not obvious, the remedy.
pub fn problem(status: StatusCode, sentence: impl Into<String>) -> Refusal {
    let error = sentence.into();
    Box::new(json(status, &ProblemReport { error }))
}

pub(crate) fn metrics(text: String) -> Response<Body> {
    of(StatusCode::OK, TEXT_FORMAT, text.into_bytes())
}

/// Refuses methods that are not in `allowed`, and lists these in `Allow`.
pub fn check_method(method: &Method, allowed: &[Method]) -> Result<(), Refusal> {
    if allowed.contains(method) {
        return Ok(());
    }
    let names: Vec<_> = allowed.iter().map(Method::as_str).collect();
    let names = names.join(", ");
    let sentence = format!("this takes {names}");
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, sentence);
    let names = HeaderValue::from_str(&names).expect("methods are words");
    response.headers_mut().insert(ALLOW, names);
    Err(response)
}

/// Adds the live version as an ETag, with which `If-Match` is compared.
pub(crate) fn tagged(mut response: Response<Body>, live: u64) -> Response<Body> {
    let tag = HeaderValue::from_str(&format!("\"{live}\"")).expect("digits in quotes");
    response.headers_mut().insert(ETAG, tag);
    response
}

/// Removes the body of a response to HEAD, which is otherwise handled as GET.
pub(super) fn without_body_for(method: &Method, response: Response<Body>) -> Response<Body> {
    match *method {
        Method::HEAD => response.map(|_| Body::default()),
        _ => response,
    }
}

fn of(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let length = body.len();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

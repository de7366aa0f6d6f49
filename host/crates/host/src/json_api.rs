//! The parts of a small HTTP interface with JSON responses: the admin interface, and the interface that the tests of guests call.
//! Each has its own paths; the form of its responses, and the refusal of methods and of web pages, are the same.

mod reply;
mod web_pages;

use std::pin::{Pin, pin};

use http::header::{CONNECTION, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, Version};
use http_body_util::{BodyExt as _, Limited};

pub use reply::{Body, Refusal, Reply, check_method, json, ok, problem};
pub(crate) use reply::{ProblemReport, metrics, tagged};
pub use web_pages::{check_no_page, is_this_machine};

use cloakroom_base::limits;
use cloakroom_server::RequestBody;

/// Completes the response to a request. Closes the connection if the request has a body that was not read.
pub async fn complete<B: RequestBody>(
    head: &Parts,
    body: Pin<&mut B>,
    reply: Reply,
) -> Response<Body> {
    let mut response = reply.unwrap_or_else(|refusal| *refusal);
    if head.version < Version::HTTP_2 && !is_done_with(&head.headers, body).await {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    reply::without_body_for(&head.method, response)
}

/// Returns whether the body has been consumed. Unread data would be parsed as the next request on the connection. A small rest
/// is therefore read and discarded, so that the client receives the response. If there is more, the connection must be closed.
async fn is_done_with<B: RequestBody>(headers: &HeaderMap, body: Pin<&mut B>) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // A client that waits for `100 Continue` is not asked for a body that is not needed.
    if headers.contains_key(EXPECT) {
        return false;
    }
    let mut rest = pin!(Limited::new(body, limits::ADMIN_DISCARD_BYTES_MAX));
    let discarded = async {
        while let Some(frame) = rest.frame().await {
            frame.ok()?;
        }
        Some(())
    };
    let discarded = tokio::time::timeout(limits::ADMIN_DISCARD_TIMEOUT, discarded).await;
    matches!(discarded, Ok(Some(())))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_short_unwanted_body_is_discarded_and_a_long_one_is_not_read() {
        let body = |bytes: usize| Full::new(Bytes::from(vec![0; bytes]));
        let none = HeaderMap::new();
        assert!(is_done_with(&none, pin!(body(0))).await);
        assert!(is_done_with(&none, pin!(body(100_000))).await);
        assert!(!is_done_with(&none, pin!(body(limits::ADMIN_DISCARD_BYTES_MAX + 1))).await);
        let mut expecting = HeaderMap::new();
        expecting.insert(EXPECT, "100-continue".parse().unwrap());
        assert!(!is_done_with(&expecting, pin!(body(1))).await);
    }
}

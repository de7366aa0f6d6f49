//! A component on its way in: read whole, within a limit of size and of time.

use std::pin::{Pin, pin};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::reply::{Refusal, problem};
use crate::guest::COMPONENT_BYTES_MAX;
use crate::limits;

/// Reads the body, or gives the answer that its sender gets.
pub(super) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if announced(headers).is_some_and(|bytes| bytes > COMPONENT_BYTES_MAX) {
        return Err(too_large());
    }
    let bytes_max = usize::try_from(COMPONENT_BYTES_MAX).unwrap_or(usize::MAX);
    let whole = Box::pin(Limited::new(body, bytes_max).collect());
    match tokio::time::timeout(limits::ADMIN_UPLOAD_TIMEOUT, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(problem(StatusCode::BAD_REQUEST, "the component broke off")),
        Err(_elapsed) => Err(problem(
            StatusCode::REQUEST_TIMEOUT,
            "the component did not arrive in time",
        )),
    }
}

/// Whether nothing of the body is left on its connection. What was not read would be taken for the next request: a little of it
/// is read and dropped, so that whoever sends it reads the answer; with more, the connection has to end.
pub(crate) async fn is_done_with<B>(headers: &HeaderMap, body: Pin<&mut B>) -> bool
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.is_end_stream() {
        return true;
    }
    // Whoever waits to be asked for a body is not asked for one that nobody wants.
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

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> Refusal {
    let sentence = format!("a component may have {COMPONENT_BYTES_MAX} bytes at most");
    problem(StatusCode::PAYLOAD_TOO_LARGE, sentence)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_component_beyond_the_limit_is_refused_announced_or_not() {
        let piece = Bytes::from(vec![0; 1 << 20]);
        let pieces = COMPONENT_BYTES_MAX / (1 << 20) + 1;
        let frames = (0..pieces).map(move |_| Ok::<_, std::io::Error>(Frame::data(piece.clone())));
        let silent = read(&HeaderMap::new(), StreamBody::new(stream::iter(frames))).await;
        assert_eq!(silent.unwrap_err().status(), 413);

        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, (COMPONENT_BYTES_MAX + 1).into());
        let announced = read(&headers, Full::<Bytes>::default()).await;
        assert_eq!(announced.unwrap_err().status(), 413);
    }

    #[tokio::test]
    async fn a_little_that_nobody_wants_is_read_and_much_is_not() {
        let body = |bytes: usize| Full::new(Bytes::from(vec![0; bytes]));
        let none = HeaderMap::new();
        assert!(is_done_with(&none, pin!(body(0))).await);
        assert!(is_done_with(&none, pin!(body(100_000))).await);
        assert!(!is_done_with(&none, pin!(body(limits::ADMIN_DISCARD_BYTES_MAX + 1))).await);
        let mut expecting = HeaderMap::new();
        expecting.insert(EXPECT, "100-continue".parse().unwrap());
        assert!(!is_done_with(&expecting, pin!(body(1))).await);
    }

    #[tokio::test]
    async fn a_component_that_breaks_off_is_not_taken_for_a_whole_one() {
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"\0asm"))),
            Err(std::io::Error::other("gone")),
        ];
        let broken = read(&HeaderMap::new(), StreamBody::new(stream::iter(frames))).await;
        assert_eq!(broken.unwrap_err().status(), 400);
    }
}

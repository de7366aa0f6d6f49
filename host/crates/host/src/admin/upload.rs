//! Uploads of components. They are read completely, within limits of size, rate and time. An upload only gets a permit to be
//! compiled once it has arrived completely. A stalled upload therefore never blocks another one, and it is revoked if another
//! one needs its memory.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::json_api::{Refusal, problem};
use cloakroom_base::deadline::BodyTooSlow;
use cloakroom_base::limits;
use cloakroom_base::quota::{
    QuotaFull, QuotaPeer, QuotaResource, QuotaTotals, Quotas, Reservation, RevocablePhase, Revoked,
};
use cloakroom_runtime::COMPONENT_BYTES_MAX;
use cloakroom_server::RequestBody;

/// The components in memory.
#[derive(Debug)]
pub(crate) struct UploadQueue {
    /// Permits for components that are compiled or validated.
    turns: Semaphore,
    /// The quota of all uploads, which count as one client. Among the incomplete uploads, the one without data for the longest
    /// time is revoked first.
    peer: QuotaPeer,
}

impl UploadQueue {
    pub(crate) fn new() -> Self {
        let quotas = Quotas::new(QuotaTotals {
            connections: 0,
            requests: 0,
            request_bytes: limits::ADMIN_UPLOADS_HELD_MAX * COMPONENT_BYTES_MAX,
            response_bytes: 0,
        });
        Self {
            turns: Semaphore::new(limits::ADMIN_UPLOADS_MAX),
            peer: quotas.peer(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }

    /// Reads the body and waits for a permit. The error is the response for the client.
    pub(crate) async fn read<B: RequestBody>(
        &self,
        headers: &HeaderMap,
        body: B,
    ) -> Result<Upload<'_>, Refusal> {
        if announced(headers).is_some_and(|bytes| bytes > COMPONENT_BYTES_MAX) {
            return Err(too_large());
        }
        let room = self.peer.reserve(QuotaResource::RequestBytes, 0);
        let room = room.map_err(no_room)?;
        let arriving = tokio::time::timeout(limits::ADMIN_UPLOAD_TIMEOUT, arrive(body, &room));
        let bytes = tokio::select! {
            biased;
            () = room.revoked() => return Err(no_room(QuotaFull)),
            arrived = arriving => arrived.unwrap_or_else(|_elapsed| Err(too_slow()))?,
        };
        room.set_phase(RevocablePhase::Working).map_err(revoked)?;
        Ok(Upload {
            bytes: bytes.into(),
            _room: room,
            _turn: self.turns.acquire().await.ok(),
        })
    }
}

/// A component that has arrived and has its permit.
pub(crate) struct Upload<'a> {
    pub(crate) bytes: Bytes,
    _room: Reservation,
    _turn: Option<SemaphorePermit<'a>>,
}

async fn arrive<B: RequestBody>(body: B, room: &Reservation) -> Result<Vec<u8>, Refusal> {
    let mut body = Box::pin(body);
    let mut whole = Vec::new();
    loop {
        room.set_phase(RevocablePhase::WaitsForClient)
            .map_err(revoked)?;
        let Some(frame) = body.frame().await else {
            return Ok(whole);
        };
        let frame = frame.map_err(|error| broken(error.into()))?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        // While it grows, the upload may revoke the memory of others, but must not be revoked itself.
        room.set_phase(RevocablePhase::Working).map_err(revoked)?;
        room.grow(piece.len() as u64).map_err(no_room)?;
        if whole.len() + piece.len() > COMPONENT_BYTES_MAX as usize {
            return Err(too_large());
        }
        whole.extend_from_slice(piece);
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> Refusal {
    let sentence = format!("a component may have {COMPONENT_BYTES_MAX} bytes at most");
    problem(StatusCode::PAYLOAD_TOO_LARGE, sentence)
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Refusal {
    if error.is::<BodyTooSlow>() {
        return too_slow();
    }
    problem(StatusCode::BAD_REQUEST, "the component ended early")
}

fn too_slow() -> Refusal {
    let sentence = "the component arrived too slowly";
    problem(StatusCode::REQUEST_TIMEOUT, sentence)
}

fn no_room(_: QuotaFull) -> Refusal {
    let sentence = "too many components are being sent at once: try again";
    problem(StatusCode::SERVICE_UNAVAILABLE, sentence)
}

fn revoked(_: Revoked) -> Refusal {
    no_room(QuotaFull)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    async fn read<B: RequestBody>(headers: &HeaderMap, body: B) -> Result<Bytes, Refusal> {
        let uploads = UploadQueue::new();
        let upload = uploads.read(headers, body).await?;
        Ok(upload.bytes.clone())
    }

    #[tokio::test]
    async fn the_longest_stalled_upload_is_revoked_for_a_new_one() {
        let uploads = UploadQueue::new();
        let piece = Bytes::from(vec![0; COMPONENT_BYTES_MAX as usize]);
        let stalled = |_| {
            let first = stream::iter([Ok::<_, std::io::Error>(Frame::data(piece.clone()))]);
            let never = stream::pending();
            let body = StreamBody::new(futures_util::StreamExt::chain(first, never));
            Box::pin(async {
                let refused = uploads.read(&HeaderMap::new(), body).await;
                refused.err().map(|refusal| refusal.status().as_u16())
            })
        };
        let mut all: Vec<_> = (0..limits::ADMIN_UPLOADS_HELD_MAX).map(stalled).collect();
        for upload in &mut all {
            assert!(futures_util::poll!(upload).is_pending());
        }
        let small = Full::new(Bytes::from_static(b"component"));
        let upload = uploads.read(&HeaderMap::new(), small).await.unwrap();
        assert_eq!(upload.bytes, "component");
        // The upload without data for the longest time was revoked.
        assert_eq!(all.remove(0).await, Some(503));
        assert!(futures_util::poll!(&mut all[0]).is_pending());
    }

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
    async fn a_truncated_upload_is_refused() {
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"\0asm"))),
            Err(std::io::Error::other("gone")),
        ];
        let broken = read(&HeaderMap::new(), StreamBody::new(stream::iter(frames))).await;
        assert_eq!(broken.unwrap_err().status(), 400);
    }
}

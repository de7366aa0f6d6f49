//! Bodies that are read once, read again, or read ahead, and bodies that fail while they are read.

use futures_util::{StreamExt, stream};
use http_body_util::{Empty, Full, StreamBody};

use super::*;
use cloakroom_base::quota::{QuotaTotals, Quotas};

type Frames = Vec<Result<Frame<Bytes>, std::io::Error>>;

fn body(chunks: &[&'static str], bytes_max: u64, replay_bytes_max: usize) -> ReplayBody {
    let frames: Frames = chunks
        .iter()
        .map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))))
        .collect();
    ReplayBody::new(
        StreamBody::new(stream::iter(frames)),
        bytes_max,
        replay_bytes_max,
    )
}

async fn text(reader: BodyReader) -> Result<String, Error> {
    let bytes = reader.collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_body_read_in_part_by_one_run_is_replayed_whole_to_the_next() {
    let body = body(&["ab", "cd", "ef"], 100, 100);
    let mut first = body.reader();
    assert_eq!(
        first.frame().await.unwrap().unwrap().into_data().unwrap(),
        "ab"
    );
    drop(first);
    assert_eq!(text(body.reader()).await.unwrap(), "abcdef");
    assert_eq!(text(body.reader()).await.unwrap(), "abcdef");
    assert!(!body.is_gone());
}

#[tokio::test]
async fn a_body_beyond_the_replay_limit_can_be_read_only_once() {
    let body = body(&["ab", "cd"], 100, 3);
    assert!(!body.is_gone());
    assert_eq!(text(body.reader()).await.unwrap(), "abcd");
    assert!(body.is_gone());
    assert_eq!(body.state(), RequestBodyState::Intact);
    assert!(text(body.reader()).await.is_err());
}

#[tokio::test]
async fn a_body_beyond_its_limit_fails_while_it_is_read() {
    let body = body(&["ab", "cd"], 3, 100);
    assert!(matches!(
        text(body.reader()).await,
        Err(Error::HttpRequestBodySize(Some(3)))
    ));
    assert_eq!(body.state(), RequestBodyState::TooLarge { bytes_max: 3 });
}

#[tokio::test]
async fn a_disconnected_client_is_an_error_and_ends_the_replay() {
    let frames: Frames = vec![
        Ok(Frame::data(Bytes::from_static(b"ab"))),
        Err(std::io::Error::other("reset")),
    ];
    let body = ReplayBody::new(StreamBody::new(stream::iter(frames)), 100, 100);
    assert!(matches!(
        text(body.reader()).await,
        Err(Error::ConnectionTerminated)
    ));
    assert!(body.is_gone());
}

#[tokio::test]
async fn trailers_are_replayed_to_every_run() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    let body = ReplayBody::new(
        Full::new(Bytes::from("a")).with_trailers(std::future::ready(Some(Ok(trailers.clone())))),
        9,
        9,
    );
    for _ in 0..2 {
        assert_eq!(
            body.reader().collect().await.unwrap().trailers(),
            Some(&trailers)
        );
    }
}

#[tokio::test]
async fn the_reader_of_an_earlier_run_takes_no_bytes_from_the_next() {
    let body = body(&["ab", "cd"], 100, 100);
    let mut old = body.reader();
    let new = body.reader();
    assert!(old.frame().await.unwrap().is_err());
    assert_eq!(text(new).await.unwrap(), "abcd");
}

#[tokio::test]
async fn an_ended_body_is_released_while_a_reader_still_exists() {
    let (held, source) = (Arc::new(()), stream::pending::<Frames>());
    let witness = Arc::clone(&held);
    let source = source.flat_map(move |frames| {
        let _held = &witness;
        stream::iter(frames)
    });
    let body = ReplayBody::new(StreamBody::new(source), 100, 100);
    let (mut reader, end) = (body.reader(), body.end());
    drop(body);
    assert_eq!(Arc::strong_count(&held), 2);

    end.close();

    assert_eq!(Arc::strong_count(&held), 1);
    assert!(reader.frame().await.unwrap().is_err());
    assert!(reader.frame().await.is_none());
}

#[tokio::test]
async fn an_empty_body_ends_immediately() {
    let body = ReplayBody::new(Empty::new(), 10, 10);
    assert!(body.reader().is_end_stream());
    assert_eq!(text(body.reader()).await.unwrap(), "");
}

fn failing(error: impl StdError + Send + Sync + 'static) -> ReplayBody {
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"ab"))),
        Err(Box::<dyn StdError + Send + Sync>::from(error)),
    ];
    ReplayBody::new(StreamBody::new(stream::iter(frames)), 100, 100)
}

#[tokio::test]
async fn bytes_read_ahead_are_replayed_and_the_rest_is_read_only_once() {
    let body = body(&["ab", "cd", "ef", "gh"], 100, 5);
    body.read_ahead().await.unwrap();
    assert!(!body.has_come(), "a piece is left");
    assert_eq!(
        body.bytes(),
        6,
        "the piece that passes the limit is the last"
    );
    assert!(!body.is_gone());
    let mut first = body.reader();
    let piece = first.frame().await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "ab");
    drop(first);
    assert_eq!(text(body.reader()).await.unwrap(), "abcdefgh");
    assert!(body.is_gone());
    assert!(text(body.reader()).await.is_err());
}

#[tokio::test]
async fn each_client_failure_during_read_ahead_has_its_own_error() {
    let failure = async |body: ReplayBody| body.read_ahead().await.unwrap_err();
    let broken = failing(std::io::Error::other("reset"));
    assert_eq!(failure(broken).await, GuestFailure::RequestBodyBrokeOff);
    assert_eq!(
        failure(failing(BodyTooSlow)).await,
        GuestFailure::RequestBodyTooSlow
    );
    let large = failure(body(&["ab", "cd"], 3, 100)).await;
    assert_eq!(large, GuestFailure::RequestBodyTooLarge { bytes_max: 3 });
}

#[tokio::test]
async fn a_body_is_awaited_after_an_empty_read_until_bytes_arrive() {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<&'static [u8]>();
    let frames = stream::poll_fn(move |cx| {
        let piece = |bytes| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(bytes)));
        receiver.poll_recv(cx).map(|bytes| bytes.map(piece))
    });
    let body = ReplayBody::new(StreamBody::new(frames), 100, 100);
    let mut reader = body.reader();
    assert!(!body.is_awaited(), "nothing was read");
    let poll = |reader: &mut BodyReader| {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Pin::new(reader).poll_frame(&mut cx).is_ready()
    };
    assert!(!poll(&mut reader));
    assert_eq!(
        (body.is_awaited(), body.state()),
        (true, RequestBodyState::Awaited)
    );
    // A guest that does not read bytes that have arrived does not count as waiting for them.
    sender.send(b"a").unwrap();
    assert_eq!(
        (body.is_awaited(), body.state()),
        (false, RequestBodyState::Intact)
    );
    assert!(poll(&mut reader));
    assert!(!poll(&mut reader));
    assert!(body.is_awaited());
    drop(reader);
    assert!(!body.is_awaited(), "the guest has let go of it");
}

#[tokio::test]
async fn a_quota_of_one_bodys_largest_cost_admits_a_body_in_tiny_pieces() {
    const PIECE: &str = "0123456789abcdef0123456789abcdef";
    let replay_bytes_max = 256 * PIECE.len();
    // As many tiny pieces as are kept, followed by more.
    let mut pieces = vec!["x"; 1024];
    pieces.extend([PIECE; 1024]);
    let cost_max = read_ahead_cost_max(u64::MAX, replay_bytes_max, PIECE.len());
    let quotas = Quotas::new(QuotaTotals {
        request_bytes: cost_max,
        ..QuotaTotals::default()
    });
    let peer = quotas.peer([127, 0, 0, 1].into()).of_one_request();
    let reservation = peer.reserve(QuotaResource::Requests, 1).unwrap();

    let body = body(&pieces, u64::MAX, replay_bytes_max).charged_to(&reservation);

    assert_eq!(body.read_ahead().await, Ok(()));
    assert!(quotas.used(QuotaResource::RequestBytes) <= cost_max);
}

#[test]
fn the_read_ahead_cost_is_bounded_by_the_body_limit_and_zero_without_replay() {
    let small = read_ahead_cost_max(100, 1 << 20, 16 << 10);
    assert_eq!(small, 100 + (100 / 32 + 1024) * PIECE_COST);
    assert_eq!(read_ahead_cost_max(u64::MAX, 0, 16 << 10), 0);
}

/// Returns a total of 1,000 bytes, and a function that makes request reservations for one client.
fn payers() -> (Arc<Quotas>, impl Fn() -> Reservation) {
    let quotas = Quotas::new(QuotaTotals {
        request_bytes: 1000,
        ..QuotaTotals::default()
    });
    let peer = quotas.peer([127, 0, 0, 1].into());
    let reservation = move || {
        let peer = peer.clone().of_one_request();
        peer.reserve(QuotaResource::Requests, 1).unwrap()
    };
    (quotas, reservation)
}

#[tokio::test]
async fn kept_body_bytes_are_charged_until_they_are_released() {
    let (quotas, reservation) = payers();
    let used = || quotas.used(QuotaResource::RequestBytes);
    let places = [reservation(), reservation(), reservation()];
    let kept = body(&["ab", "cd"], 100, 100).charged_to(&places[0]);
    kept.read_ahead().await.unwrap();
    assert_eq!(used(), 4 + 2 * PIECE_COST);
    let many = body(&["x"; 20], 100, 100).charged_to(&places[1]);
    assert_eq!(
        many.read_ahead().await.unwrap_err(),
        GuestFailure::NoRoomForBody
    );
    drop(many);
    assert_eq!(used(), 4 + 2 * PIECE_COST);
    for _ in 0..2 {
        assert_eq!(text(kept.reader()).await.unwrap(), "abcd");
        assert_eq!(used(), 4 + 2 * PIECE_COST, "another run may read it");
    }
    assert!(!kept.is_gone());
    // A guest that reads bytes while they arrive gets them, although they are not kept.
    let streamed = body(&["x"; 20], 100, 100).charged_to(&places[2]);
    assert_eq!(text(streamed.reader()).await.unwrap(), "x".repeat(20));
    assert!(streamed.is_gone());
    assert!(!kept.is_gone(), "it was asked for another run");
    drop((kept, streamed));
    assert_eq!(used(), 0);
}

#[tokio::test]
async fn bytes_that_a_run_has_read_can_be_revoked_while_it_continues() {
    let (quotas, reservation) = payers();
    let reservation = reservation();
    let body = body(&["ab", "cd", "ef", "gh"], 100, 5).charged_to(&reservation);
    body.read_ahead().await.unwrap();
    let mut reader = body.reader();
    let others = [2, 3].map(|last| quotas.peer([127, 0, 0, last].into()));
    let _working = others[0].reserve(QuotaResource::RequestBytes, 750).unwrap();
    let ask = || others[1].reserve(QuotaResource::RequestBytes, 100);
    for expected in ["ab", "cd", "ef"] {
        assert!(ask().is_err(), "before {expected}: it is not read");
        let frame = reader.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), expected);
    }
    assert_eq!(body.0.lock().kept.len(), 3);

    let _taken = ask().unwrap();

    // The kept pieces are released in a separate task.
    tokio::task::yield_now().await;
    assert_eq!(body.0.lock().kept.len(), 0);
    assert_eq!(text(reader).await.unwrap(), "gh");
    assert!(body.is_gone());
    assert_eq!(body.state(), RequestBodyState::Intact);
    assert!(!reservation.is_revoked());
}

#[tokio::test]
async fn a_queued_request_is_revoked_together_with_its_body() {
    let (quotas, reservation) = payers();
    let (queued, working) = (reservation(), reservation());
    let bodies =
        [&queued, &working].map(|reservation| body(&["x"; 7], 100, 100).charged_to(reservation));
    for body in &bodies {
        body.read_ahead().await.unwrap();
    }
    let visitor = quotas.peer([127, 0, 0, 2].into());
    let ask = || visitor.reserve(QuotaResource::RequestBytes, 200);
    assert!(ask().is_err(), "the host works for both");
    queued.set_phase(RevocablePhase::Queued).unwrap();
    // Queueing the request does not update the remembered refusal, which must expire first.
    tokio::time::sleep(2 * cloakroom_base::limits::NOTHING_TO_REVOKE_TIME).await;
    let _taken = ask().unwrap();
    assert!(queued.is_revoked() && !working.is_revoked());
    assert!(bodies[0].is_gone() && !bodies[1].is_gone());
    // A run that has begun keeps the bytes that it has not read, whatever its request waits for.
    let mut reader = bodies[1].reader();
    working.set_phase(RevocablePhase::WaitsForClient).unwrap();
    let stranger = quotas.peer([127, 0, 0, 3].into());
    assert!(stranger.reserve(QuotaResource::RequestBytes, 400).is_err());
    assert!(reader.frame().await.unwrap().is_ok());
}

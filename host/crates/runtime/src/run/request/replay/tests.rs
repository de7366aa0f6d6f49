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
async fn what_one_run_read_in_part_the_next_reads_whole() {
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
async fn a_body_beyond_what_is_kept_is_read_once() {
    let body = body(&["ab", "cd"], 100, 3);
    assert!(!body.is_gone());
    assert_eq!(text(body.reader()).await.unwrap(), "abcd");
    assert!(body.is_gone());
    assert_eq!(body.state(), RequestBodyState::Sound);
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
async fn a_client_that_hangs_up_is_an_error_and_the_body_is_gone() {
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
async fn trailers_come_with_every_run() {
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
async fn an_earlier_runs_reader_takes_nothing_from_the_next() {
    let body = body(&["ab", "cd"], 100, 100);
    let mut old = body.reader();
    let new = body.reader();
    assert!(old.frame().await.unwrap().is_err());
    assert_eq!(text(new).await.unwrap(), "abcd");
}

#[tokio::test]
async fn a_body_that_was_ended_is_let_go_of_though_somebody_holds_it() {
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
async fn no_body_is_an_end_at_once() {
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
async fn what_is_read_ahead_is_there_for_each_run_and_the_rest_for_one() {
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
async fn a_client_that_fails_before_the_guest_is_told_apart() {
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
async fn a_body_is_awaited_from_a_read_that_finds_nothing_until_something_comes() {
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
        (false, RequestBodyState::Sound)
    );
    assert!(poll(&mut reader));
    assert!(!poll(&mut reader));
    assert!(body.is_awaited());
    drop(reader);
    assert!(!body.is_awaited(), "the guest has let go of it");
}

#[tokio::test]
async fn a_total_of_what_one_body_costs_at_most_takes_a_body_in_the_smallest_pieces() {
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
    let place = peer.reserve(QuotaResource::Requests, 1).unwrap();

    let body = body(&pieces, u64::MAX, replay_bytes_max).charged_to(&place);

    assert_eq!(body.read_ahead().await, Ok(()));
    assert!(quotas.used(QuotaResource::RequestBytes) <= cost_max);
}

#[test]
fn what_a_body_costs_is_bounded_by_its_own_limit_and_is_nothing_where_none_is_kept() {
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
    let place = move || {
        let peer = peer.clone().of_one_request();
        peer.reserve(QuotaResource::Requests, 1).unwrap()
    };
    (quotas, place)
}

#[tokio::test]
async fn what_is_kept_is_paid_for_until_it_is_let_go_of() {
    let (quotas, place) = payers();
    let used = || quotas.used(QuotaResource::RequestBytes);
    let places = [place(), place(), place()];
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
async fn what_a_run_has_read_gives_way_and_the_run_goes_on() {
    let (quotas, place) = payers();
    let place = place();
    let body = body(&["ab", "cd", "ef", "gh"], 100, 5).charged_to(&place);
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
    assert_eq!(body.state(), RequestBodyState::Sound);
    assert!(!place.is_revoked());
}

#[tokio::test]
async fn a_queued_request_gives_way_with_its_body() {
    let (quotas, place) = payers();
    let (queued, working) = (place(), place());
    let bodies = [&queued, &working].map(|place| body(&["x"; 7], 100, 100).charged_to(place));
    for body in &bodies {
        body.read_ahead().await.unwrap();
    }
    let visitor = quotas.peer([127, 0, 0, 2].into());
    let ask = || visitor.reserve(QuotaResource::RequestBytes, 200);
    assert!(ask().is_err(), "the host works for both");
    queued.set_phase(RevocablePhase::Queued).unwrap();
    // Queueing the request does not update the remembered refusal, which must expire first.
    tokio::time::sleep(2 * cloakroom_base::limits::QUOTA_BARREN).await;
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

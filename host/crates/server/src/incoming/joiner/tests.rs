//! Tests with bodies that follow a script of pieces and pauses.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use http::HeaderMap;

use super::*;

/// The script of a body: a piece, or `None` for a pause.
#[derive(Debug, Default)]
struct Script(VecDeque<Option<Piece>>);

impl Script {
    fn push(&mut self, data: &[u8]) {
        self.0
            .push_back(Some(Ok(Frame::data(Bytes::copy_from_slice(data)))));
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self.0.pop_front() {
            None => Poll::Ready(None),
            Some(Some(piece)) => Poll::Ready(Some(piece)),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self
            .0
            .iter()
            .flatten()
            .flatten()
            .filter_map(Frame::data_ref);
        SizeHint::with_exact(bytes.map(|data| data.len() as u64).sum())
    }
}

async fn next(body: &mut PieceJoiner<Script>) -> Option<Piece> {
    poll_fn(|cx| body.poll_frame(cx)).await
}

/// Returns all pieces of the joined body.
async fn pieces(script: Script) -> Vec<Piece> {
    let mut body = PieceJoiner::new(script);
    let mut all = Vec::new();
    while let Some(piece) = next(&mut body).await {
        all.push(piece);
    }
    assert!(body.is_end_stream());
    all
}

fn sizes(pieces: &[Piece]) -> Vec<usize> {
    let data = pieces
        .iter()
        .map(|piece| piece.as_ref().unwrap().data_ref());
    data.map(|data| data.map_or(0, Bytes::len)).collect()
}

#[tokio::test]
async fn pieces_that_are_there_are_joined() {
    let mut script = Script::default();
    for _ in 0..1000 {
        script.push(&[1; 20]);
    }
    let all = pieces(script).await;
    assert_eq!(sizes(&all), [16_400, 3_600]);
}

#[tokio::test]
async fn a_piece_that_comes_alone_is_passed_on_at_once() {
    let mut script = Script::default();
    for _ in 0..10 {
        script.push(b"x");
        script.0.push_back(None);
    }
    assert_eq!(sizes(&pieces(script).await), [1; 10]);
}

#[tokio::test]
async fn many_tiny_pieces_are_delayed_and_joined() {
    let mut script = Script::default();
    for _ in 0..1_000 {
        script.push(b"x");
        script.0.push_back(None);
    }
    let sizes = sizes(&pieces(script).await);
    assert_eq!(sizes.iter().sum::<usize>(), 1_000);
    assert!(sizes.len() < 500, "{} pieces", sizes.len());
}

#[tokio::test]
async fn too_many_tiny_pieces_are_refused() {
    for piece in [&b""[..], b"x"] {
        let mut script = Script::default();
        for _ in 0..2 * BODY_PIECES_FREE {
            script.push(piece);
        }
        let all = pieces(script).await;
        let failure = all.last().unwrap().as_ref().unwrap_err();
        assert!(failure.is::<TooManyPieces>(), "{failure}");
    }
}

#[test]
fn the_allowance_of_tiny_pieces_grows_with_bytes_and_time() {
    let start = Instant::now();
    let mut pieces = TinyPieceAllowance::new(start);
    while pieces.spend(BODY_PIECE_BYTES_MIN, start).is_ok() {}
    assert!(pieces.is_flooded());
    let second = start + Duration::from_secs(1);
    for _ in 0..BODY_PIECES_PER_S_FREE {
        assert_eq!(pieces.spend(BODY_PIECE_BYTES_MIN, second), Ok(()));
    }
    assert_eq!(
        pieces.spend(BODY_PIECE_BYTES_MIN, second),
        Err(TooManyPieces)
    );
    pieces.count(3 * BODY_PIECE_BYTES_MIN as usize).unwrap();
    assert_eq!(pieces.spend(2 * BODY_PIECE_BYTES_MIN, second), Ok(()));
    assert_eq!(pieces.spend(1, second), Err(TooManyPieces));
    let much_later = start + Duration::from_secs(10_000);
    assert_eq!(pieces.spend(0, much_later), Ok(()));
    assert_eq!(pieces.left, TinyPieceAllowance::MOST);
}

/// For any pieces and pauses, the bytes stay the same, trailers and errors come last, and the size hint is correct.
#[tokio::test]
async fn joining_changes_no_byte() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut script, mut bytes) = (Script::default(), Vec::new());
        for _ in 0..random.usize(..60) {
            let size = [0, 1, 10, 1000, 20_000][random.usize(..5)];
            let piece: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
            bytes.extend_from_slice(&piece);
            script.push(&piece);
            for _ in 0..random.usize(..3) {
                script.0.push_back(None);
            }
        }
        let end = random.u8(..3);
        match end {
            0 => {}
            1 => script
                .0
                .push_back(Some(Ok(Frame::trailers(HeaderMap::new())))),
            _ => script.0.push_back(Some(Err("cut".into()))),
        }
        let mut body = PieceJoiner::new(script);
        let mut seen = Vec::new();
        let mut ending = 0;
        loop {
            assert_eq!(
                body.size_hint().exact(),
                Some((bytes.len() - seen.len()) as u64),
                "seed {seed}"
            );
            match next(&mut body).await {
                None => break,
                Some(Ok(frame)) if frame.is_trailers() => ending = 1,
                Some(Ok(frame)) => seen.extend_from_slice(&frame.into_data().unwrap()),
                Some(Err(_)) => ending = 2,
            }
        }
        assert!(seen == bytes && ending == end, "seed {seed}");
    }
}

//! Bodies that are read once, read again, read ahead, and that fail on the way.

use futures_util::{StreamExt, stream};
use http_body_util::{Empty, Full, StreamBody};

use super::*;

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
    assert_eq!(body.passed_limit(), None);
    assert!(text(body.reader()).await.is_err());
}

#[tokio::test]
async fn a_body_beyond_its_limit_fails_while_it_is_read() {
    let body = body(&["ab", "cd"], 3, 100);
    assert!(matches!(
        text(body.reader()).await,
        Err(Error::HttpRequestBodySize(Some(3)))
    ));
    assert_eq!(body.passed_limit(), Some(3));
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
        Full::new(Bytes::from("a"))
            .with_trailers(std::future::ready(Some(Ok(trailers.clone())))),
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

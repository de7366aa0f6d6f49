//! Clients that send their bodies slowly, in part or not at all, and clients that do not read their answers. The tests check that such
//! clients bear the cost, and that neither other clients nor the guest do.

mod answers;
mod blame;

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::raw_h2::{Frame, RawH2, kind};
use cloakroom_tests::wait::{pause, wait_until};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Both worlds.
const WORLDS: [&str; 2] = ["fixture-faults", "fixture-faults-service"];
/// Longest wait until the host holds the bytes that were sent.
const HELD_WAIT_MAX: Duration = Duration::from_secs(10);

/// Sends the head of a POST and the beginning of its body.
async fn begin(host: &Host, path: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

/// Returns all bytes until the host closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns a connection with this many uploads that send no body bytes.
async fn uploads(host: &Host, path: &str, streams: u32, fields: &[(&str, &str)]) -> RawH2 {
    let mut connection = RawH2::connect(host.address(), None, &[]).await.unwrap();
    for number in 0..streams {
        let sent = connection.request(number * 2 + 1, "POST", path, fields, false);
        sent.await.unwrap();
    }
    connection
}

/// Returns the head of the next answer.
async fn head(connection: &mut RawH2) -> Frame {
    loop {
        let frame = connection.receive().await.unwrap();
        if frame.kind == kind::HEADERS {
            return frame;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_stalled_uploads_hold_no_instance_of_a_guest() {
    for world in WORLDS {
        let keys = "limits = { instances = 4, waiting = 4, deadline = \"60s\", wait = \"20s\" }";
        let host = Config::over("memory:")
            .guest_with("/s", world, keys)
            .start();
        let announced: &[(&str, &str)] = &[("content-length", "10")];
        for fields in [announced, &[]] {
            let stalled = join_all((0..3).map(|_| uploads(&host, "/s/echo", 128, fields))).await;
            let browser = Browser::new();
            for _ in 0..20 {
                assert_eq!(browser.get(&host.url("/s/")).await.status, 200, "{world}");
            }
            drop(stalled);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_too_slowly_is_408_before_the_guest_and_while_it_reads() {
    let server = "[server]\nbody_timeout = \"500ms\"\nbody_rate = \"1KiB\"";
    for (keys, kind) in [
        ("", "before the guest"),
        ("stream = true", "while the guest reads"),
    ] {
        for world in WORLDS {
            let host = Config::over("memory:")
                .top(server)
                .guest_with("/s", world, keys)
                .start();
            // First no byte at all, then a byte now and then.
            for sent in ["", "x"] {
                let mut stream = begin(&host, "/s/length", 100_000, sent.as_bytes()).await;
                let trickle = async {
                    let (mut reader, mut writer) = stream.split();
                    let mut answer = Vec::new();
                    let read = reader.read_to_end(&mut answer);
                    tokio::pin!(read);
                    loop {
                        tokio::select! {
                            _ = &mut read => break,
                            () = pause(Duration::from_millis(100), "the pace of a slow client") => {
                                let _ = writer.write_all(sent.as_bytes()).await;
                            }
                        }
                    }
                    String::from_utf8(answer).unwrap()
                };
                let answer = tokio::time::timeout(Duration::from_secs(60), trickle).await;
                let answer = answer.expect("a slow client is found out");
                assert!(
                    answer.starts_with("HTTP/1.1 408 "),
                    "{world} {kind}: {answer}"
                );
                assert!(
                    answer.contains("connection: close\r\n"),
                    "{world} {kind}: {answer}"
                );
            }
            host.wait_for_log_count("error=\"request-body-too-slow\"", 2)
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_moves_may_take_longer_than_the_guests_deadline() {
    // The first part arrives before the guest runs, the rest while the guest waits for it.
    for keys in ["", "stream = true"] {
        for world in WORLDS {
            let limits = "limits = { deadline = \"1s\", replay_body = \"1KiB\" }";
            let host = Config::over("memory:")
                .guest_with("/s", world, &format!("{keys}\n{limits}"))
                .start();
            let piece = [b'x'; 1000];
            let mut stream = begin(&host, "/s/length", 30 * piece.len(), b"").await;
            for _ in 0..30 {
                stream.write_all(&piece).await.unwrap();
                pause(Duration::from_millis(100), "the pace of a slow client").await;
            }
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(answer, "HTTP/1.1 200", "{world} {keys}: {}", host.log());
            // The deadline still applies to the guest's own work.
            let late = Browser::new().get(&host.url("/s/sleep?20000")).await;
            assert_eq!(late.status, 504, "{world}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_100_continue_is_sent_only_when_the_body_is_read() {
    let host = Config::over("memory:")
        .guest_with(
            "/s",
            "fixture-faults",
            "limits = { request_body = \"1KiB\" }",
        )
        .start();
    for (path, length, first) in [
        ("/s/length", 10, "HTTP/1.1 100 "),
        ("/s/length", 2000, "HTTP/1.1 413 "),
        ("/nowhere", 10, "HTTP/1.1 404 "),
    ] {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), first, "{path} {length}");
        if first.contains("100") {
            stream.write_all(&[b'x'; 10]).await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_keep_half_of_the_instances_while_others_queue() {
    for world in WORLDS {
        for instances in [1_usize, 2, 8] {
            let limits = format!(
                "stream = true\nlimits = {{ instances = {instances}, waiting = 20, deadline = \"60s\", wait = \"30s\" }}"
            );
            let host = Config::over("memory:")
                .top("[server]\nbody_timeout = \"60s\"")
                .guest_with("/s", world, &limits)
                .admin("")
                .start();
            let mut stalled = Vec::new();
            for _ in 0..instances {
                stalled.push(begin(&host, "/s/length", 10, b"x").await);
            }
            // Each of them has an instance when the visitors arrive.
            Operator::of(&host)
                .wait_for_instances(&format!("{world}0"), instances)
                .await;
            let browser = Browser::new();
            for _ in 0..5 {
                assert_eq!(
                    browser.get(&host.url("/s/")).await.status,
                    200,
                    "{world} {instances}"
                );
            }
            // The other uploads are served normally when their bodies arrive.
            let mut codes = Vec::new();
            for stream in &mut stalled {
                let _ = stream.write_all(b"123456789").await;
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.unwrap();
                codes.push(String::from_utf8_lossy(&answer[9..]).into_owned());
            }
            let count = |code: &str| codes.iter().filter(|it| *it == code).count();
            let cut = count("408");
            assert_eq!(cut + count("200"), instances, "{world}: {codes:?}");
            assert!(
                (1..=instances.div_ceil(2)).contains(&cut),
                "{world}: {cut} of {instances} were cut"
            );
            host.wait_for_log_count("error=\"client-too-slow\"", cut)
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_quota_of_waiting_bodies_the_stalled_one_gives_way() {
    let host = Config::over("memory:")
        .top("[server]\nwaiting_bodies = \"4MiB\"\nbody_timeout = \"60s\"")
        .guest("/s", "fixture-faults")
        .admin("")
        .start();
    let half = vec![b'x'; 700 << 10];
    let operator = Operator::of(&host);
    let are_held = async |count: usize| {
        let what = format!("{count} halves are held");
        wait_until(&what, HELD_WAIT_MAX, async || {
            let used = "cloakroom_server_used{total=\"waiting_bodies\"}";
            let used = operator.metric(used).await;
            ensure!(used >= Some((count * half.len()) as f64), "{used:?}");
            Ok(())
        })
        .await;
    };
    let mut stalled = begin(&host, "/s/length", 1 << 20, &half).await;
    are_held(1).await;
    // These uploads leave no room for another one.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(begin(&host, "/s/length", 1 << 20, &half).await);
    }
    are_held(5).await;
    let answer = Browser::new()
        .post(&host.url("/s/length"), half.clone())
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "716800\n"));
    let answer = rest(&mut stalled).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // Together with the held uploads, five more would exceed the total, so each must release its bytes.
    for _ in 0..5 {
        let answer = Browser::new()
            .post(&host.url("/s/length"), half.clone())
            .await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_upload_that_stalls_is_ended_alone() {
    let host = Config::over("memory:")
        .top("[server]\nbody_timeout = \"500ms\"")
        .guest("/s", "fixture-faults")
        .start();
    let mut connection = uploads(&host, "/s/length", 1, &[("content-length", "10")]).await;
    let answer = head(&mut connection).await;
    assert_eq!(answer.stream, 1);
    let sent = connection.request(3, "GET", "/s/", &[], true);
    sent.await.unwrap();
    let answer = head(&mut connection).await;
    assert_eq!((answer.stream, answer.status()), (3, Some(200)));
    host.wait_for_log("status=408").await;
}

//! Resources that all clients share: a client that holds many of them gives way to the others, from one address and from many.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::raw_h2::{Frame, INITIAL_WINDOW_SIZE, RawH2, connect_from, kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any step of these tests on a slow machine, and shorter than the idle time limit.
const PATIENCE: Duration = Duration::from_secs(60);
const STREAMS: u32 = 128;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The first bytes of a HEADERS frame.
const HALF_A_HEAD: &[u8] = &[0, 0, 40, 1, 5, 0, 0, 0, 1, 0x82];

fn host(server: &str) -> Host {
    Config::over("memory:")
        .top(&format!("[server]\n{server}\n"))
        .guest_with("/hello", "fixture-hello", "")
        .guest("/f", "fixture-faults")
        .guest("/s", "fixture-session")
        .admin("")
        .start()
}

/// Returns the visitor's own address, or one of many.
fn address(number: u32, is_one: bool) -> IpAddr {
    match is_one {
        true => Ipv4Addr::LOCALHOST.into(),
        false => Ipv4Addr::from(0x7f_02_00_01 + number).into(),
    }
}

async fn assert_visitors_are_served(host: &Host) {
    for _ in 0..10 {
        let answer = Browser::new().get(&host.url("/hello")).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
    }
}

/// Opens a connection that requests `path` on every stream and limits the window to `window`. Returns the connection and its frames once
/// every stream has a head.
async fn stalled(host: &Host, from: IpAddr, window: u32, path: &str) -> (RawH2, Vec<Frame>) {
    let settings = [(INITIAL_WINDOW_SIZE, window)];
    let mut client = RawH2::connect(host.address(), Some(from), &settings)
        .await
        .unwrap();
    for stream in 0..STREAMS {
        client
            .request(1 + 2 * stream, "GET", path, &[], true)
            .await
            .unwrap();
    }
    let mut frames = Vec::new();
    let mut heads = 0;
    while heads < STREAMS {
        let frame = timeout(PATIENCE, client.receive()).await.unwrap().unwrap();
        heads += u32::from(frame.kind == kind::HEADERS);
        frames.push(frame);
    }
    (client, frames)
}

async fn metric(host: &Host, name: &str) -> f64 {
    Operator::of(host).metric(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_responses_cause_no_refusal_of_visitors() {
    for is_one in [true, false] {
        let host = host("requests = 100");
        let mut clients = Vec::new();
        for number in 0..4 {
            clients.push(
                stalled(&host, address(number, is_one), 0, "/f/hello")
                    .await
                    .0,
            );
        }
        assert_visitors_are_served(&host).await;
        let operator = Operator::of(&host);
        operator
            .wait_for_metric("cloakroom_server_used{total=\"requests\"}", Some(0.0))
            .await;
        let untaken = metric(&host, "cloakroom_server_used{total=\"untaken\"}").await;
        assert!(untaken > 200.0 * 12.0 * 1024.0, "{untaken}");

        drop(clients);
        operator
            .wait_for_metric("cloakroom_server_used{total=\"untaken\"}", Some(0.0))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_total_stalled_answers_are_reset_and_visitors_are_served() {
    // With a window of one byte the data are in h2's buffers, otherwise in the bodies.
    for (window, path, is_one) in [
        (0, "/hello", true),
        (1, "/hello", false),
        (0, "/f/huge?8", false),
        (1, "/f/huge?8", true),
    ] {
        let host = host("untaken = \"1MiB\"");
        let (mut client, frames) = stalled(&host, address(0, is_one), window, path).await;
        let is_reset = |frame: &Frame| frame.kind == kind::RST_STREAM;
        if !frames.iter().any(is_reset) {
            while !is_reset(&timeout(PATIENCE, client.receive()).await.unwrap().unwrap()) {}
        }
        assert_visitors_are_served(&host).await;
        let used = metric(&host, "cloakroom_server_used{total=\"untaken\"}").await;
        assert!(used <= f64::from(1 << 20), "{used}");
        assert!(metric(&host, "cloakroom_server_revoked_total{total=\"untaken\"}").await > 0.0);
        assert!(host.log().contains("key=server.untaken"), "{}", host.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_for_their_clients_give_way() {
    let upload = b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab";
    let half_http2 = [PREFACE, SETTINGS, HALF_A_HEAD].concat();
    let firsts: [&[u8]; 5] = [
        b"",
        b"GET /hello HTTP/1.1\r\nHost:",
        b"PRI * HTTP/2.0\r\n",
        &half_http2,
        upload,
    ];
    for is_one in [true, false] {
        let host = host("connections = 50");
        for first in firsts {
            let clients = connect_all(host.address(), 150, is_one, first).await;
            assert_visitors_are_served(&host).await;
            drop(clients);
        }
        let operator: SocketAddr = host.admin().trim_start_matches("http://").parse().unwrap();
        let _clients = connect_all(operator, 150, true, b"").await;
        for path in ["/healthz", "/readyz"] {
            let answer = Browser::new().get(&format!("{}{path}", host.admin())).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        }
    }
}

/// Two requests of one client are in progress, and no idle connection is closed for a third connection of this client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_refused_a_connection_holds_up_no_newcomer() {
    const BUSY: u32 = 100;
    /// Less than the duration of the two requests.
    const SOON: Duration = Duration::from_secs(1);
    let host = host("connections = 8");
    let hello = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut idle = connect_all(host.address(), 6, false, hello).await;
    for stream in &mut idle {
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
    }
    let (operator, in_flight) = (Operator::of(&host), "cloakroom_requests_in_flight");
    operator.wait_for_metric(in_flight, Some(0.0)).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let from = Some(address(BUSY, false));
        let mut stream = connect_from(host.address(), from).await.unwrap();
        let slow = b"GET /f/sleep?8000 HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(slow).await.unwrap();
        busy.push(stream);
    }
    operator.wait_for_metric(in_flight, Some(2.0)).await;

    // The newcomers' connections are kept, so that all connections stay in use.
    let mut newcomers = Vec::new();
    for number in 1..=3 {
        let from = Some(address(BUSY, false));
        let mut third = connect_from(host.address(), from).await.unwrap();
        let end = timeout(SOON, third.read(&mut [0; 1])).await;
        // A reset also ends the connection.
        assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");

        let newcomer = Browser::at(address(BUSY + number, false), true);
        let url = host.url("/hello");
        let answer = timeout(SOON, newcomer.get(&url)).await.expect("a place");
        assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
        newcomers.push(newcomer);
    }

    let refused = "cloakroom_server_refused_total{total=\"connections\"}";
    assert!(metric(&host, refused).await >= 3.0, "{}", host.log());
    operator.wait_for_metric(in_flight, Some(2.0)).await;
}

/// Bodies held in memory for a busy guest are dropped together with their queued requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_queued_requests_cause_no_refusal_of_visitors() {
    let host = Config::over("memory:")
        .top("[server]\nwaiting_bodies = \"1MiB\"")
        .guest_with(
            "/busy",
            "fixture-faults",
            "limits = { instances = 1, replay_body = \"64KiB\" }",
        )
        .guest_with(
            "/f",
            "fixture-faults",
            "limits = { replay_body = \"64KiB\" }",
        )
        .admin("")
        .start();
    let head = "POST /busy/sleep?3000 HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
    let upload = [head.as_bytes(), &[b'x'; 60_000]].concat();
    let _clients = connect_all(host.address(), 17, false, &upload).await;
    let (operator, total) = (Operator::of(&host), "{total=\"waiting_bodies\"}");
    let used = format!("cloakroom_server_used{total}");
    let all_have_come = async {
        while operator
            .metric(&used)
            .await
            .is_none_or(|used| used < 1_020_000.0)
        {}
    };
    timeout(PATIENCE, all_have_come).await.unwrap();

    let answer = Browser::new()
        .post(&host.url("/f/length"), vec![b'x'; 40_000])
        .await;

    assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
    let revoked = format!("cloakroom_server_revoked_total{total}");
    assert!(metric(&host, &revoked).await > 0.0, "{}", host.log());
}

async fn connect_all(to: SocketAddr, count: u32, is_one: bool, first: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for number in 0..count {
        let mut stream = connect_from(to, Some(address(number, is_one)))
            .await
            .unwrap();
        // The host may already have closed it.
        let _ = stream.write_all(first).await;
        all.push(stream);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_the_header_timeout_from_the_first_moment() {
    let host = host("header_timeout = \"1s\"\nidle_timeout = \"600s\"");
    let hello = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases: [&[&[u8]]; 9] = [
        &[],
        &[b"G"],
        &[b"GET /hello HTTP/1.1\r\nHost: a\r\n"],
        &[b"PRI * HT"],
        &[PREFACE],
        &[PREFACE, SETTINGS],
        &[PREFACE, SETTINGS, HALF_A_HEAD],
        &[PREFACE, SETTINGS, &[0, 0, 1, 1, 1, 0, 0, 0, 1, 0x82]],
        &[hello, b"GET /hello"],
    ];
    let address = host.address();
    let closed = cases.map(|pieces| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            // After an answer, the next piece starts another head.
            if piece.ends_with(b"\r\n\r\n") && piece.starts_with(b"GET") {
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
            }
        }
        // A reset also ends the connection.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let all = futures_util::future::join_all(closed);
    timeout(PATIENCE, all)
        .await
        .expect("every connection is closed");

    let mut client = RawH2::connect(host.address(), None, &[]).await.unwrap();
    client.request(1, "GET", "/hello", &[], true).await.unwrap();
    client.send(kind::HEADERS, 1, 3, &[0x82]).await.unwrap();
    // The client answers PING meanwhile.
    timeout(PATIENCE, client.linger())
        .await
        .expect("a later head as well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_stops_waits_for_answers_that_clients_have_not_taken() {
    for window in [0, 1] {
        let mut host = host("");
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        let mut client = RawH2::connect(host.address(), None, &settings)
            .await
            .unwrap();
        client.request(1, "GET", "/hello", &[], true).await.unwrap();
        while timeout(PATIENCE, client.receive())
            .await
            .unwrap()
            .unwrap()
            .kind
            != kind::HEADERS
        {}
        // The few bytes in h2's buffer no longer count as a request.
        let in_flight = Some(1.0 - f64::from(window));
        Operator::of(&host)
            .wait_for_metric("cloakroom_requests_in_flight", in_flight)
            .await;

        host.signal("TERM");
        while timeout(PATIENCE, client.receive())
            .await
            .unwrap()
            .unwrap()
            .kind
            != kind::GOAWAY
        {}
        client.open_window(1, 1000).await.unwrap();

        while !timeout(PATIENCE, client.receive())
            .await
            .unwrap()
            .unwrap()
            .is_end()
        {}
        assert!(host.ended(PATIENCE).await.success(), "{}", host.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_many_tiny_pieces_is_refused_and_one_in_small_pieces_is_not() {
    let host = host("");
    let small = format!("24\r\n{}\r\n", "get n\n".repeat(6));
    for (piece, count, status) in [("1\r\nx\r\n", 4000, 400), (&small, 300, 200)] {
        let head = "POST /s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = format!("{head}{}0\r\n\r\n", piece.repeat(count));
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&answer),
            format!("HTTP/1.1 {status}"),
            "{piece:?}"
        );
    }

    for size in [0, 1] {
        let mut client = RawH2::connect(host.address(), None, &[]).await.unwrap();
        client.request(1, "POST", "/s", &[], false).await.unwrap();
        for _ in 0..4000 {
            if client.data(1, &b"x"[..size], false).await.is_err() {
                break;
            }
        }
        loop {
            match timeout(PATIENCE, client.receive()).await.unwrap() {
                Ok(frame) if frame.status() == Some(400) => break,
                Ok(frame) if matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY) => break,
                Ok(frame) => assert_ne!(frame.status(), Some(200)),
                // h2 has already closed the connection.
                Err(_) => break,
            }
        }
    }
    assert_visitors_are_served(&host).await;
}

/// A trusted proxy's connection carries the answers of many clients. A client that stalls loses only its own answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_trusted_proxy_a_stalled_client_loses_only_its_own_responses() {
    const OTHER: u32 = 201;
    let host = Config::over("memory:")
        .top("[server]\nuntaken = \"1MiB\"")
        .session("trusted_proxies = [\"127.0.0.0/8\"]")
        .guest("/f", "fixture-faults")
        .start();
    let mut proxy = RawH2::connect(host.address(), None, &[(INITIAL_WINDOW_SIZE, 0)])
        .await
        .unwrap();
    let (mut heads, mut reset) = (0, Vec::new());
    for stream in (1..OTHER + 40).step_by(2) {
        let client = if stream == OTHER {
            "10.0.0.2"
        } else {
            "10.0.0.1"
        };
        let fields = [("x-forwarded-for", client)];
        proxy
            .request(stream, "GET", "/f/hello", &fields, true)
            .await
            .unwrap();
        heads += 1;
    }
    while heads > 0 {
        let frame = timeout(PATIENCE, proxy.receive()).await.unwrap().unwrap();
        heads -= u32::from(frame.kind == kind::HEADERS);
        reset.extend((frame.kind == kind::RST_STREAM).then_some(frame.stream));
    }
    proxy.open_window(OTHER, 1000).await.unwrap();
    loop {
        let frame = timeout(PATIENCE, proxy.receive()).await.unwrap().unwrap();
        reset.extend((frame.kind == kind::RST_STREAM).then_some(frame.stream));
        if frame.is_end() {
            assert_eq!(frame.stream, OTHER);
            break;
        }
    }
    assert!(!reset.is_empty() && !reset.contains(&OTHER), "{reset:?}");
}

/// Returns a connection from the visitors' address whose requests have filled the host or the guest: its first answer is a 503.
async fn flooded(host: &Host, path: &str, fields: &[(&str, &str)]) -> RawH2 {
    let mut flood = RawH2::connect(host.address(), Some(address(0, true)), &[])
        .await
        .unwrap();
    for stream in 0..STREAMS {
        flood
            .request(1 + 2 * stream, "GET", path, fields, true)
            .await
            .unwrap();
    }
    loop {
        let frame = timeout(PATIENCE, flood.receive()).await.unwrap().unwrap();
        if frame.kind == kind::HEADERS {
            // HPACK's static table does not contain 503.
            assert_eq!(frame.status(), None);
            return flood;
        }
    }
}

/// A guest that serves two requests at a time, and one connection with more requests than the guest's queue holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_fills_a_guests_queue_delays_only_itself() {
    for is_one in [true, false] {
        let host = Config::over("memory:")
            .guest_with(
                "/f",
                "fixture-faults",
                "limits = { instances = 2, waiting = 16 }",
            )
            .start();
        let _flood = flooded(&host, "/f/sleep?1000", &[]).await;
        let visitor = Browser::at(address(1, is_one), false);
        for _ in 0..2 {
            let answer = visitor.get(&host.url("/f/hello")).await;
            assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
        }
    }
}

/// Otherwise one client's requests that wait for a session lock would fill the host for as long as their guest runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_for_a_session_lock_give_way() {
    for is_one in [true, false] {
        let slow = "session = \"write\"\nexclusive = true";
        let host = Config::over("memory:")
            .top("[server]\nrequests = 40\n")
            .guest("/session", "counter")
            .guest_with("/hello", "fixture-hello", "")
            .guest_with("/f", "fixture-faults", slow)
            .start();
        let browser = Browser::new();
        browser.get(&host.url("/session")).await;
        let cookie = browser.cookies(&host.url("/session")).unwrap();
        let _flood = flooded(&host, "/f/sleep?2000", &[("cookie", cookie.as_str())]).await;
        let visitor = Browser::at(address(1, is_one), false);
        for _ in 0..10 {
            let answer = visitor.get(&host.url("/hello")).await;
            assert_eq!(answer.status, 200, "{}\n{}", answer.text, host.log());
        }
    }
}

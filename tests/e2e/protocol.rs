//! HTTP from well-behaved and from misbehaving clients.

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn host() -> Host {
    Config::over("memory:").guest("/", "fixture-faults").start()
}

/// Sends bytes and returns the code of the status line, or 0 if the host closed the connection without an answer.
async fn raw(host: &Host, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    // The host may close the connection before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = vec![0; 12];
    match stream.read_exact(&mut answer).await {
        Ok(_) => String::from_utf8_lossy(&answer[9..12]).parse().unwrap_or(0),
        Err(_) => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_refused_and_the_host_goes_on() {
    let host = host();
    let long_target = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(20_000));
    let long_method = format!("{} / HTTP/1.1\r\nhost: x\r\n\r\n", "M".repeat(33));
    let long_head = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "a".repeat(40_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
        "a: b\r\n".repeat(200)
    );
    let cases: Vec<(&str, &[u8], &[u16])> = vec![
        ("not HTTP", b"hello\r\n\r\n", &[400, 0]),
        ("no host", b"GET / HTTP/1.1\r\n\r\n", &[400]),
        (
            "two hosts",
            b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            &[400],
        ),
        (
            "two lengths",
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            &[400],
        ),
        (
            "bad percent-encoding",
            b"GET /%zz HTTP/1.1\r\nhost: x\r\n\r\n",
            &[400],
        ),
        (
            "an encoded NUL",
            b"GET /%00 HTTP/1.1\r\nhost: x\r\n\r\n",
            &[400],
        ),
        (
            "a transfer coding",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            &[501],
        ),
        (
            "chunked twice",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            &[501],
        ),
        (
            "two transfer codings",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            &[501],
        ),
        (
            // hyper rejects these before the host could distinguish them from malformed requests.
            "a transfer coding that ends in no chunks",
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: identity\r\n\r\n",
            &[400],
        ),
        ("a long method", long_method.as_bytes(), &[501]),
        ("a long target", long_target.as_bytes(), &[414]),
        ("a long head", long_head.as_bytes(), &[431]),
        ("many headers", many.as_bytes(), &[431]),
    ];
    for (what, request, codes) in cases {
        let code = raw(&host, request).await;
        assert!(codes.contains(&code), "{what}: {code}");
        assert_eq!(
            Browser::new().get(&host.url("/")).await.status,
            200,
            "after {what}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_by_prior_knowledge_is_served() {
    let host = host();
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .unwrap();
    let answer = client.get(host.url("/")).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "hello\n");
    let cut = client
        .get(host.url("/half-large"))
        .send()
        .await
        .unwrap()
        .bytes()
        .await;
    assert!(cut.is_err(), "a late trap resets the stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_have_methods_hosts_and_parameters() {
    let host = Config::over("memory:")
        .guest_with("/any", "fixture-hello", "")
        .guest_with(
            "/unused",
            "fixture-faults",
            "[[route]]\npath = \"/user/{id}\"\nmethods = [\"POST\", \"PUT\"]\nguest = \"fixture-faults1\"\n\
             [[route]]\npath = \"/only\"\nhost = \"shop.example\"\nguest = \"fixture-faults1\"",
        )
        .start();
    let browser = Browser::new();
    assert_eq!(browser.get(&host.url("/nowhere")).await.status, 404);
    assert_eq!(
        browser.get(&host.url("/any")).await.status,
        200,
        "a catch-all serves its bare prefix"
    );
    let refused = browser.get(&host.url("/user/7")).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("POST, PUT"))
    );
    assert_eq!(browser.post(&host.url("/user/7"), "").await.status, 200);
    assert_eq!(
        raw(&host, b"GET /only HTTP/1.1\r\nhost: other.example\r\n\r\n").await,
        404
    );
    assert_eq!(
        raw(
            &host,
            b"GET /only HTTP/1.1\r\nhost: shop.example:80\r\n\r\n"
        )
        .await,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_holds_no_instance() {
    let host = Config::over("memory:")
        .top("[server]\ninstances = 1")
        .guest("/", "fixture-faults")
        .start();
    // A head that never ends does not start a guest.
    let mut slow = TcpStream::connect(host.address()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n")
        .await
        .unwrap();
    assert_eq!(Browser::new().get(&host.url("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_request_body_does_not_prevent_the_response() {
    let limits = "limits = { request_body = \"1MiB\" }";
    let host = Config::over("memory:")
        .guest_with("/", "fixture-faults", limits)
        .start();
    let mut stream = TcpStream::connect(host.address()).await.unwrap();
    // The first body exceeds the guest's limit; the guest does not read the second one.
    for (bytes, code) in [(3 << 20, "413"), (900 << 10, "200")] {
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in vec![b'x'; bytes].chunks(64 << 10) {
            stream.write_all(piece).await.expect("the host takes it");
        }
        let answer = one_answer(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
    }
}

/// Reads one answer with a `Content-Length` from a connection that stays open.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let (_, rest) = lower.split_once("content-length: ").expect("a length");
            let length: usize = rest.lines().next().unwrap().parse().unwrap();
            if body.len() >= length {
                return text;
            }
        }
        let read = stream.read_buf(&mut answer).await.unwrap();
        assert!(read > 0, "closed after {text}");
    }
}

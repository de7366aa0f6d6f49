//! Trailers: the fields that may pass in either direction, and the statuses that a guest may answer with.

use bytes::Bytes;
use cloakroom_tests::host::{Config, Host};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One guest of each world.
const GUESTS: [(&str, &str); 2] = [
    ("/two", "fixture-faults"),
    ("/three", "fixture-faults-service"),
];

/// Fields that are allowed only in a head.
const UNFIT: [&str; 16] = [
    "set-cookie: connect.sid=s%3Aforged.forged; Path=/",
    "cookie: connect.sid=s%3Aforged.forged",
    "content-type: text/html",
    "content-encoding: gzip",
    "authorization: Basic eDp5",
    "www-authenticate: Basic",
    "cache-control: public",
    "date: Mon, 30 Nov 2026 03:27:00 GMT",
    "location: https://evil.example/",
    "vary: *",
    "age: 1",
    "status: 500",
    "x-forwarded-for: 1.2.3.4",
    "x_forwarded_proto: https",
    "forwarded: for=1.2.3.4",
    "access-control-allow-origin: *",
];

fn host() -> Host {
    let config = Config::over("memory:");
    let config = GUESTS
        .iter()
        .fold(config, |config, (path, name)| config.guest(path, name));
    config.start()
}

async fn http2(host: &Host) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(host.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// POSTs these lines with the trailers `own`. Returns the status, the body and the trailers of the answer.
async fn post(host: &Host, path: &str, lines: &[&str], own: HeaderMap) -> (u16, String, HeaderMap) {
    let mut client = http2(host).await;
    let request = Request::post(host.url(path)).body(()).unwrap();
    let (answer, mut sender) = client.send_request(request, false).unwrap();
    sender.send_data(lines.join("\n").into(), false).unwrap();
    sender.send_trailers(own).unwrap();
    let answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        let _ = body.flow_control().release_capacity(piece.len());
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    (status, String::from_utf8(bytes).unwrap(), trailers)
}

fn fields(lines: &[&str]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        fields.append(name, value.parse().unwrap());
    }
    fields
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_fields_that_belong_in_a_head_are_dropped_from_trailers() {
    let host = host();
    for (path, name) in GUESTS {
        let path = format!("{path}/trailers?200");
        let lines = [&UNFIT[..], &["x-checksum: abc"]].concat();
        let (status, text, trailers) = post(&host, &path, &lines, fields(&lines)).await;
        assert_eq!(status, 200, "{name}: {text}\n{}", host.log());
        let left: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(left, ["x-checksum"], "{name}, to the client");
        assert!(text.ends_with("x-checksum: abc\n"), "{name}: {text}");
        for line in UNFIT {
            let (field, _) = line.split_once(": ").unwrap();
            let reached = text
                .lines()
                .any(|line| line.starts_with(&format!("{field}: ")));
            assert!(!reached, "{name}, to the guest: {text}");
        }
    }
    host.wait_for_log_count("the guest's trailers held fields that belong in a head", 2)
        .await;
    assert!(!host.log().contains("forged"), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_1_chunked_trailers_are_screened_as_well() {
    let host = host();
    for (path, name) in GUESTS {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let lines = "set-cookie: connect.sid=forged\nx-sum: 1";
        let request = format!(
            "POST {path}/trailers?200 HTTP/1.1\r\nhost: x\r\nte: trailers\r\ntrailer: cookie, x-sum\r\n\
             connection: close, te\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{lines}\r\n0\r\n\
             cookie: connect.sid=forged\r\nx-forwarded-for: 1.2.3.4\r\nx-sum: 2\r\n\r\n",
            lines.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        assert!(answer.contains("x-sum: 2\n"), "{name}: {answer}");
        for unfit in ["forged", "cookie", "1.2.3.4"] {
            assert!(!answer.contains(unfit), "{name}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_trailers_are_all_dropped() {
    let host = host();
    let many: Vec<_> = (0..64).map(|n| format!("x-{n}: 1")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (path, name) in GUESTS {
        let path = format!("{path}/trailers?200");
        let (status, text, trailers) = post(&host, &path, &many, fields(&many)).await;
        assert_eq!((status, text.as_str()), (200, ""), "{name}");
        assert!(trailers.is_empty(), "{name}: {trailers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guests_status_that_clients_do_not_understand_is_answered_502() {
    let host = host();
    for (path, name) in GUESTS {
        // The interface of WASI 0.3 does not accept these statuses, so such a guest continues with 200.
        let above = if name == "fixture-faults" { 502 } else { 200 };
        for (status, expected, has_body) in [
            (100, 502, true),
            (101, 502, true),
            (103, 502, true),
            (199, 502, true),
            (200, 200, true),
            (204, 204, false),
            (205, 205, false),
            (304, 304, false),
            (599, 599, true),
            (600, above, true),
            (999, above, true),
            // Neither guest can set these statuses.
            (0, 200, true),
            (1000, 200, true),
        ] {
            let path = format!("{path}/trailers?{status}");
            let lines = ["set-cookie: connect.sid=forged", "x-sum: 1"];
            let own = fields(&["x-own: 1"]);
            let (answered, text, trailers) = post(&host, &path, &lines, own).await;
            assert_eq!(answered, expected, "{name} {status}: {text}");
            assert_eq!(!text.is_empty(), has_body, "{name} {status}: {text}");
            let is_from_guest = expected != 502 && has_body;
            assert_eq!(
                trailers.contains_key("x-sum"),
                is_from_guest,
                "{name} {status}"
            );
            assert!(!trailers.contains_key("set-cookie"), "{name} {status}");
        }
    }
}

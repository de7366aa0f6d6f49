//! A host that is stopped while it is busy: no client sees an error, and every answered commit is kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use cloakroom_tests::wait::pause;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::sqlite_rows;

const CLIENTS: usize = 16;

/// One answer: its text, and whether it asks the client to close the connection.
struct Answer {
    is_last: bool,
    text: String,
}

/// Sends one request on an open connection, without any retry.
async fn ask(link: &mut BufReader<TcpStream>, cookie: &str) -> Answer {
    let request = format!("GET /session HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\n\r\n");
    link.write_all(request.as_bytes()).await.unwrap();
    let (mut line, mut head) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        let read = link.read_line(&mut line).await.unwrap();
        assert!(
            read > 0,
            "the connection was cut before the answer was whole: {head:?}"
        );
        head += &line.to_ascii_lowercase();
    }
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    link.read_exact(&mut body).await.unwrap();
    Answer {
        is_last: head.contains("connection: close"),
        text: String::from_utf8(body).unwrap(),
    }
}

/// Counts visits over one connection until an answer asks to close it. Returns the last count.
async fn visit_until_the_end(address: SocketAddr, cookie: String) -> u64 {
    let mut link = BufReader::new(TcpStream::connect(address).await.unwrap());
    loop {
        let answer = ask(&mut link, &cookie).await;
        if answer.is_last {
            let mut rest = Vec::new();
            link.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "nothing follows the last answer");
            let count = answer.text.split('번').next().unwrap();
            return count.parse().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_a_busy_host_fails_no_request_and_loses_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.sqlite");
    let mut host = Config::over(&format!("sqlite:{}", store.display()))
        .top("log = { level = \"info,cloakroom::access=off\" }")
        .guest("/", "counter")
        .start();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let browser = Browser::new();
        browser.get(&host.url("/session")).await;
        let cookie = browser.cookies(&host.url("/")).unwrap();
        let id = crate::id_of(&browser, &host);
        clients.push((
            id,
            tokio::spawn(visit_until_the_end(host.address(), cookie)),
        ));
    }
    pause(Duration::from_secs(1), "the clients are busy").await;

    host.signal("TERM");

    let mut counts = BTreeMap::new();
    for (id, client) in clients {
        let count = client.await.expect("no client saw an error");
        assert!(count > 2, "it was busy");
        counts.insert(id, count);
    }
    let status = host.ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(0), "{}", host.log());
    let rows = sqlite_rows(&store);
    assert_eq!(rows.len(), CLIENTS);
    for (id, _, data) in rows {
        let count = counts[&id];
        assert!(
            data.contains(&format!("\"num\":{count}")),
            "{data} after {count}"
        );
    }
    let total: u64 = counts.values().sum();
    println!("{total} visits by {CLIENTS} clients, each of them answered and kept");
}

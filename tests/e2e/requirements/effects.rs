//! Requirement 54: under heavy contention over two hosts, a counting back end sees no request's effect twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use cloakroom_tests::mariadb::Mariadb;
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::script;

type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

/// Answers every request and counts the requests for each path.
async fn back_end(listener: TcpListener, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer_all(stream, Arc::clone(&seen)));
    }
}

async fn answer_all(stream: TcpStream, seen: Seen) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut line) = (String::new(), String::new());
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await?;
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        *seen.lock().unwrap().entry(path).or_default() += 1;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_effect_is_repeated_under_many_conflicts() {
    const REQUESTS: usize = 120;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let seen = Seen::default();
    let server = tokio::spawn(back_end(listener, Arc::clone(&seen)));
    let database = Mariadb::shared().await.fresh_database().await;
    let keys = format!("session = \"write\"\noutbound_hosts = [\"{target}\"]");
    let config = Config::over(&database.url)
        .guest_with("/two", "fixture-session", &keys)
        .guest_with("/three", "fixture-session-service", &keys)
        .guest("/s", "fixture-session");
    let hosts = [config.start(), config.start()];
    let browser = Browser::new();
    script(&browser, &hosts[0], &["set n 0"]).await;
    let cookie = browser.cookies(&hosts[0].url("/")).unwrap();

    let answers = join_all((0..REQUESTS).map(async |n| {
        let host = &hosts[n % 2];
        let path = ["/two", "/three"][n / 2 % 2];
        let visitor = Browser::with_cookie(&host.url("/"), &cookie);
        let lines = format!("get n\nfetch http://{target}/{n}\nincrement n 1");
        let answer = visitor.post(&host.url(path), lines).await;
        (n, answer.status)
    }))
    .await;

    server.abort();
    let seen = seen.lock().unwrap().clone();
    let repeated: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
    let mut answered = 0;
    for (n, status) in answers {
        let is_seen = seen.contains_key(&format!("/{n}"));
        match status {
            200 => {
                answered += 1;
                assert!(is_seen, "{n} answers for an effect that was not made");
            }
            // The effect happened, and the commit of the session was refused.
            409 => assert!(is_seen, "{n}"),
            503 => assert!(
                !is_seen,
                "{n} asks its visitor to come again after an effect"
            ),
            other => panic!("{other}"),
        }
    }
    eprintln!("{answered} of {REQUESTS} answered, {} effects", seen.len());
    assert!(answered > 0 && answered < REQUESTS, "there were conflicts");
    let held = script(&browser, &hosts[0], &["get n"]).await.remove(0);
    assert_eq!(held, answered.to_string());
}

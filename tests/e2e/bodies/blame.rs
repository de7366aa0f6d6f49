//! Failures that count against a version of a guest: those of the guest, never those of its clients.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, component};
use cloakroom_tests::versions::hello;
use cloakroom_tests::wait::pause;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{WORLDS, begin, rest};

const TAKEN_BACK: &str = "fails too often: rolling it back";

/// Starts a host whose live version has just replaced another one and is rolled back after few failures.
async fn replaced(world: &str, server: &str, keys: &str) -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.wasm");
    fs::write(&file, hello(1)).unwrap();
    let keys =
        format!("session = \"write\"\nrollback = {{ requests = 5, window = \"5m\" }}\n{keys}");
    let host = Config::over("memory:")
        .top(server)
        .guest_at("/", "x", &file, &keys)
        .admin("")
        .start();
    replace(&file, &component(world));
    host.wait_for_log("replaced=1").await;
    (host, folder)
}

fn replace(file: &Path, with: &Path) {
    let new = file.with_extension("new");
    fs::copy(with, &new).unwrap();
    fs::rename(new, file).unwrap();
}

/// Returns whether the previous version is live again. Call it once all requests have ended.
fn is_taken_back(host: &Host) -> bool {
    host.log().contains(TAKEN_BACK)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_and_stalled_bodies_cause_no_rollback() {
    let server = "[server]\nbody_timeout = \"300ms\"";
    for keys in ["", "stream = true"] {
        for world in WORLDS {
            let (host, _folder) = replaced(world, server, keys).await;
            for path in ["/length?write", "/echo"] {
                for number in 0..20 {
                    let stream = begin(&host, path, 100_000, &[b'x'; 1000]).await;
                    if number % 2 == 0 {
                        drop(stream);
                    } else {
                        tokio::spawn(async move {
                            let mut stream = stream;
                            rest(&mut stream).await
                        });
                    }
                }
            }
            // A streaming echo has already released its head, so its status is not 400.
            let ended = if keys.is_empty() { 20 } else { 10 };
            host.wait_for_log_count("status=400", ended).await;
            host.wait_for_log_count("status=408", ended).await;
            pause(Duration::from_millis(300), "nothing is rolled back").await;
            assert!(!is_taken_back(&host), "{world} {keys}: {}", host.log());
            assert_eq!(
                host.log_count("a guest gave no answer"),
                0,
                "{}",
                host.log()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guests_own_500_for_a_body_that_broke_off_commits_nothing() {
    for world in WORLDS {
        let host = Config::over("memory:")
            .guest_with("/s", world, "session = \"write\"\nstream = true")
            .guest("/session", "fixture-session")
            .start();
        let mut stream = begin(&host, "/s/length?write", 100, b"some").await;
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
        assert!(!answer.contains("set-cookie"), "{world}: {answer}");
        host.wait_for_log("error=\"request-body-broke-off\"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_hangs_is_rolled_back_although_its_clients_have_left() {
    for world in WORLDS {
        let (host, _folder) = replaced(world, "", "limits = { deadline = \"1s\" }").await;
        let mut clients = Vec::new();
        for _ in 0..8 {
            let mut stream = TcpStream::connect(host.address()).await.unwrap();
            let request = b"GET /sleep?60000 HTTP/1.1\r\nhost: a\r\n\r\n";
            stream.write_all(request).await.unwrap();
            clients.push(stream);
        }
        Operator::of(&host)
            .wait_for_instances("x", clients.len())
            .await;
        drop(clients);
        host.wait_for_log(TAKEN_BACK).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_no_url_can_have_reaches_no_guest() {
    let host = Config::over("memory:").guest("/", "fixture-hello").start();
    for (name, code) in [
        ("999.1.1.1", "400"),
        ("1.2.3.4.5", "400"),
        ("a:99999", "400"),
        ("[fe80::1%25eth0]", "400"),
        ("xn--a", "400"),
        ("shop.example:8080", "200"),
        ("[::1]:80", "200"),
    ] {
        let mut stream = TcpStream::connect(host.address()).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert_eq!(answer.get(9..12), Some(code), "{name}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_a_single_client_cause_no_rollback() {
    let (host, _folder) = replaced("fixture-faults", "", "").await;
    for number in 2..7 {
        let visitor = Browser::at([127, 0, 0, number].into(), true);
        assert_eq!(visitor.get(&host.url("/")).await.status, 200);
    }
    let attacker = Browser::at([127, 0, 9, 9].into(), true);
    for _ in 0..40 {
        assert_eq!(attacker.get(&host.url("/trap")).await.status, 500);
    }
    assert!(!is_taken_back(&host), "{}", host.log());
    // The same failure for three clients proves that the guest is at fault.
    for number in 2..4 {
        let visitor = Browser::at([127, 0, 0, number].into(), true);
        visitor.get(&host.url("/trap")).await;
    }
    host.wait_for_log(TAKEN_BACK).await;
}

//! Shutdown of the host: the first signal lets requests finish, and a second one ends the host at once.

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::wait_until;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn host() -> Host {
    let keys = "limits = { deadline = \"90s\" }\nsession = \"write\"";
    let config = Config::over("memory:").guest_with("/f", "fixture-faults", keys);
    let config = config.top("server = { grace = \"90s\" }");
    config.admin("").start()
}

/// Waits until the request has reached its guest.
async fn is_under_way(host: &Host) {
    Operator::of(host)
        .wait_for_instances("fixture-faults0", 1)
        .await;
}

/// Waits until the host no longer listens, which means that the first signal has arrived.
async fn closed(host: &Host) {
    wait_until("the host is closed", Duration::from_secs(10), async || {
        let connected = TcpStream::connect(host.address()).await;
        ensure!(connected.is_err(), "{}", host.log());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_signal_lets_a_request_finish_and_ends_well() {
    for signal in ["TERM", "INT"] {
        let mut host = host();
        let url = host.url("/f/sleep?2500");
        let request = tokio::spawn(async move { Browser::new().get(&url).await });
        is_under_way(&host).await;
        host.signal(signal);
        closed(&host).await;
        assert!(!request.is_finished(), "it was under way:\n{}", host.log());
        assert!(host.is_running(), "{}", host.log());

        let answer = request.await.unwrap();
        assert_eq!((answer.status, answer.text.as_str()), (200, "slept\n"));
        let status = host.ended(Duration::from_secs(20)).await;
        assert_eq!(status.code(), Some(0), "SIG{signal}:\n{}", host.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_host_at_once() {
    for (path, signals) in [
        ("/f/sleep?80000", ["TERM", "TERM"]),
        ("/f/spin", ["INT", "TERM"]),
    ] {
        let mut host = host();
        let mut link = TcpStream::connect(host.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        link.write_all(request.as_bytes()).await.unwrap();
        is_under_way(&host).await;
        host.signal(signals[0]);
        closed(&host).await;
        assert!(host.is_running(), "{}", host.log());

        host.signal(signals[1]);
        let status = host.ended(Duration::from_secs(5)).await;
        assert_eq!(status.code(), Some(1), "{path}:\n{}", host.log());
        host.wait_for_log("a second signal: ending at once").await;
        let mut answer = Vec::new();
        let _ = link.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "nothing was answered");
    }
}

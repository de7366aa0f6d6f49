//! Outgoing requests of a guest: the granted hosts, and that a request counts as an effect.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use cloakroom_session::ReplayPolicy;

const SCRIPTED: [&str; 2] = ["fixture-session", "fixture-session-service"];

/// Runs a script in a guest of either world. `granted` is the host that it may reach, if any.
async fn script(name: &str, granted: Option<&str>, ops: String) -> (String, ReplayPolicy) {
    let mut settings = settings(name);
    settings.limits.deadline = Duration::from_secs(2);
    settings.grants.outbound_hosts = granted
        .map(|host| host.parse().unwrap())
        .into_iter()
        .collect();
    let guest = load(settings);
    let mut invocation = invocation(&guest, Method::POST, "/", ops);
    let released = run(&mut invocation).await.unwrap();
    let answer = body(released).await.unwrap();
    (
        String::from_utf8(answer.to_vec()).unwrap(),
        invocation.replay(),
    )
}

#[tokio::test]
async fn a_request_to_a_host_that_was_not_granted_never_leaves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for name in SCRIPTED {
        for granted in [None, Some("127.0.0.1:1"), Some("example.com")] {
            let (answer, replay) = script(name, granted, format!("fetch http://{address}/")).await;
            assert!(
                answer.starts_with("error") && answer.to_lowercase().contains("denied"),
                "{name}: {answer}"
            );
            assert_eq!(replay, ReplayPolicy::Possible, "{name}");
        }
    }
    let nobody_came = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(nobody_came.is_err());
}

#[tokio::test]
async fn a_granted_host_is_reached_and_counts_as_an_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let read = stream.read(&mut head).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
            .await
            .unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    };
    for name in SCRIPTED {
        let fetch = script(name, Some(&address), format!("fetch http://{address}/path"));
        let ((answer, replay), head) = tokio::join!(fetch, serve());
        assert_eq!(answer, "201\n", "{name}");
        assert!(head.starts_with("GET /path HTTP/1.1\r\n"), "{name}: {head}");
        assert_eq!(replay, ReplayPolicy::EffectMade, "{name}");
    }
}

#[tokio::test]
async fn a_connection_that_is_refused_is_an_error_and_counts_all_the_same() {
    for name in SCRIPTED {
        let fetch = "fetch http://127.0.0.1:1/".to_owned();
        let (answer, replay) = script(name, Some("127.0.0.1:1"), fetch).await;
        assert!(answer.starts_with("error"), "{name}: {answer}");
        assert_eq!(replay, ReplayPolicy::EffectMade, "{name}");
    }
}

#[tokio::test]
async fn a_silent_server_delays_a_guest_only_until_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut settings = settings("fixture-session");
    settings.limits.deadline = Duration::from_millis(200);
    settings.grants.outbound_hosts = [address.parse().unwrap()].into();
    let guest = load(settings);
    let mut invocation = invocation(
        &guest,
        Method::POST,
        "/",
        format!("fetch http://{address}/"),
    );
    let started = Instant::now();
    let outcome = run(&mut invocation).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{outcome:?}");
}

//! Answers that clients do not read.

use std::time::Duration;

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::Config;
use cloakroom_tests::raw_h2::{INITIAL_WINDOW_SIZE, RawH2};
use cloakroom_tests::wait::pause;

use super::WORLDS;

/// Returns a connection with this many answers that the client does not read.
async fn untaken(host: &cloakroom_tests::host::Host, path: &str, streams: u32) -> RawH2 {
    let settings = [(INITIAL_WINDOW_SIZE, 0)];
    let connection = RawH2::connect(host.address(), None, &settings).await;
    let mut connection = connection.unwrap();
    for number in 0..streams {
        let sent = connection.request(number * 2 + 1, "GET", path, &[], true);
        sent.await.unwrap();
    }
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_taken_hold_no_instance_once_their_guest_is_done() {
    for world in WORLDS {
        let keys = "limits = { instances = 2, waiting = 200, deadline = \"60s\", wait = \"30s\" }";
        let host = Config::over("memory:")
            .guest_with("/s", world, keys)
            .start();
        // 128 KiB, more than the host holds back before the release.
        let stalled = untaken(&host, "/s/late-write", 100).await;
        let linger = tokio::spawn(stalled.linger());
        let browser = Browser::new();
        for _ in 0..10 {
            assert_eq!(browser.get(&host.url("/s/")).await.status, 200, "{world}");
        }
        assert_eq!(host.log_count("client-too-slow"), 0, "{world}");
        linger.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longer_answers_that_are_not_taken_keep_half_of_the_instances_while_others_queue() {
    for world in WORLDS {
        for instances in [1_u32, 4] {
            let keys = format!(
                "rollback = {{ requests = 1 }}\nlimits = {{ instances = {instances}, waiting = 200, deadline = \"60s\", wait = \"60s\" }}"
            );
            let host = Config::over("memory:")
                .guest_with("/s", world, &keys)
                .admin("")
                .start();
            let stalled = untaken(&host, "/s/huge?2", instances).await;
            let linger = tokio::spawn(stalled.linger());
            Operator::of(&host)
                .wait_for_instances(&format!("{world}0"), instances as usize)
                .await;
            let browser = Browser::new();
            for _ in 0..10 {
                assert_eq!(browser.get(&host.url("/s/")).await.status, 200, "{world}");
            }
            assert!(!host.log().contains("fails too often"), "{}", host.log());
            linger.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_taken_slowly_comes_whole() {
    for world in WORLDS {
        let host = Config::over("memory:").guest("/s", world).start();
        let mut response = reqwest::get(host.url("/s/huge?3")).await.unwrap();
        let mut bytes = 0;
        while let Some(piece) = response.chunk().await.unwrap() {
            assert!(piece.iter().all(|byte| *byte == b'x'));
            bytes += piece.len();
            if bytes < 1 << 20 {
                pause(Duration::from_millis(5), "the pace of a slow client").await;
            }
        }
        assert_eq!(bytes, 3 << 20, "{world}");
    }
}

//! Guests that make the host keep bytes for them: the memory limit bounds all of it, and it is given back.

use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};

/// What each is asked for, far beyond the limit of 16 MiB, and what the answer is.
///
/// Where the host keeps nothing for the guest the answer is 200; so it is where the host drops what passes the limit.
const HOARDS_02: [(&str, u16); 15] = [
    ("/hoard-fields?4000", 500),
    ("/hoard-entries?4000", 500),
    ("/hoard-clones?4000", 500),
    ("/hoard-request-headers?4000", 500),
    ("/hoard-response-headers?4000", 500),
    ("/hoard-lists?4000", 500),
    ("/hoard-bodies?1300", 500),
    ("/hoard-responses?1300", 500),
    ("/hoard-trailers?4000", 500),
    ("/hoard-methods?4000", 500),
    ("/hoard-pollables?1500", 200),
    ("/hoard-values?2000", 200),
    ("/hoard-cookies?2000", 200),
    ("/hoard-lines?20000", 200),
    ("/hoard-line?2000", 200),
];
const HOARDS_03: [(&str, u16); 9] = [
    ("/hoard-fields?4000", 500),
    ("/hoard-entries?4000", 500),
    ("/hoard-clones?4000", 500),
    ("/hoard-request-headers?1000", 500),
    ("/hoard-response-headers?1000", 500),
    ("/hoard-lists?4000", 500),
    ("/hoard-bodies?1000", 500),
    ("/hoard-responses?1000", 500),
    ("/hoard-methods?1000", 500),
];
/// The guest's limit, and as much again for what the host itself needs to serve a request.
const PEAK_KIB_MAX: u64 = 48 << 10;
/// What the host may keep once its guests are quiet.
const REST_KIB_MAX: u64 = 64 << 10;

async fn hoard(component: &str, hoards: &[(&str, u16)]) {
    let keys = "session = \"write\"\nlimits = { memory = \"16MiB\", deadline = \"60s\" }";
    let host = Config::over("memory:")
        .guest_with("/s", component, keys)
        .start();
    let browser = Browser::new();
    assert_eq!(browser.get(&host.url("/s/")).await.status, 200);
    let start = host.resident_kib();
    for (path, status) in hoards {
        host.forget_peak();
        let before = host.resident_kib();
        let answer = browser.get(&host.url(&format!("/s{path}"))).await;
        assert_eq!(answer.status, *status, "{component}{path}: {}", answer.text);
        let grown = host.peak_kib().saturating_sub(before);
        assert!(
            grown < PEAK_KIB_MAX,
            "{component}{path} made the host grow by {grown} KiB"
        );
        assert_eq!(browser.get(&host.url("/s/")).await.status, 200, "{path}");
    }
    let refused = hoards.iter().filter(|(_, status)| *status == 500).count();
    host.wait_for_log_count("error=\"memory-refused\"", refused)
        .await;
    let rest = rest(&host, start + REST_KIB_MAX).await;
    assert!(
        rest <= start + REST_KIB_MAX,
        "{component}: {rest} KiB, {start} KiB before"
    );
}

/// The host's resident memory once it is at most `wanted`, or after a time far beyond what it should need.
async fn rest(host: &Host, wanted: u64) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let now = host.resident_kib();
        if now <= wanted || Instant::now() > end {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_keeps_for_a_guest_counts_against_its_memory_in_0_2() {
    hoard("fixture-faults", &HOARDS_02).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_keeps_for_a_guest_counts_against_its_memory_in_0_3() {
    hoard("fixture-faults-service", &HOARDS_03).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_come_in_calls_of_64_kib() {
    let host = Config::over("memory:")
        .guest("/old", "fixture-faults")
        .guest("/new", "fixture-faults-service")
        .start();
    let browser = Browser::new();
    for bytes in [0, 1, 65_536] {
        for guest in ["old", "new"] {
            let url = host.url(&format!("/{guest}/random?{bytes}"));
            assert_eq!(
                browser.get(&url).await.text,
                format!("held {bytes}\n"),
                "{guest}"
            );
        }
    }
    // WASI 0.3 lets the host give fewer than were asked for; 0.2 does not.
    let answer = browser.get(&host.url("/old/random?65537")).await;
    assert_eq!(answer.status, 500);
    host.wait_for_log("requested len 65537 exceeds limit 65536")
        .await;
    let answer = browser.get(&host.url("/new/random?65537")).await;
    assert_eq!(answer.text, "held 65536\n");
}

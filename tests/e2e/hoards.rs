//! Guests that make the host hold bytes for them: the memory limit bounds all of these bytes, and they are freed.

use std::time::Duration;

use anyhow::ensure;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::try_wait_until;

/// The requests, each for far more than the limit of 16 MiB, and the expected status.
///
/// The status is 200 where the host holds nothing for the guest, and where the host drops everything beyond the limit.
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
/// The guest's limit, and twice as much for the host's own memory to serve a request.
const PEAK_KIB_MAX: u64 = 48 << 10;
/// Longest wait for the end of the memory's use, far beyond the expected time.
const REST_TIME_MAX: Duration = Duration::from_secs(60);
/// The memory that the host may keep once its guests are idle.
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

/// Returns the host's resident memory once it is at most `wanted`, or after a time far beyond the expected one.
async fn rest(host: &Host, wanted: u64) -> u64 {
    let mut now = host.resident_kib();
    // The caller checks the value.
    let _ = try_wait_until("memory is released", REST_TIME_MAX, async || {
        now = host.resident_kib();
        ensure!(now <= wanted);
        Ok(())
    })
    .await;
    now
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_kept_for_a_guest_count_against_its_memory_in_0_2() {
    hoard("fixture-faults", &HOARDS_02).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_kept_for_a_guest_count_against_its_memory_in_0_3() {
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
    // In WASI 0.3 the host may return fewer bytes than requested; in 0.2 it may not.
    let answer = browser.get(&host.url("/old/random?65537")).await;
    assert_eq!(answer.status, 500);
    host.wait_for_log("requested len 65537 exceeds limit 65536")
        .await;
    let answer = browser.get(&host.url("/new/random?65537")).await;
    assert_eq!(answer.text, "held 65536\n");
}

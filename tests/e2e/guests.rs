//! Harmful behavior of guests: every fixture causes the right status, the next request succeeds, and memory does not grow.

use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::pause;
use reqwest::Method;

use crate::sqlite_rows;

const LIMITS: &str = r#"session = "write"
limits = { deadline = "1s", memory = "32MiB", request_body = "1MiB" }"#;

fn faults(component: &str) -> Host {
    Config::over("sqlite:sessions.sqlite")
        .guest_with("/", component, LIMITS)
        .start()
}

async fn status(host: &Host, path: &str) -> u16 {
    Browser::new().get(&host.url(path)).await.status
}

async fn each_has_its_status(host: &Host, expected: &[(&str, u16)]) {
    for (path, code) in expected {
        assert_eq!(status(host, path).await, *code, "{path}\n{}", host.log());
        assert_eq!(status(host, "/").await, 200, "the request after {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_status_and_the_next_request_is_fine() {
    let host = faults("fixture-faults");
    each_has_its_status(
        &host,
        &[
            ("/trap", 500),
            ("/unreachable", 500),
            ("/stack", 500),
            ("/grow", 500),
            ("/exit", 500),
            ("/trap-after-head", 500),
            ("/half-body", 500),
            ("/no-response", 502),
            ("/error-code", 502),
            ("/spin", 504),
            ("/sleep?5000", 504),
            ("/grow-politely", 200),
            ("/read-none", 200),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_has_its_status_in_the_newer_world() {
    let host = faults("fixture-faults-service");
    each_has_its_status(
        &host,
        &[
            ("/trap", 500),
            ("/grow", 500),
            ("/half-body", 500),
            ("/never", 500),
            ("/error-code", 502),
            ("/spin", 504),
            ("/sleep?5000", 504),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_leaves_no_session_behind() {
    let host = faults("fixture-faults");
    let file = host.directory.path().join("sessions.sqlite");
    for path in [
        "/trap?write",
        "/grow?write",
        "/exit?write",
        "/no-response?write",
        "/spin?write",
        "/half-body?write",
    ] {
        let answer = Browser::new().get(&host.url(path)).await;
        assert!(answer.status >= 500, "{path}: {}", answer.status);
        assert!(answer.set_cookies().is_empty(), "{path}");
    }
    assert_eq!(sqlite_rows(&file), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_ends_at_its_deadline_while_others_are_served() {
    let host = faults("fixture-faults");
    let start = Instant::now();
    let spin = async {
        let code = status(&host, "/spin").await;
        (code, start.elapsed())
    };
    let others = async {
        let mut slowest = Duration::ZERO;
        while start.elapsed() < Duration::from_millis(800) {
            let sent = Instant::now();
            assert_eq!(status(&host, "/").await, 200);
            slowest = slowest.max(sent.elapsed());
        }
        slowest
    };
    let ((code, took), slowest) = futures_util::future::join(spin, others).await;
    assert_eq!(code, 504);
    assert!(
        (Duration::from_millis(1000)..Duration::from_millis(1500)).contains(&took),
        "took {took:?}"
    );
    assert!(
        slowest < Duration::from_millis(500),
        "a neighbour waited {slowest:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_after_the_release_cuts_the_connection() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = faults(component);
        let cut = Browser::new()
            .try_send(Method::GET, &host.url("/half-large"), "")
            .await;
        assert!(
            cut.is_err(),
            "{component}: a clean, short answer: {}",
            cut.unwrap().text.len()
        );
        assert_eq!(status(&host, "/").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_response_streams_whole() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = faults(component);
        let before = host.resident_kib();
        let answer = Browser::new().get(&host.url("/huge?64")).await;
        assert_eq!(
            (answer.status, answer.text.len()),
            (200, 64 << 20),
            "{component}"
        );
        let grown = host.resident_kib().saturating_sub(before);
        assert!(
            grown < 32 << 10,
            "{component}: 64 MiB through the host grew it by {grown} KiB"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_body_streams_back_and_too_much_of_it_is_413() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = faults(component);
        let browser = Browser::new();
        let body = "abcdefgh".repeat(100_000);
        let echo = browser.post(&host.url("/echo"), body.clone()).await;
        assert!(echo.text == body, "{component}: the body comes back");
        let declared = browser
            .post(&host.url("/echo"), vec![b'x'; (1 << 20) + 1])
            .await;
        assert_eq!(
            declared.status, 413,
            "{component}: a declared length over the limit"
        );
        let chunks = (0..40).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10]));
        let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
        // The host may answer and close before the client has sent everything. The client then may not receive the answer.
        if let Ok(answer) = browser
            .try_send(Method::POST, &host.url("/drain"), chunked)
            .await
        {
            assert!(
                answer.status == 413 || answer.status == 200,
                "{component}: {}",
                answer.status
            );
        }
        assert_eq!(status(&host, "/").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_see_no_environment_no_files_and_no_network() {
    let host = faults("fixture-faults");
    let seen = Browser::new().get(&host.url("/env")).await.text;
    assert!(
        !seen.contains("COOKIE_SECRET") && !seen.contains("PATH"),
        "{seen}"
    );
    let host = Config::over("memory:")
        .guest("/s", "fixture-session")
        .start();
    let url = format!("fetch {}", host.url("/s"));
    let line = crate::script(&Browser::new(), &host, &[&url])
        .await
        .remove(0);
    assert!(line.starts_with("error"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_output_is_logged_with_the_guests_name_and_the_request_id() {
    let host = faults("fixture-faults");
    Browser::new().get(&host.url("/stdout")).await;
    host.wait_for_log("stderr").await;
    let log = host.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|l| l.contains("stdout") || l.contains("stderr"))
        .collect();
    assert!(lines.len() >= 3, "{log}");
    assert!(
        lines
            .iter()
            .all(|l| l.contains("fixture-faults") && l.contains("request_id")),
        "{lines:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_a_fresh_instance() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = faults(component);
        for _ in 0..3 {
            assert_eq!(
                Browser::new().get(&host.url("/instance")).await.text.trim(),
                "0",
                "{component}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_queue_are_answered_503() {
    let host = Config::over("memory:")
        .top("[server]\ninstances = 2\ninstance_waiters = 2\ninstance_wait = \"200ms\"")
        .guest_with("/", "fixture-faults", LIMITS)
        .start();
    let requests = (0..12).map(|_| async { status(&host, "/sleep?600").await });
    let mut codes = futures_util::future::join_all(requests).await;
    codes.sort_unstable();
    assert!(codes.iter().all(|c| [200, 503].contains(c)), "{codes:?}");
    assert!(
        codes.starts_with(&[200, 200]) && codes.contains(&503),
        "{codes:?}"
    );
    assert_eq!(status(&host, "/").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn third_party_components_are_served() {
    for name in ["wasi", "wasip2", "wstd", "wasip3"] {
        let host = Config::over("memory:")
            .guest_with("/", &format!("thirdparty-{name}"), "")
            .start();
        let browser = Browser::new();
        assert_eq!(
            browser.get(&host.url("/")).await.text,
            format!("hello from {name}\n")
        );
        assert_eq!(
            browser.post(&host.url("/"), "echo me").await.text,
            "echo me",
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_requests_leave_memory_where_it_was() {
    let limits = r#"session = "write"
limits = { deadline = "20ms", memory = "16MiB", request_body = "64KiB", instances = 8 }"#;
    let host = Config::over("memory:")
        .top("[log]\nlevel = \"error\"")
        .guest_with("/two", "fixture-faults", limits)
        .guest_with("/three", "fixture-faults-service", limits)
        .start();
    let paths = [
        "/two/trap?write",
        "/two/stack",
        "/two/grow",
        "/two/no-response",
        "/two/error-code",
        "/two/exit",
        "/two/spin",
        "/two/half-large",
        "/two/log-flood?50",
        "/two/many-headers?50",
        "/two/trap-after-head",
        "/three/trap",
        "/three/half-large",
        "/three/never",
        "/three/error-code",
    ];
    let hostile = async |count: usize| {
        for _ in 0..count / paths.len() {
            let batch = paths.iter().map(|path| {
                let url = host.url(path);
                async move {
                    Browser::new()
                        .try_send(Method::GET, &url, "")
                        .await
                        .map(|a| a.status)
                }
            });
            for result in futures_util::future::join_all(batch).await {
                assert!(
                    result.is_err() || result.is_ok_and(|code| code >= 200),
                    "the host answers or cuts"
                );
            }
        }
    };
    // A single reading varies by several MiB with the memory slots that the last requests used. At least 7,000 requests lie between the
    // largest early and the smallest late reading.
    let three_readings = async || {
        let mut readings = [0; 3];
        for reading in &mut readings {
            hostile(1_000).await;
            pause(Duration::from_secs(1), "the host comes to rest").await;
            *reading = host.resident_kib();
        }
        readings
    };
    let early = three_readings().await;
    hostile(6_000).await;
    let late = three_readings().await;
    eprintln!(
        "resident in KiB after 1,000 to 3,000 hostile requests {early:?}, after 10,000 to 12,000 {late:?}"
    );
    let [before, after] =
        [early.into_iter().max(), late.into_iter().min()].map(Option::unwrap_or_default);
    let grown = after.saturating_sub(before);
    assert!(grown <= 4 << 10, "grew by {grown} KiB");
    assert_eq!(status(&host, "/two/").await, 200);
}

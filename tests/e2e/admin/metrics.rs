//! The values of `/metrics` after various events.

use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};

use super::{HELLO, bytes, hello, other};
use crate::script;

async fn assert_metrics(operator: &Operator, expected: &[(&str, f64)]) {
    let text = operator.get("/metrics").await;
    assert!(
        text.header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for (series, value) in expected {
        let line = format!("{series} {value}");
        let is_listed = text.text.lines().any(|metric| metric == line);
        assert!(is_listed, "{line}\n{}", text.text);
    }
}

async fn status(host: &Host, path: &str) -> u16 {
    Browser::new().get(&host.url(path)).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_guest_version_and_status() {
    let keys =
        "session = \"write\"\nlimits = { deadline = \"2s\" }\nrollback = { enabled = false }";
    let host = Config::over("memory:")
        .guest_with("/f", "fixture-faults", keys)
        .guest("/s", "fixture-session")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    for (path, code) in [
        ("/f", 200),
        ("/f", 200),
        ("/f/trap", 500),
        ("/f/spin", 504),
        ("/nowhere", 404),
    ] {
        assert_eq!(status(&host, path).await, code, "{path}");
    }
    let browser = Browser::new();
    script(&browser, &host, &["set n 1"]).await;
    script(&browser, &host, &["get n"]).await;

    // A guest's instance may still exist for a moment after the last byte of its answer.
    operator
        .wait_for_metric("cloakroom_instances{world=\"wasi:http 0.2\"}", Some(0.0))
        .await;
    assert_metrics(
        &operator,
        &[
            (
                "cloakroom_requests_total{guest=\"fixture-faults0\",status=\"2xx\",version=\"1\"}",
                2.0,
            ),
            (
                "cloakroom_requests_total{guest=\"fixture-faults0\",status=\"5xx\",version=\"1\"}",
                2.0,
            ),
            (
                "cloakroom_requests_total{guest=\"fixture-session1\",status=\"2xx\",version=\"1\"}",
                2.0,
            ),
            (
                "cloakroom_requests_total{guest=\"\",status=\"4xx\",version=\"\"}",
                1.0,
            ),
            (
                "cloakroom_guest_traps_total{guest=\"fixture-faults0\",version=\"1\"}",
                1.0,
            ),
            (
                "cloakroom_guest_deadline_misses_total{guest=\"fixture-faults0\",version=\"1\"}",
                1.0,
            ),
            (
                "cloakroom_guest_traps_total{guest=\"fixture-session1\",version=\"1\"}",
                0.0,
            ),
            (
                "cloakroom_request_duration_seconds_count{guest=\"fixture-faults0\"}",
                4.0,
            ),
            (
                "cloakroom_request_duration_seconds_bucket{guest=\"fixture-faults0\",le=\"1\"}",
                3.0,
            ),
            (
                "cloakroom_instance_wait_seconds_count{guest=\"fixture-faults0\"}",
                4.0,
            ),
            ("cloakroom_session_commits_total", 1.0),
            ("cloakroom_session_loads_total", 1.0),
            ("cloakroom_session_conflicts_total", 0.0),
            ("cloakroom_session_reruns_total", 0.0),
            ("cloakroom_session_reapplies_total", 0.0),
            ("cloakroom_store_duration_seconds_count{call=\"load\"}", 1.0),
            (
                "cloakroom_store_duration_seconds_count{call=\"commit\"}",
                1.0,
            ),
            (
                "cloakroom_store_errors_total{call=\"commit\",kind=\"unavailable\"}",
                0.0,
            ),
            ("cloakroom_store_up", 1.0),
            ("cloakroom_instances_max{world=\"wasi:http 0.2\"}", 1000.0),
            (
                "cloakroom_guest_instances_max{guest=\"fixture-faults0\"}",
                256.0,
            ),
            (
                "cloakroom_guest_instance_waiters{guest=\"fixture-faults0\"}",
                0.0,
            ),
            ("cloakroom_instance_waiters{world=\"wasi:http 0.2\"}", 0.0),
            ("cloakroom_build_info{version=\"0.1.0\"}", 1.0),
            ("cloakroom_ready", 1.0),
        ],
    )
    .await;
    let accepted = operator
        .metric("cloakroom_connections_accepted_total")
        .await;
    assert!(accepted >= Some(6.0), "{accepted:?}");
    let since = operator.metric("cloakroom_serves_since_seconds").await;
    assert!(since > Some(1.7e9), "{since:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_and_reruns_are_counted() {
    let host = Config::over("memory:")
        .guest("/s", "fixture-session")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let browser = Browser::new();
    script(&browser, &host, &["set n 0"]).await;
    let increments = (0..8).map(|_| script(&browser, &host, &["increment n 1", "sleep 30"]));
    futures_util::future::join_all(increments).await;
    assert_eq!(script(&browser, &host, &["get n"]).await, ["8"]);
    for kind in ["conflicts", "reruns"] {
        let series = format!("cloakroom_session_{kind}_total");
        assert!(operator.metric(&series).await > Some(0.0), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_and_rollbacks_are_counted_and_a_versions_series_end_with_it() {
    let host = hello().start();
    let operator = Operator::of(&host);
    let requests = |version: u64| {
        format!(
            "cloakroom_requests_total{{guest=\"{HELLO}\",status=\"2xx\",version=\"{version}\"}}"
        )
    };
    assert_eq!(status(&host, "/").await, 200);
    assert_eq!(operator.put(HELLO, other()).await.status, 201);
    assert_eq!(status(&host, "/").await, 200);
    assert_eq!(
        operator.metric(&requests(1)).await,
        Some(1.0),
        "it is kept for a rollback"
    );
    assert_eq!(operator.roll_back(HELLO).await.status, 200);
    assert_eq!(status(&host, "/").await, 200);
    assert_eq!(
        operator.metric(&requests(1)).await,
        Some(2.0),
        "it goes on where it was"
    );
    operator.wait_for_metric(&requests(2), None).await;
    assert_eq!(operator.put(HELLO, b"no".to_vec()).await.status, 422);
    for _ in 0..3 {
        assert_eq!(operator.put(HELLO, other()).await.status, 201);
        assert_eq!(
            operator.put(HELLO, bytes("fixture-hello")).await.status,
            201
        );
    }
    operator.wait_for_metric(&requests(1), None).await;

    let text = operator.get("/metrics").await.text;
    let versions = text
        .lines()
        .filter(|line| line.starts_with("cloakroom_guest_traps_total{"));
    assert_eq!(
        versions.count(),
        2,
        "the live one and the one before it:\n{text}"
    );
    assert_metrics(
        &operator,
        &[
            (
                &format!("cloakroom_guest_swaps_total{{guest=\"{HELLO}\"}}"),
                7.0,
            ),
            (
                &format!("cloakroom_guest_rollbacks_total{{cause=\"asked\",guest=\"{HELLO}\"}}"),
                1.0,
            ),
            (
                &format!("cloakroom_guest_rollbacks_total{{cause=\"failures\",guest=\"{HELLO}\"}}"),
                0.0,
            ),
            (
                &format!("cloakroom_guest_refusals_total{{guest=\"{HELLO}\"}}"),
                1.0,
            ),
            (
                &format!("cloakroom_guest_live_version{{guest=\"{HELLO}\"}}"),
                9.0,
            ),
        ],
    )
    .await;
}

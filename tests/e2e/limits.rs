//! Every limit of a guest, one test each: a request that exceeds it receives its answer, and the next request succeeds.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cloakroom_tests::admin::Operator;
use cloakroom_tests::browser::{Answer, Browser};
use cloakroom_tests::host::{Config, Host};
use cloakroom_tests::wait::wait_until;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{run_script, script};

/// Longest wait until a guest's only instance is in use.
const INSTANCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Starts a host with one guest under these limits.
fn limited(component: &str, limits: &str) -> Host {
    limited_with(component, limits, "")
}

fn limited_with(component: &str, limits: &str, keys: &str) -> Host {
    let keys = format!("session = \"write\"\n{keys}\nlimits = {{ {limits} }}");
    Config::over("memory:")
        .guest_with("/s", component, &keys)
        .start()
}

async fn get(host: &Host, path: &str) -> Answer {
    Browser::new().get(&host.url(path)).await
}

async fn status(host: &Host, path: &str) -> u16 {
    get(host, path).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_ends_a_guest_that_waits_and_one_that_computes() {
    let host = limited("fixture-faults", "deadline = \"300ms\"");
    assert_eq!(status(&host, "/s/sleep?5000").await, 504);
    assert_eq!(status(&host, "/s/spin").await, 504);
    assert_eq!(status(&host, "/s/sleep?1").await, 200);
    host.wait_for_log("error=\"deadline\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processor_time_ends_a_guest_that_computes_and_none_that_waits() {
    for component in ["fixture-faults", "fixture-faults-service"] {
        let host = limited(component, "deadline = \"20s\", cpu_time = \"100ms\"");
        let start = Instant::now();
        assert_eq!(status(&host, "/s/spin").await, 504, "{component}");
        assert!(start.elapsed() < Duration::from_secs(10), "{component}");
        assert_eq!(status(&host, "/s/sleep?400").await, 200, "{component}");
        host.wait_for_log("error=\"cpu-time\"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processor_time_bounds_a_released_stream_too() {
    let host = limited("fixture-faults", "deadline = \"20s\", cpu_time = \"100ms\"");
    let url = host.url("/s/half-large-spin");
    let cut = Browser::new()
        .try_send(reqwest::Method::GET, &url, "")
        .await;
    assert!(cut.is_err(), "the stream is cut, not ended");
    host.wait_for_log("an answer was cut after its release")
        .await;
    host.wait_for_log("error=\"cpu-time\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_beyond_its_limit_is_refused() {
    let host = limited("fixture-faults", "memory = \"16MiB\"");
    assert_eq!(status(&host, "/s/grow").await, 500);
    let text = get(&host, "/s/grow-politely").await.text;
    let mebibytes: u32 = text.split(' ').next().unwrap().parse().unwrap();
    assert!((1..16).contains(&mebibytes), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_number_of_instances_a_guest_s_requests_wait_and_then_get_503() {
    let host = limited(
        "fixture-faults",
        "instances = 2, waiting = 2, wait = \"300ms\"",
    );
    let answers = join_all((0..8).map(|_| get(&host, "/s/sleep?800"))).await;
    let refused: Vec<_> = answers.iter().filter(|a| a.status != 200).collect();
    assert_eq!(refused.len(), 6, "two run; two wait in vain, four at once");
    for answer in refused {
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
    }
    // Requests that wait no longer than the limit are served.
    let answers = join_all((0..4).map(|_| get(&host, "/s/sleep?100"))).await;
    assert!(answers.iter().all(|a| a.status == 200), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_that_find_no_instance_are_one_warning() {
    let limits = "deadline = \"60s\", instances = 1, waiting = 0";
    let host = limited("fixture-faults", limits);
    let (busy, url) = (host.url("/s/sleep?60000"), host.url("/s/"));
    // The loop below sometimes takes the instance before the holder has it.
    let holder = tokio::spawn(async move {
        let visitor = Browser::new();
        while status_of(&visitor, &busy).await == Some(503) {}
    });
    let browser = Browser::new();
    wait_until("the instance is in use", INSTANCE_WAIT_MAX, async || {
        let status = browser.get(&url).await.status;
        ensure!(status == 503);
        Ok(())
    })
    .await;
    for _ in 0..20 {
        let answers = join_all((0..50).map(|_| browser.get(&url))).await;
        assert!(answers.iter().all(|a| a.status == 503), "{answers:?}");
    }
    // Each request has its line in the access log.
    host.wait_for_log_count("status=503", 1001).await;
    let warnings = host.log_count("a guest gave no answer");
    assert_eq!(warnings, 1, "{}", host.log());
    holder.abort();
}

async fn status_of(visitor: &Browser, url: &str) -> Option<u16> {
    let answer = visitor.try_send(reqwest::Method::GET, url, "").await;
    answer.ok().map(|answer| answer.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_at_its_limit_keeps_no_other_from_an_instance() {
    let host = Config::over("memory:")
        .top("[server]\ninstances = 3\ninstance_waiters = 0")
        .guest_with(
            "/full",
            "fixture-faults",
            "limits = { instances = 2, waiting = 50 }",
        )
        .guest_with("/free", "fixture-faults", "")
        .admin("")
        .start();
    let operator = Operator::of(&host);
    let full = join_all((0..6).map(|_| status(&host, "/full/sleep?300")));
    let free = async {
        operator.wait_for_instances("fixture-faults0", 2).await;
        let mut codes = Vec::new();
        for _ in 0..20 {
            codes.push(status(&host, "/free/").await);
        }
        codes
    };
    let (full, free) = futures_util::future::join(full, free).await;
    assert_eq!(full, [200; 6], "the queue is its own");
    assert_eq!(free, [200; 20], "the third slot of the pool is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_head_beyond_the_guest_s_own_limit_is_431() {
    let host = Config::over("memory:")
        .guest_with(
            "/bytes",
            "fixture-faults",
            "limits = { request_head = \"1KiB\" }",
        )
        .guest_with(
            "/fields",
            "fixture-faults",
            "limits = { request_headers = 5 }",
        )
        .guest_with("/as-all", "fixture-faults", "")
        .start();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, code) in [("/bytes", 431), ("/fields", 431), ("/as-all", 200)] {
        let mut request = client.get(host.url(path));
        for number in 0..10 {
            request = request.header(format!("x-{number}"), "a".repeat(200));
        }
        assert_eq!(request.send().await.unwrap().status(), code, "{path}");
        assert_eq!(status(&host, path).await, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answers_head_beyond_its_limit_is_502_and_the_log_names_the_limit() {
    let host = Config::over("memory:")
        .guest("/s", "fixture-faults")
        .start();
    assert_eq!(status(&host, "/s/header-bytes?30000").await, 200);
    assert_eq!(status(&host, "/s/header-bytes?40000").await, 502);
    host.wait_for_log("error=\"response-head-too-large\"").await;
    assert!(host.log().contains("the limit is 32768"), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_beyond_their_limits_are_refused() {
    let host = limited(
        "fixture-faults",
        "request_body = \"10KiB\", response_body = \"20KiB\"",
    );
    let browser = Browser::new();
    let post = async |bytes: usize| browser.post(&host.url("/s/echo"), vec![b'x'; bytes]).await;
    assert_eq!(post(10 << 10).await.status, 200);
    assert_eq!(post((10 << 10) + 1).await.status, 413);
    assert_eq!(status(&host, "/s/huge?1").await, 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_beyond_the_guest_s_own_limits_is_an_error_in_the_guest() {
    let host = limited(
        "fixture-faults",
        "session_bytes = \"1KiB\", session_keys = 3",
    );
    let text = get(&host, "/s/big-value?2000").await.text;
    assert!(text.starts_with("error too-large 1024"), "{text}");
    assert_eq!(get(&host, "/s/big-value?500").await.text, "ok\n");
    let text = get(&host, "/s/many-keys?10").await.text;
    assert!(text.starts_with("3 keys then error invalid"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_with_small_limits_may_still_make_a_large_session_smaller() {
    let small = "session = \"write\"\nlimits = { session_bytes = \"1KiB\" }";
    let host = Config::over("memory:")
        .guest("/s", "fixture-session")
        .guest_with("/small", "fixture-session", small)
        .start();
    let visitor = Browser::new();
    let large = format!("set a \"{}\"", "v".repeat(3000));
    assert_eq!(script(&visitor, &host, &[&large]).await, ["ok"]);
    let more = visitor.post(&host.url("/small"), "set b 1").await.text;
    assert!(more.starts_with("error too-large 1024"), "{more}");
    let less = visitor.post(&host.url("/small"), "set a 1").await.text;
    assert_eq!(less, "ok\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_beyond_their_limit_are_dropped_and_long_ones_cut() {
    let host = limited("fixture-faults", "log_lines = 3, log_line_bytes = 8");
    get(&host, "/s/log-flood?10").await;
    host.wait_for_log("these were dropped").await;
    let log = host.log();
    assert_eq!(log.matches("[cut]").count(), 3, "{log}");
    assert!(
        log.contains("lines=7") && !log.contains("line 0 of a flood"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_other_servers_beyond_their_limit_are_an_error_in_the_guest() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        for accepted in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0 && accepted <= 2);
            let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let hosts = format!("outbound_hosts = [\"{address}\"]");
    let host = limited_with("fixture-session", "outbound_calls = 2", &hosts);
    let fetch = format!("fetch http://{address}/");
    let lines = script(&Browser::new(), &host, &[fetch.as_str(); 3]).await;
    assert_eq!(lines[..2], ["204", "204"]);
    assert!(lines[2].contains("ConnectionLimitReached"), "{lines:?}");
    assert!(!serve.is_finished(), "the third request was never sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_falls_silent_for_too_long_is_cut() {
    let keys = "stream = true";
    let host = limited_with("fixture-session", "stream_silence = \"300ms\"", keys);
    let quiet = ["head", "sleep 100", "sleep 100"];
    let answer = run_script(&Browser::new(), &host, &quiet).await;
    assert_eq!(answer.text, "ok\nok\nok\n");
    let silent = "head\nsleep 9000\nlog late";
    let start = Instant::now();
    let cut = Browser::new()
        .try_send(reqwest::Method::POST, &host.url("/s"), silent)
        .await;
    assert!(cut.is_err(), "the stream is cut, not ended");
    assert!(start.elapsed() < Duration::from_secs(8));
    host.wait_for_log("stalled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_hosts_limit_are_answered_503_at_once() {
    let host = Config::over("memory:")
        .top("[server]\nrequests = 3")
        .guest_with("/s", "fixture-faults", "")
        .start();
    let start = Instant::now();
    let asked = (0..8).map(|_| async {
        let answer = get(&host, "/s/sleep?3000").await;
        (answer, start.elapsed())
    });
    let answers = join_all(asked).await;
    let refused: Vec<_> = answers.iter().filter(|(a, _)| a.status == 503).collect();
    assert_eq!(refused.len(), 5, "{}", host.log());
    for (answer, took) in refused {
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(*took < Duration::from_millis(2_900), "{took:?}");
    }
    assert_eq!(status(&host, "/s/").await, 200);
    host.wait_for_log("error=\"overloaded\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_few_file_descriptors_serves_under_many_connections() {
    let config = Config::over("memory:").guest("/s", "fixture-faults");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cloakroom.toml");
    std::fs::write(&file, config.text()).unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -n 320; exec \"$0\" serve --config cloakroom.toml",
        ])
        .arg(cloakroom_tests::host::binary())
        .env("COOKIE_SECRET", cloakroom_tests::host::SECRET)
        .current_dir(directory.path());
    let host = Host::spawn(command, directory);
    let connect = (0..400).map(|_| tokio::net::TcpStream::connect(host.address()));
    let connections: Vec<_> = join_all(connect).await;
    assert!(
        connections.iter().all(Result::is_ok),
        "the system's queue has room"
    );
    // The host closes connections without a request, so it does not run out of descriptors.
    assert_eq!(status(&host, "/s/").await, 200);
    assert_eq!(host.log_count("accepting a connection failed"), 0);
    drop(connections);
}

//! A version that fails too often is rolled back automatically, under load. A canary first serves only a few visitors.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host, component};
use cloakroom_tests::versions::{answer, hello};
use cloakroom_tests::wait::pause;

const CLIENTS: usize = 6;

/// Requests alternately a page that succeeds and a page that traps in the bad version, until `is_over`.
async fn client(url: String, is_over: Arc<AtomicBool>, failed: Arc<AtomicUsize>) {
    let browser = Browser::new();
    while !is_over.load(Ordering::Relaxed) {
        for page in ["/well", "/trap"] {
            let answer = browser.get(&format!("{url}{page}")).await;
            if answer.status != 200 {
                assert_eq!((page, answer.status), ("/trap", 500), "{}", answer.text);
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Returns the log lines about versions, without those about single requests.
fn story(host: &Host) -> Vec<String> {
    let log = host.log();
    let of_versions = |line: &&str| {
        line.contains("a version")
            || line.contains("version is live")
            || line.contains("of an old version")
    };
    log.lines().filter(of_versions).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_traps_on_every_second_request_is_rolled_back_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let (file, new) = (folder.path().join("x.wasm"), folder.path().join("new"));
    fs::write(&file, hello(1)).unwrap();
    let host = Config::over("memory:")
        .top("log = { level = \"info,cloakroom::access=off\" }")
        .guest_at("/", "x", &file, "")
        .start();
    let (is_over, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(client(
                host.url(""),
                Arc::clone(&is_over),
                Arc::clone(&failed),
            ))
        })
        .collect();

    fs::copy(component("fixture-faults"), &new).unwrap();
    fs::rename(&new, &file).unwrap();
    host.wait_for_log("an earlier version is live again").await;
    let settled = Instant::now() + Duration::from_secs(1);
    host.wait_for_log("the last request of an old version has ended")
        .await;
    let left = settled.saturating_duration_since(Instant::now());
    pause(left, "the last answers of the bad version arrive").await;
    let failed_until_then = failed.load(Ordering::Relaxed);
    pause(Duration::from_secs(1), "no further request fails").await;
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let failed_at_all = failed.load(Ordering::Relaxed);
    println!("{failed_at_all} requests met the bad version's traps");
    assert!(failed_at_all > 0, "the bad version served for a moment");
    assert_eq!(
        failed_at_all, failed_until_then,
        "none a second after it was taken back"
    );
    let browser = Browser::new();
    assert_eq!(browser.get(&host.url("/trap")).await.text, answer(1));

    // The operator's view of the events, in order: deployed, failing, rolled back.
    let story = story(&host);
    let lines = [
        "a version is live",
        "fails too often: rolling it back",
        "an earlier version is live again",
    ];
    let places: Vec<_> = lines
        .iter()
        .map(|text| story.iter().rposition(|line| line.contains(text)))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{story:#?}"
    );
    let reason = &story[places[1].unwrap()];
    assert!(
        reason.contains("version=2") && reason.contains("trapped"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_serves_the_same_visitors_throughout_and_then_all() {
    let folder = tempfile::tempdir().unwrap();
    let (file, new) = (folder.path().join("x.wasm"), folder.path().join("new"));
    fs::copy(component("counter"), &file).unwrap();
    let keys = "session = \"write\"\ncanary = { share = \"50%\", duration = \"4s\" }";
    let host = Config::over("memory:")
        .guest_at("/", "x", &file, keys)
        .start();
    let visitors: Vec<Browser> = (0..24).map(|_| Browser::new()).collect();
    for visitor in &visitors {
        visitor.get(&host.url("/session")).await;
    }
    fs::write(&new, cloakroom_tests::versions::counter('회')).unwrap();
    fs::rename(&new, &file).unwrap();
    host.wait_for_log("a canary serves its share").await;

    let is_canary = async |visitor: &Browser| {
        let answer = visitor.get(&host.url("/session")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.contains('회')
    };
    let mut first = Vec::new();
    for visitor in &visitors {
        first.push(is_canary(visitor).await);
    }
    for _ in 0..3 {
        for (visitor, first) in visitors.iter().zip(&first) {
            assert_eq!(is_canary(visitor).await, *first, "a visitor changed sides");
        }
    }
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");

    host.wait_for_log("replaced=1").await;
    for visitor in &visitors {
        assert!(is_canary(visitor).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_ends_when_the_live_component_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, new) = (folder.path().join("x.wasm"), folder.path().join("new"));
    let put = |bytes: Vec<u8>| {
        fs::write(&new, bytes).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    put(hello(1));
    let keys = "canary = { share = \"50%\", duration = \"1h\" }";
    let host = Config::over("memory:")
        .guest_at("/", "x", &file, keys)
        .start();
    put(hello(2));
    host.wait_for_log("a canary serves its share").await;

    put(hello(1));

    host.wait_for_log("the canary has ended").await;
    let answered = Browser::new().get(&host.url("/")).await.text;
    assert_eq!(answered, answer(1));
}

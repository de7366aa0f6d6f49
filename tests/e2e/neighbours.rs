//! Noisy neighbours: what guests that take all they can leave to the others.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cloakroom_tests::browser::Browser;
use cloakroom_tests::host::{Config, Host};
use futures_util::future::{join, join_all};

/// Endless loops at once.
const LOOPS: usize = 100;
/// How long the counter is counted, alone and in company.
const WINDOW: Duration = Duration::from_secs(3);
const DEADLINE_MS: f64 = 1000.0;

/// What visitors of the counter get done in the window.
async fn counter_rate(host: &Host) -> f64 {
    let (count, start) = (AtomicU32::new(0), Instant::now());
    let visitors = (0..8).map(|_| async {
        let visitor = Browser::new();
        while start.elapsed() < WINDOW {
            let answer = visitor.get(&host.url("/session")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    join_all(visitors).await;
    f64::from(count.into_inner()) / start.elapsed().as_secs_f64()
}

/// Keeps so many loops going until told to stop.
async fn loops(host: &Host, stop: &AtomicBool) {
    let loops = (0..LOOPS).map(|_| async {
        let visitor = Browser::new();
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(visitor.get(&host.url("/noise/spin")).await.status, 504);
        }
    });
    join_all(loops).await;
}

/// How long the host says that its answers with this status took, in milliseconds.
fn durations(host: &Host, status: &str) -> Vec<f64> {
    let duration = |line: &str| {
        let (_, rest) = line.split_once("duration_ms=")?;
        rest.split(' ').next()?.parse().ok()
    };
    let log = host.log();
    let lines = log.lines().filter(|line| line.contains(status));
    let mut durations: Vec<f64> = lines.filter_map(duration).collect();
    durations.sort_unstable_by(f64::total_cmp);
    durations
}

async fn noisy(component: &str) {
    let limits = "session = \"none\"\nlimits = { deadline = \"1s\" }";
    let host = Config::over("memory:")
        .guest("/session", "counter")
        .guest_with("/noise", component, limits)
        .start();
    let alone = counter_rate(&host).await;
    let stop = AtomicBool::new(false);
    let count = async {
        // Once all loops run.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let rate = counter_rate(&host).await;
        stop.store(true, Ordering::Relaxed);
        rate
    };
    let (beside, ()) = join(count, loops(&host, &stop)).await;
    let took = durations(&host, "status=504");
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let share = beside / alone;
    eprintln!(
        "{component}: the counter {alone:.0}/s alone, {beside:.0}/s beside {LOOPS} loops ({:.0} %); \
         {} loops ended after {median:.1} ms (median), {longest:.1} ms (longest)",
        share * 100.0,
        took.len()
    );
    assert!(share >= 0.4, "the counter kept {share:.2} of its rate");
    assert!(took.len() >= 2 * LOOPS, "{} loops ended", took.len());
    assert!(took[0] >= DEADLINE_MS, "no loop ends early: {}", took[0]);
    assert!(
        longest <= DEADLINE_MS + 20.0,
        "a loop ended {longest:.1} ms after its start"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_endless_loops_end_in_time_and_leave_the_counter_its_share() {
    noisy("fixture-faults").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_endless_loops_of_the_newer_world_do_so_too() {
    noisy("fixture-faults-service").await;
}

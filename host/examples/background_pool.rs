//! Measures what a short guest gets beside guests that compute without end, with the background pool and without it:
//! `make guests-rust && cargo run --release -p cloakroom --example background_pool -- [LOOPS] [SECONDS] [ROUNDS]`.
//!
//! Eight clients call `fixture-hello` as fast as they can while `LOOPS` requests run the endless loop of `fixture-faults`, each until
//! its deadline. Without the pool, all guests take turns on the serving threads. The two alternate for some rounds. HTTP, sessions and
//! a store are not involved.
#![allow(
    clippy::print_stdout,
    reason = "it is a measurement: its output is its purpose"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use cloakroom_runtime::{
    Guest, GuestFailure, GuestRequest, GuestSettings, Invocation, ReplayBody, Runtime,
    RuntimeOptions,
};
use cloakroom_session::{Attempt as _, Session};
use http_body_util::{BodyExt as _, Empty};
use tokio::task::JoinSet;

const CLIENTS: usize = 8;
/// The deadline of each request. An endless loop runs that long.
const DEADLINE: Duration = Duration::from_secs(1);
/// A run never computes for this long, so it never moves to the pool.
const NEVER: Duration = Duration::from_secs(3600);

/// What one round measured.
struct Round {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// By how much the loops exceeded their deadline, in the median.
    late: Duration,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut number = |default: u32| words.next().map_or(Ok(default), |word| word.parse());
    let (loops, seconds, rounds) = (number(100)?, number(5)?, number(3)?);
    let window = Duration::from_secs(seconds.into());
    for round in 1..=rounds {
        for (name, after) in [
            ("pool", RuntimeOptions::default().background_after),
            ("no pool", NEVER),
        ] {
            let alone = measure(after, 0, window)?;
            let beside = measure(after, loops, window)?;
            println!(
                "round {round}, {name:>7}: alone {:6.0}/s, p99 {:.2?}; beside {loops} loops {:6.0}/s ({:.0} %), p50 {:.2?}, p99 {:.2?}; \
                 loops end {:.2?} late",
                alone.per_second,
                alone.p99,
                beside.per_second,
                100.0 * beside.per_second / alone.per_second,
                beside.p50,
                beside.p99,
                beside.late
            );
        }
    }
    Ok(())
}

/// Measures with a tokio runtime and a runtime of guests of its own, so that no round inherits a history.
fn measure(background_after: Duration, loops: u32, window: Duration) -> Result<Round> {
    let runtime = Runtime::new(&RuntimeOptions {
        background_after,
        ..RuntimeOptions::default()
    })
    .map_err(|error| anyhow!("{error:#}"))?;
    let load = |name: &str| -> Result<Arc<Guest>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
        let mut settings = GuestSettings::new(name, folder.join(format!("{name}.wasm")));
        settings.limits.deadline = DEADLINE;
        settings.limits.instances_max = 1000;
        Ok(Arc::new(
            runtime.load(settings).map_err(|error| anyhow!("{error}"))?,
        ))
    };
    let (short, endless) = (load("fixture-hello")?, load("fixture-faults")?);
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    tokio.block_on(clients(short, endless, loops, window))
}

async fn clients(
    short: Arc<Guest>,
    endless: Arc<Guest>,
    loops: u32,
    window: Duration,
) -> Result<Round> {
    let end = Instant::now() + window;
    let mut spinning = JoinSet::new();
    for _ in 0..loops {
        let endless = Arc::clone(&endless);
        spinning.spawn(async move {
            let mut late = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                let failed = call(&endless, "/spin").await.err();
                ensure!(
                    matches!(failed, Some(GuestFailure::Deadline { .. })),
                    "the loop ended with {failed:?}"
                );
                late.push(start.elapsed().saturating_sub(DEADLINE));
            }
            Ok(late)
        });
    }
    let mut calling = JoinSet::new();
    for _ in 0..CLIENTS {
        let short = Arc::clone(&short);
        calling.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                call(&short, "/")
                    .await
                    .map_err(|error| anyhow!("{error}"))?;
                took.push(start.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut took = collect(calling).await?;
    let mut late = collect(spinning).await?;
    took.sort_unstable();
    late.sort_unstable();
    Ok(Round {
        per_second: took.len() as f64 / window.as_secs_f64(),
        p50: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
        late: late.get(late.len() / 2).copied().unwrap_or_default(),
    })
}

async fn collect(mut tasks: JoinSet<Result<Vec<Duration>>>) -> Result<Vec<Duration>> {
    let mut all = Vec::new();
    while let Some(durations) = tasks.join_next().await {
        all.extend(durations.context("a client panicked")??);
    }
    Ok(all)
}

/// Runs the guest once and reads its response.
async fn call(guest: &Arc<Guest>, target: &str) -> std::result::Result<(), GuestFailure> {
    let head = http::Request::get(target)
        .header("host", "example.test")
        .body(())
        .expect("a valid request");
    let limits = guest.limits();
    let request = GuestRequest {
        head: head.into_parts().0,
        scheme: http::uri::Scheme::HTTP,
        body: ReplayBody::new(Empty::new(), 0, limits.replay_bytes_max),
        services: None,
        request_id: "measure".into(),
        deadline: (Instant::now() + DEADLINE).into(),
        reservation: None,
    };
    let released = Invocation::new(Arc::clone(guest), request)
        .run(Session::none(), 1)
        .await?;
    released.body.collect().await?;
    Ok(())
}

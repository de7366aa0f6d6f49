//! The reaper on a store that first fails and then works, with a manual clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::record::SessionId;
use crate::store::layer;
use crate::store::memory::MemoryStore;
use crate::store::{StoreErrorKind, StoreFuture};

/// The arguments and the result of one reap call.
#[derive(Debug, PartialEq)]
struct Call {
    now_s: i64,
    rows_max: usize,
    reaped: Option<usize>,
}

/// A memory store whose first reaps fail, and that reports each reap call.
#[derive(Debug)]
struct FlakyStore {
    memory: MemoryStore,
    failures_left: AtomicUsize,
    calls: mpsc::UnboundedSender<Call>,
}

impl layer::StoreLayer for FlakyStore {
    fn inner(&self) -> &dyn SessionStore {
        &self.memory
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            let fails = self
                .failures_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
            let result = if fails {
                Err(StoreError {
                    kind: StoreErrorKind::Unavailable,
                    detail: "not now".into(),
                })
            } else {
                self.memory.reap(now_s, rows_max).await
            };
            let _ = self.calls.send(Call {
                now_s,
                rows_max,
                reaped: result.as_ref().ok().copied(),
            });
            result
        })
    }
}

struct Fixture {
    store: Arc<FlakyStore>,
    clock: Clock,
    calls: mpsc::UnboundedReceiver<Call>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Fixture {
    /// Starts a reaper with three rows per statement at second 1,000, over this many expired rows and one valid row.
    fn start(expired_count: usize, failure_count: usize) -> Self {
        let (calls, called) = mpsc::unbounded_channel();
        let memory = MemoryStore::new();
        for n in 0..expired_count {
            let age_s = i64::try_from(n).unwrap() + 1;
            memory.overwrite(&SessionId::generate(), Bytes::new(), 1_000 - age_s);
        }
        memory.overwrite(&SessionId::generate(), Bytes::new(), 1_000);
        let store = Arc::new(FlakyStore {
            memory,
            failures_left: AtomicUsize::new(failure_count),
            calls,
        });
        let clock = Clock::manual(1_000_000);
        let options = ReaperOptions {
            interval: Duration::from_millis(5),
            first_delay_max: Duration::from_millis(1),
            batch_rows_max: 3,
        };
        let shutdown = CancellationToken::new();
        let reaper = run(store.clone(), clock.clone(), options, shutdown.clone());
        Self {
            store,
            clock,
            calls: called,
            shutdown,
            task: tokio::spawn(reaper),
        }
    }

    async fn next_reaped(&mut self) -> Option<usize> {
        self.calls.recv().await.expect("the reaper runs").reaped
    }
}

#[tokio::test]
async fn the_reaper_repeats_batches_until_one_is_not_full() {
    let mut fixture = Fixture::start(7, 0);

    let reaped = [
        fixture.next_reaped().await,
        fixture.next_reaped().await,
        fixture.next_reaped().await,
    ];

    assert_eq!(reaped, [Some(3), Some(3), Some(1)]);
    assert_eq!(fixture.store.memory.row_count(), 1, "the valid row stays");
}

#[tokio::test]
async fn the_next_reaper_run_deletes_rows_that_have_expired_since() {
    let mut fixture = Fixture::start(0, 0);
    assert_eq!(fixture.next_reaped().await, Some(0));

    fixture.clock.advance(1_000);

    while fixture.next_reaped().await != Some(1) {}
    assert_eq!(fixture.store.memory.row_count(), 0);
}

#[tokio::test]
async fn a_store_that_fails_is_tried_until_it_works() {
    let mut fixture = Fixture::start(2, 3);

    let mut reaped = Vec::new();
    for _ in 0..4 {
        reaped.push(fixture.next_reaped().await);
    }

    assert_eq!(reaped, [None, None, None, Some(2)]);
    assert_eq!(fixture.store.memory.row_count(), 1);
}

#[tokio::test]
async fn shutdown_ends_the_task() {
    let mut fixture = Fixture::start(1, 0);
    assert_eq!(fixture.next_reaped().await, Some(1));

    fixture.shutdown.cancel();

    fixture.task.await.expect("the reaper ends without a panic");
}

#[test]
fn jitter_stays_within_a_tenth_and_spreads() {
    let delay = Duration::from_secs(100);
    let delays: Vec<_> = (0..1_000).map(|_| jittered(delay)).collect();
    let within = Duration::from_secs(90)..=Duration::from_secs(110);
    assert!(delays.iter().all(|delay| within.contains(delay)));
    let (low, high) = (delays.iter().min(), delays.iter().max());
    assert!(low < Some(&Duration::from_secs(95)) && high > Some(&Duration::from_secs(105)));
}

#[test]
fn the_start_and_the_end_of_reaper_failures_are_reported_once() {
    let mut rhythm = ReaperSchedule::new(Duration::from_secs(60));

    assert_eq!(rhythm.after_success(), ReaperNews::Nothing);
    assert_eq!(rhythm.after_failure(), ReaperNews::TroubleBegan);
    assert_eq!(rhythm.after_failure(), ReaperNews::Nothing);
    assert_eq!(rhythm.after_failure(), ReaperNews::Nothing);
    assert_eq!(
        rhythm.after_success(),
        ReaperNews::TroubleOver { failures: 3 }
    );
    assert_eq!(rhythm.after_success(), ReaperNews::Nothing);
}

#[test]
fn retries_come_ever_more_slowly_but_once_per_interval() {
    let mut rhythm = ReaperSchedule::new(Duration::from_secs(5));
    assert_eq!(rhythm.delay(), Duration::from_secs(5));

    let mut delays_s = Vec::new();
    for _ in 0..100 {
        rhythm.after_failure();
        delays_s.push(rhythm.delay().as_secs());
    }

    assert_eq!(delays_s[..5], [1, 2, 4, 5, 5]);
    assert_eq!(delays_s[99], 5);
    rhythm.after_success();
    assert_eq!(rhythm.delay(), Duration::from_secs(5));
}

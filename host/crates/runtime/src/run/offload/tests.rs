//! Tests where work computes and which result it returns. A few lines replace the work of a real guest.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::yield_now;

use super::*;
use crate::interfaces::log::LineAllowance;
use crate::run::background::thread_cpu_time;
use crate::run::concurrency::{ConcurrencyLimit, ConcurrencyLimits};
use crate::settings::GuestLimits;
use cloakroom_base::limits::LANE_THRESHOLD;
use cloakroom_base::telemetry::metrics::GuestMetrics;

/// A background pool, and a concurrency limit of one slot.
struct Bench {
    lane: Arc<BackgroundPool>,
    habit: Arc<SlowHistory>,
    gates: ConcurrencyLimits,
}

impl Bench {
    fn new() -> Self {
        let gate = || Arc::new(ConcurrencyLimit::new(1, 1, Duration::from_secs(10)));
        Self {
            lane: Arc::new(BackgroundPool::start(LANE_THRESHOLD).unwrap()),
            habit: Arc::default(),
            gates: ConcurrencyLimits::new(gate(), gate()),
        }
    }

    fn terms(&self) -> OffloadTerms {
        OffloadTerms {
            lane: Arc::clone(&self.lane),
            habit: Arc::clone(&self.habit),
            guest: "guest".into(),
            source: ClientConnection::default(),
            computed: Duration::ZERO,
            cpu_time: None,
            has_answered: HeadSet::default(),
            log: GuestLog::new(
                "guest".into(),
                "request".into(),
                1,
                &GuestLimits::default(),
                LineAllowance::new(1 << 20, GuestMetrics::new("guest", [])),
            ),
        }
    }

    async fn permit(&self) -> InstancePermit {
        let soon = Instant::now() + Duration::from_secs(10);
        self.gates.enter(Some(soon), None).await.unwrap()
    }

    async fn start<F>(&self, work: F, terms: OffloadTerms) -> OffloadableWork
    where
        F: Future<Output = Result<(), GuestFailure>> + Send + 'static,
    {
        let work = async { work.await.map(|()| None) };
        OffloadableWork::new(Box::pin(work), self.permit().await, terms)
    }

    async fn run<F>(&self, work: F, terms: OffloadTerms) -> Result<(), GuestFailure>
    where
        F: Future<Output = Result<(), GuestFailure>> + Send + 'static,
    {
        let mut computing = self.start(work, terms).await;
        let done = poll_fn(|cx| computing.poll(cx)).await;
        done.map(|instance| assert!(instance.is_none()))
    }
}

/// Computes for this many milliseconds, with one turn per millisecond.
async fn burn(milliseconds: u32) {
    for _ in 0..milliseconds {
        let turn = thread_cpu_time() + Duration::from_millis(1);
        while thread_cpu_time() < turn {}
        yield_now().await;
    }
}

fn is_in_lane() -> bool {
    let name = std::thread::current().name().map(str::to_owned);
    name.is_some_and(|name| name.starts_with("guest-lane"))
}

#[tokio::test]
async fn short_work_never_sees_the_lane() {
    // The threshold is in wall time. On a busy machine another process can stretch 1 ms of work beyond it. Such a run proves nothing and is
    // repeated.
    loop {
        let bench = Bench::new();
        let started = Instant::now();
        let (told, in_lane) = std::sync::mpsc::channel();
        let work = async move {
            burn(1).await;
            told.send(is_in_lane()).unwrap();
            Ok(())
        };
        assert_eq!(bench.run(work, bench.terms()).await, Ok(()));
        let in_lane = in_lane.recv().unwrap();
        if started.elapsed() < LANE_THRESHOLD {
            assert!(!in_lane);
            return;
        }
    }
}

#[tokio::test]
async fn long_work_goes_on_in_the_lane_and_comes_back_when_it_has_waited() {
    let bench = Bench::new();
    let work = async {
        burn(10).await;
        assert!(is_in_lane());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!is_in_lane());
        burn(10).await;
        assert!(is_in_lane());
        Ok(())
    };
    assert_eq!(bench.run(work, bench.terms()).await, Ok(()));
}

#[tokio::test]
async fn processor_time_counts_over_all_runs_of_a_request() {
    let bench = Bench::new();
    for earlier in [0, 45] {
        let cpu_time = Duration::from_millis(50);
        let terms = OffloadTerms {
            cpu_time: Some(cpu_time),
            computed: Duration::from_millis(earlier),
            ..bench.terms()
        };
        let before = Arc::new(AtomicUsize::new(0));
        let turns = Arc::clone(&before);
        let work = async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                burn(1).await;
            }
        };
        let ended = bench.run(work, terms).await;
        assert_eq!(ended, Err(GuestFailure::CpuTime { cpu_time }));
        let turns = before.load(Ordering::Relaxed);
        assert!(turns <= 51 - earlier as usize, "{turns} after {earlier}");
    }
}

#[tokio::test]
async fn a_panic_in_the_lane_is_the_requests_own() {
    let bench = Bench::new();
    let work = async {
        burn(10).await;
        panic!("in the lane: {}", is_in_lane());
    };
    let computing = bench.start(work, bench.terms()).await;
    let request = tokio::spawn(async move {
        let mut computing = computing;
        poll_fn(|cx| computing.poll(cx)).await
    });
    let panic = request.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "in the lane: true");
    // All threads of the pool still exist, and the slot is free.
    let again = async {
        burn(10).await;
        Ok(())
    };
    assert_eq!(bench.run(again, bench.terms()).await, Ok(()));
}

#[tokio::test]
async fn behind_its_answer_work_takes_one_turn_for_each_time_it_is_asked() {
    let bench = Bench::new();
    let terms = bench.terms();
    let has_answered = terms.has_answered.clone();
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let work = async move {
        burn(10).await;
        has_answered.set();
        loop {
            counted.fetch_add(1, Ordering::SeqCst);
            burn(1).await;
        }
    };
    let mut computing = bench.start(work, terms).await;
    poll_fn(|cx| {
        let _ = computing.poll(cx);
        match turns.load(Ordering::SeqCst) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
    while computing.is_at_its_turn() {
        yield_now().await;
    }
    let before = turns.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(turns.load(Ordering::SeqCst), before, "nobody asked");
}

#[tokio::test]
async fn work_that_is_dropped_at_its_turn_gives_its_slot_back() {
    let bench = Bench::new();
    let work = async {
        loop {
            burn(1).await;
        }
    };
    let mut computing = bench.start(work, bench.terms()).await;
    let polling = poll_fn(|cx| computing.poll(cx));
    let ended = tokio::time::timeout(Duration::from_millis(50), polling).await;
    assert!(ended.is_err());
    drop(computing);
    bench.permit().await;
}

#[tokio::test]
async fn who_is_always_slow_starts_in_the_lane_until_it_is_quick_again() {
    let bench = Bench::new();
    let work = |milliseconds, begins_in_lane: bool| async move {
        assert_eq!(is_in_lane(), begins_in_lane);
        burn(milliseconds).await;
        Ok(())
    };
    for _ in 0..4 {
        assert_eq!(bench.run(work(10, false), bench.terms()).await, Ok(()));
    }
    for begins_in_lane in [true, false] {
        let quick = work(0, begins_in_lane);
        assert_eq!(bench.run(quick, bench.terms()).await, Ok(()));
    }
}

//! Tests where work computes and which result it returns. A few lines replace the work of a real guest.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::yield_now;

use super::*;
use crate::interfaces::log::LineAllowance;
use crate::run::background::thread_cpu_time;
use crate::run::concurrency::{ConcurrencyLimit, ConcurrencyLimits};
use crate::settings::GuestLimits;
use cloakroom_base::limits::BACKGROUND_THRESHOLD;
use cloakroom_base::telemetry::metrics::GuestMetrics;

/// A background pool, and a concurrency limit of one slot.
struct Fixture {
    background: Arc<BackgroundPool>,
    slow_history: Arc<SlowHistory>,
    concurrency_limits: ConcurrencyLimits,
}

impl Fixture {
    fn new() -> Self {
        let limit = || Arc::new(ConcurrencyLimit::new(1, 1, Duration::from_secs(10)));
        Self {
            background: Arc::new(BackgroundPool::start(BACKGROUND_THRESHOLD).unwrap()),
            slow_history: Arc::default(),
            concurrency_limits: ConcurrencyLimits::new(limit(), limit()),
        }
    }

    fn terms(&self) -> OffloadTerms {
        OffloadTerms {
            background: Arc::clone(&self.background),
            slow_history: Arc::clone(&self.slow_history),
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
        self.concurrency_limits
            .enter(Some(soon), None)
            .await
            .unwrap()
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

fn is_in_background() -> bool {
    let name = std::thread::current().name().map(str::to_owned);
    name.is_some_and(|name| name.starts_with("guest-bg"))
}

#[tokio::test]
async fn short_work_never_runs_in_the_background_pool() {
    // The threshold is in wall time. On a busy machine another process can stretch 1 ms of work beyond it. Such a run proves nothing and is
    // repeated.
    loop {
        let fixture = Fixture::new();
        let started = Instant::now();
        let (sender, in_background) = std::sync::mpsc::channel();
        let work = async move {
            burn(1).await;
            sender.send(is_in_background()).unwrap();
            Ok(())
        };
        assert_eq!(fixture.run(work, fixture.terms()).await, Ok(()));
        let in_background = in_background.recv().unwrap();
        if started.elapsed() < BACKGROUND_THRESHOLD {
            assert!(!in_background);
            return;
        }
    }
}

#[tokio::test]
async fn long_work_moves_to_the_background_pool_and_back_after_a_wait() {
    let fixture = Fixture::new();
    let work = async {
        burn(10).await;
        assert!(is_in_background());
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!is_in_background());
        burn(10).await;
        assert!(is_in_background());
        Ok(())
    };
    assert_eq!(fixture.run(work, fixture.terms()).await, Ok(()));
}

#[tokio::test]
async fn processor_time_counts_over_all_runs_of_a_request() {
    let fixture = Fixture::new();
    for earlier in [0, 45] {
        let cpu_time = Duration::from_millis(50);
        let terms = OffloadTerms {
            cpu_time: Some(cpu_time),
            computed: Duration::from_millis(earlier),
            ..fixture.terms()
        };
        let before = Arc::new(AtomicUsize::new(0));
        let turns = Arc::clone(&before);
        let work = async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                burn(1).await;
            }
        };
        let ended = fixture.run(work, terms).await;
        assert_eq!(ended, Err(GuestFailure::CpuTime { cpu_time }));
        let turns = before.load(Ordering::Relaxed);
        assert!(turns <= 51 - earlier as usize, "{turns} after {earlier}");
    }
}

#[tokio::test]
async fn a_panic_in_the_background_pool_affects_only_its_request() {
    let fixture = Fixture::new();
    let work = async {
        burn(10).await;
        panic!("in the background: {}", is_in_background());
    };
    let computing = fixture.start(work, fixture.terms()).await;
    let request = tokio::spawn(async move {
        let mut computing = computing;
        poll_fn(|cx| computing.poll(cx)).await
    });
    let panic = request.await.unwrap_err().into_panic();
    assert_eq!(
        panic.downcast_ref::<String>().unwrap(),
        "in the background: true"
    );
    // All threads of the pool still exist, and the slot is free.
    let again = async {
        burn(10).await;
        Ok(())
    };
    assert_eq!(fixture.run(again, fixture.terms()).await, Ok(()));
}

#[tokio::test]
async fn after_its_response_background_work_takes_one_turn_per_poll() {
    let fixture = Fixture::new();
    let terms = fixture.terms();
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
    let mut computing = fixture.start(work, terms).await;
    poll_fn(|cx| {
        let _ = computing.poll(cx);
        match turns.load(Ordering::SeqCst) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
    while computing.is_runnable() {
        yield_now().await;
    }
    let before = turns.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(turns.load(Ordering::SeqCst), before, "nobody asked");
}

#[tokio::test]
async fn work_dropped_in_the_background_pool_releases_its_slot() {
    let fixture = Fixture::new();
    let work = async {
        loop {
            burn(1).await;
        }
    };
    let mut computing = fixture.start(work, fixture.terms()).await;
    let polling = poll_fn(|cx| computing.poll(cx));
    let ended = tokio::time::timeout(Duration::from_millis(50), polling).await;
    assert!(ended.is_err());
    drop(computing);
    fixture.permit().await;
}

#[tokio::test]
async fn a_guest_that_is_usually_slow_starts_in_the_background_pool() {
    let fixture = Fixture::new();
    let work = |milliseconds, starts_in_background: bool| async move {
        assert_eq!(is_in_background(), starts_in_background);
        burn(milliseconds).await;
        Ok(())
    };
    for _ in 0..4 {
        assert_eq!(fixture.run(work(10, false), fixture.terms()).await, Ok(()));
    }
    for starts_in_background in [true, false] {
        let quick = work(0, starts_in_background);
        assert_eq!(fixture.run(quick, fixture.terms()).await, Ok(()));
    }
}

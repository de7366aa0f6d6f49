//! Many concurrent requests of one session: no update is lost, and the cost in runs and store calls is bounded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Barrier;

use super::super::{
    SessionManager, SessionOptions, TransactionOutcome, TransactionRefusal, VisitStart,
};
use super::fixture::SessionFixture;
use super::guest::{Trap, answered, guest, refused};
use super::stubborn::Asked;
use crate::record::SessionId;

/// When the requests of a burst arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arrival {
    /// All requests have read the same row before the first of them writes.
    Together,
    /// The n-th request arrives after n yields.
    Staggered,
}

/// Increments the number with `get` and `set`, and returns the number that was written.
fn bump(
    fixture: &SessionFixture,
    manager: &Arc<SessionManager>,
    id: &SessionId,
    (place, arrival): (usize, Arrival),
    barrier: Arc<Barrier>,
) -> tokio::task::JoinHandle<i64> {
    let (manager, visit) = (Arc::clone(manager), fixture.visit(Some(id)));
    tokio::spawn(async move {
        if arrival == Arrival::Staggered {
            for _ in 0..place {
                tokio::task::yield_now().await;
            }
        }
        let mut guest = guest(|session, number| {
            let barrier = Arc::clone(&barrier);
            async move {
                let read = session.get("n").await?.ok_or(Trap::OfItself)?;
                if number == 1 && arrival == Arrival::Together {
                    barrier.wait().await;
                }
                let next = read.parse::<i64>().expect("a number") + 1;
                session.set("n", &next.to_string()).await?;
                Ok(next)
            }
        });
        answered(manager.transact(visit, &mut guest).await).0
    })
}

/// Runs a burst of `writers` on each of `managers`. No update is lost, and each number is written once.
async fn burst(
    fixture: &SessionFixture,
    managers: &[Arc<SessionManager>],
    writers: usize,
    arrival: Arrival,
) {
    let id = fixture.make(None, &[("n", "0")]);
    let barrier = Arc::new(Barrier::new(writers * managers.len()));
    let mut tasks = Vec::new();
    for place in 0..writers {
        for manager in managers {
            let at = (place, arrival);
            tasks.push(bump(fixture, manager, &id, at, Arc::clone(&barrier)));
        }
    }
    let mut numbers = Vec::new();
    for task in tasks {
        numbers.push(task.await.expect("no panic"));
    }
    numbers.sort_unstable();
    let all = writers * managers.len();
    let expected: Vec<i64> = (1..=all as i64).collect();
    assert_eq!(numbers, expected, "each number is answered once");
    let stored = fixture.entry(&id, "n").await;
    assert_eq!(stored, Some(all.to_string()), "no update is lost");
}

/// Checks the cost of bursts of all sizes, on a store whose calls yield `pauses` times.
async fn check_price(arrival: Arrival, pauses: usize) {
    for writers in [1, 2, 3, 8, 32, 64] {
        let fixture = SessionFixture::new();
        fixture.store.pauses.store(pauses, Ordering::Relaxed);
        burst(
            &fixture,
            std::slice::from_ref(&fixture.manager),
            writers,
            arrival,
        )
        .await;
        let runs = fixture.counters().runs.get();
        let most = 2 * writers as u64 - 1;
        assert!(
            runs <= most,
            "{writers} writers, {arrival:?}, {pauses} pauses: {runs} runs"
        );
        if arrival == Arrival::Together {
            assert_eq!(runs, most, "all but the first had read what it changed");
        }
        assert_eq!(fixture.counters().commits.get(), writers as u64);
    }
}

#[tokio::test]
async fn a_burst_of_n_writers_costs_at_most_2n_minus_1_runs() {
    for pauses in [0, 1, 3, 10] {
        check_price(Arrival::Together, pauses).await;
        check_price(Arrival::Staggered, pauses).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_on_several_threads_costs_no_more() {
    for pauses in [0, 2] {
        for _ in 0..5 {
            check_price(Arrival::Together, pauses).await;
            check_price(Arrival::Staggered, pauses).await;
        }
    }
}

#[tokio::test]
async fn a_burst_over_two_processes_loses_nothing() {
    for arrival in [Arrival::Together, Arrival::Staggered] {
        let fixture = SessionFixture::new();
        fixture.store.pauses.store(2, Ordering::Relaxed);
        let managers = [Arc::clone(&fixture.manager), fixture.another_manager()];
        burst(&fixture, &managers, 8, arrival).await;
    }
}

#[tokio::test]
async fn a_burst_of_adds_causes_no_rerun() {
    for writers in [2, 8, 32, 64] {
        let fixture = SessionFixture::new();
        fixture.store.pauses.store(2, Ordering::Relaxed);
        let id = fixture.make(None, &[("n", "0")]);
        let barrier = Arc::new(Barrier::new(writers));
        let one = |_| {
            let (manager, visit) = (Arc::clone(&fixture.manager), fixture.visit(Some(&id)));
            let barrier = Arc::clone(&barrier);
            tokio::spawn(async move {
                let mut guest = guest(|session, _| {
                    let barrier = Arc::clone(&barrier);
                    async move {
                        session.add("n", 1).await?;
                        barrier.wait().await;
                        Ok(())
                    }
                });
                answered(manager.transact(visit, &mut guest).await);
            })
        };
        for task in (0..writers).map(one).collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
        assert_eq!(fixture.entry(&id, "n").await, Some(writers.to_string()));
        assert_eq!(fixture.counters().runs.get(), writers as u64);
        let (reapplies, folded) = (
            fixture.counters().reapplies.get(),
            fixture.counters().folded_commits.get(),
        );
        assert_eq!(
            reapplies + folded,
            writers as u64 - 1,
            "all but the first were applied to a newer row"
        );
        let replaced = fixture.asked().await;
        let replaced = replaced.iter().filter(|asked| **asked == Asked::Replace);
        // Each request tried to commit by itself. Then one or two held the lock, and folded the changes of the others into their commits.
        assert!(replaced.count() <= writers + 2, "{writers} writers");
    }
}

#[tokio::test]
async fn exclusive_visits_never_overlap() {
    let fixture = SessionFixture::new();
    fixture.store.pauses.store(2, Ordering::Relaxed);
    let id = fixture.make(None, &[("n", "0")]);
    let one = |_| {
        let (manager, mut visit) = (Arc::clone(&fixture.manager), fixture.visit(Some(&id)));
        visit.start = VisitStart::Exclusive;
        tokio::spawn(async move {
            let mut guest = guest(|session, _| async move { Ok(session.increment("n", 1).await?) });
            answered(manager.transact(visit, &mut guest).await).0
        })
    };
    let mut sums = Vec::new();
    for task in (0..16).map(one).collect::<Vec<_>>() {
        sums.push(task.await.expect("no panic"));
    }
    assert_eq!(sums, (1..=16).collect::<Vec<i64>>(), "in order of arrival");
    assert_eq!(fixture.counters().runs.get(), 16);
    assert_eq!(fixture.counters().conflicts.get(), 0);
}

#[tokio::test]
async fn a_visit_refused_by_a_full_queue_has_written_nothing() {
    let fixture = SessionFixture::with(SessionOptions {
        lock_waiters_max: 2,
        ..SessionOptions::default()
    });
    let id = fixture.make(None, &[("n", "0")]);
    let barrier = Arc::new(Barrier::new(9));
    let one = |_| {
        let (manager, visit) = (Arc::clone(&fixture.manager), fixture.visit(Some(&id)));
        let barrier = Arc::clone(&barrier);
        tokio::spawn(async move {
            let mut guest = guest(|session, number| {
                let barrier = Arc::clone(&barrier);
                async move {
                    let sum = session.increment("n", 1).await?;
                    if number == 1 {
                        barrier.wait().await;
                    }
                    // The lock is held while other requests wait for it.
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    Ok(sum)
                }
            });
            manager.transact(visit, &mut guest).await
        })
    };
    let mut answers = 0;
    for task in (0..9).map(one).collect::<Vec<_>>() {
        let outcome = task.await.expect("no panic");
        if matches!(outcome, TransactionOutcome::Answered { .. }) {
            answers += 1;
        } else {
            assert_eq!(refused(outcome).0, TransactionRefusal::Busy);
        }
    }
    assert_eq!(
        answers, 4,
        "the first, the lock's holder, and two that wait"
    );
    assert_eq!(fixture.entry(&id, "n").await, Some(answers.to_string()));
}

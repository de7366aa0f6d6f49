//! Two processes on one store: the first re-runs come at once, later ones after a growing wait.

use std::time::{Duration, Instant};

use super::super::{SessionOptions, TransactionOutcome, TransactionRefusal};
use super::fixture::SessionFixture;
use super::guest::{Trap, answered, guest, refused};
use cloakroom_base::limits::EAGER_RERUNS_MAX;

/// Runs a request that another process overtakes `times` times. Returns its runs and whether it had to wait for a timer.
async fn overtaken(times: u32, deadline: Duration) -> (u32, bool, TransactionOutcome<i64, Trap>) {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "0")]);
    let mut visit = fixture.visit(Some(&id));
    visit.deadline = (Instant::now() + deadline).into();
    let mut guest = guest(|session, number| {
        let (fixture, id) = (&fixture, &id);
        async move {
            let sum = session.increment("n", 1).await?;
            if number <= times {
                fixture.overwrite(id, None, &[("n", &(100 * number).to_string())]);
            }
            Ok(sum)
        }
    });
    let mut transaction = Box::pin(fixture.manager.transact(visit, &mut guest));
    // Only a timer makes the transaction wait here.
    let (has_waited, outcome) = match futures_util::poll!(&mut transaction) {
        std::task::Poll::Ready(outcome) => (false, outcome),
        std::task::Poll::Pending => (true, transaction.as_mut().await),
    };
    drop(transaction);
    (guest.runs, has_waited, outcome)
}

#[tokio::test]
async fn the_first_three_reruns_come_at_once_and_later_ones_wait() {
    let plenty = Duration::from_secs(60);
    for times in 0..=EAGER_RERUNS_MAX + 2 {
        let (runs, has_waited, outcome) = overtaken(times, plenty).await;
        assert_eq!(runs, times + 1);
        assert_eq!(answered(outcome).0, i64::from(100 * times) + 1);
        assert_eq!(
            has_waited,
            times > EAGER_RERUNS_MAX,
            "overtaken {times} times"
        );
    }
}

#[tokio::test]
async fn a_visit_with_endless_conflicts_is_refused_at_the_deadline() {
    let began = Instant::now();
    let (runs, has_waited, outcome) = overtaken(u32::MAX / 100, Duration::from_millis(200)).await;
    assert_eq!(refused(outcome).0, TransactionRefusal::Busy);
    assert!(has_waited && began.elapsed() >= Duration::from_millis(200));
    assert!(runs > EAGER_RERUNS_MAX && runs < 50, "{runs} runs");
}

#[tokio::test]
async fn requests_of_one_session_on_two_processes_are_serial() {
    let fixture = SessionFixture::with(SessionOptions {
        eager_reruns_max: 1,
        ..SessionOptions::default()
    });
    fixture
        .store
        .pauses
        .store(1, std::sync::atomic::Ordering::Relaxed);
    let id = fixture.make(None, &[("log", "[]")]);
    let managers = [fixture.manager.clone(), fixture.another_manager()];
    let one = |n: usize| {
        let (manager, visit) = (managers[n % 2].clone(), fixture.visit(Some(&id)));
        tokio::spawn(async move {
            let mut guest = guest(|session, _| async move {
                let log = session.get("log").await?.ok_or(Trap::OfItself)?;
                let begun = log.strip_suffix(']').ok_or(Trap::OfItself)?;
                let comma = if begun == "[" { "" } else { "," };
                session.set("log", &format!("{begun}{comma}{n}]")).await?;
                Ok(log)
            });
            answered(manager.transact(visit, &mut guest).await).0
        })
    };
    let mut seen = Vec::new();
    for task in (0..12).map(one).collect::<Vec<_>>() {
        seen.push(task.await.expect("no panic"));
    }
    seen.push(fixture.entry(&id, "log").await.expect("a log"));
    seen.sort_by_key(String::len);
    for pair in seen.windows(2) {
        let before = pair[0].strip_suffix(']').expect("an array");
        assert!(pair[1].starts_with(before), "{pair:?}");
    }
    let entries = seen
        .last()
        .expect("the last")
        .matches(char::is_numeric)
        .count();
    assert_eq!(entries, 10 + 2 * 2, "0 to 11, each once");
}

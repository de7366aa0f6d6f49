//! Visits that start from a snapshot of their session: they save one store read, and never give an outdated answer.

use std::sync::Arc;
use std::time::Duration;

use super::super::{CookieChange, SessionManager, SessionOptions, TransactionRefusal, VisitStart};
use super::fixture::SessionFixture;
use super::guest::{Trap, answered, bump, failed, guest, refused};
use super::stubborn::{Asked, Fate};
use crate::record::SessionId;

/// Returns a guest that answers with the value of `n`.
fn read() -> impl super::super::Attempt<Answer = Option<String>, Failure = Trap> {
    guest(|session, _| async move { Ok(session.get("n").await?) })
}

/// Creates a session that this host has written once. The host remembers it, and expects the next visit to write.
async fn remembered(fixture: &SessionFixture) -> SessionId {
    let id = fixture.make(None, &[("n", "1")]);
    assert_eq!(answered(fixture.request(&id, bump()).await).0, 2);
    fixture.asked().await;
    id
}

/// Ends the session as another process would.
async fn end(manager: &Arc<SessionManager>, fixture: &SessionFixture, id: &SessionId) {
    let mut destroy = guest(|session, _| async move { Ok(session.destroy().await?) });
    answered(
        manager
            .transact(fixture.visit(Some(id)), &mut destroy)
            .await,
    );
    fixture.asked().await;
}

#[tokio::test]
async fn a_visit_that_writes_asks_the_store_once() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    for n in 3..6 {
        assert_eq!(answered(fixture.request(&id, bump()).await).0, n);
        assert_eq!(fixture.asked().await, [Asked::Replace]);
    }
    assert_eq!(fixture.counters().snapshots.get(), 3);
    assert_eq!(fixture.counters().stale_snapshots.get(), 0);
}

#[tokio::test]
async fn a_visit_that_only_reads_is_compared_by_a_read() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    for _ in 0..3 {
        let (n, _) = answered(fixture.request(&id, read()).await);
        assert_eq!(n.as_deref(), Some("2"));
        assert_eq!(fixture.asked().await, [Asked::Load]);
    }
    assert_eq!(fixture.counters().runs.get(), 4);
}

#[tokio::test]
async fn a_session_that_ended_elsewhere_is_never_served() {
    let fixture = SessionFixture::new();
    let another = fixture.another_manager();
    let visits: [fn(&SessionFixture) -> bool; 2] = [|_| true, |_| false];
    for writes in visits {
        let id = remembered(&fixture).await;
        end(&another, &fixture, &id).await;
        let mut runs = 0;
        let visitor = guest(|session, _| {
            runs += 1;
            let writes = writes(&fixture);
            async move {
                let seen = session.get("n").await?;
                if writes && seen.is_some() {
                    session.set("n", "7").await?;
                }
                Ok(seen)
            }
        });
        let (seen, cookie) = answered(fixture.request(&id, visitor).await);
        assert_eq!(seen, None, "an answer on the old session");
        assert!(matches!(cookie, CookieChange::Expire { .. }), "{cookie:?}");
        assert_eq!(runs, 2);
        assert_eq!(fixture.rows(), 0, "it stays ended");
    }
}

#[tokio::test]
async fn a_visit_that_began_on_an_old_snapshot_of_an_ended_session_may_begin_a_new_one() {
    let fixture = SessionFixture::new();
    let another = fixture.another_manager();
    let id = remembered(&fixture).await;
    end(&another, &fixture, &id).await;
    let (sum, cookie) = answered(fixture.request(&id, bump()).await);
    assert_eq!(sum, 1);
    assert!(matches!(cookie, CookieChange::Set { .. }), "{cookie:?}");
    assert!(fixture.row(&id).await.is_none(), "under its own id");
}

/// Runs a request that takes `pause` and then writes, while `manager` ends the session.
async fn overtaken_by_an_end(
    fixture: &SessionFixture,
    manager: &Arc<SessionManager>,
    pause: Duration,
) -> CookieChange {
    let id = remembered(fixture).await;
    let ended = tokio::sync::Notify::new();
    let slow = guest(|session, number| {
        let ended = &ended;
        async move {
            let seen = session.get("n").await?;
            if number == 1 {
                tokio::time::sleep(pause).await;
                ended.notify_one();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            session.set("n", "7").await?;
            Ok(seen)
        }
    });
    let logout = async {
        ended.notified().await;
        let mut destroy = guest(|session, _| async move { Ok(session.destroy().await?) });
        answered(
            manager
                .transact(fixture.visit(Some(&id)), &mut destroy)
                .await,
        );
    };
    let (outcome, ()) = futures_util::join!(fixture.request(&id, slow), logout);
    let (seen, cookie) = answered(outcome);
    assert_eq!(seen, None, "it ran again without a session");
    fixture.asked().await;
    cookie
}

#[tokio::test]
async fn a_visit_that_a_logout_overtakes_starts_no_new_session() {
    // Long enough for the store to be asked meanwhile.
    let fixture = SessionFixture::new();
    let another = fixture.another_manager();
    let cookie = overtaken_by_an_end(&fixture, &another, Duration::from_millis(20)).await;
    assert_eq!(cookie, CookieChange::Keep);
    assert_eq!(fixture.rows(), 0);
    // In the same process, the end is known at once.
    let own = Arc::clone(&fixture.manager);
    let cookie = overtaken_by_an_end(&fixture, &own, Duration::ZERO).await;
    assert_eq!(cookie, CookieChange::Keep);
    assert_eq!(fixture.rows(), 0);
}

#[tokio::test]
async fn writes_of_another_host_or_express_are_kept() {
    let fixture = SessionFixture::new();
    let another = fixture.another_manager();
    let id = remembered(&fixture).await;
    let visit = fixture.visit(Some(&id));
    assert_eq!(answered(another.transact(visit, &mut bump()).await).0, 3);
    assert_eq!(answered(fixture.request(&id, bump()).await).0, 4);

    let id = remembered(&fixture).await;
    fixture.overwrite(&id, None, &[("n", "10"), ("by", "\"express\"")]);
    assert_eq!(answered(fixture.request(&id, bump()).await).0, 11);
    let by = fixture.entry(&id, "by").await;
    assert_eq!(by.as_deref(), Some("\"express\""));
    assert_eq!(fixture.counters().stale_snapshots.get(), 2);
}

#[tokio::test]
async fn changes_without_reads_are_reapplied_to_the_newer_row() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    fixture.overwrite(&id, None, &[("n", "10")]);
    let add = guest(|session, _| async move { Ok(session.add("n", 1).await?) });
    answered(fixture.request(&id, add).await);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("11"));
    assert_eq!(fixture.counters().reruns.get(), 0);
}

#[tokio::test]
async fn a_session_that_others_write_often_is_loaded_before_the_run() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    for n in 1..=40 {
        fixture.overwrite(&id, None, &[("n", &(100 * n).to_string())]);
        assert_eq!(answered(fixture.request(&id, bump()).await).0, 100 * n + 1);
    }
    let stale = fixture.counters().stale_snapshots.get();
    assert!((2..8).contains(&stale), "{stale} of 40 visits ran twice");
}

#[tokio::test]
async fn a_guest_that_cannot_run_again_waits_for_the_row() {
    let fixture = SessionFixture::new();
    for start in [VisitStart::Fresh, VisitStart::Exclusive] {
        let id = remembered(&fixture).await;
        let mut visit = fixture.visit(Some(&id));
        visit.start = start;
        answered(fixture.manager.transact(visit, &mut bump()).await);
        let asked = fixture.asked().await;
        assert_eq!(asked, [Asked::Load, Asked::Replace], "{start:?}");
    }
}

#[tokio::test]
async fn a_snapshot_never_replaces_a_store_that_is_down() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    fixture.store.will_load([Fate::DOWN]);
    let outcome = fixture.request(&id, read()).await;
    assert_eq!(refused(outcome).0, TransactionRefusal::StoreUnavailable);
}

#[tokio::test]
async fn a_guest_failure_on_a_stale_snapshot_causes_a_rerun() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    let picky = |session: super::super::Session, _| async move {
        match session.get("n").await?.as_deref() {
            Some("2") => Err(Trap::OfItself),
            other => Ok(other.map(str::to_owned)),
        }
    };
    let outcome = fixture.request(&id, guest(picky)).await;
    assert_eq!(
        failed(outcome).0,
        Trap::OfItself,
        "it is what the store has"
    );
    fixture.overwrite(&id, None, &[("n", "3")]);
    let (seen, _) = answered(fixture.request(&id, guest(picky)).await);
    assert_eq!(seen.as_deref(), Some("3"));
}

#[tokio::test]
async fn an_unused_session_that_ended_elsewhere_costs_no_second_run() {
    let fixture = SessionFixture::new();
    let another = fixture.another_manager();
    let id = remembered(&fixture).await;
    end(&another, &fixture, &id).await;
    let before = fixture.counters().runs.get();
    let idle = guest(|_, _| async move { Ok(()) });
    let (_, cookie) = answered(fixture.request(&id, idle).await);
    assert!(matches!(cookie, CookieChange::Expire { .. }), "{cookie:?}");
    assert_eq!(fixture.counters().runs.get() - before, 1);
}

#[tokio::test]
async fn an_expired_snapshot_is_not_used() {
    let fixture = SessionFixture::new();
    let id = remembered(&fixture).await;
    fixture.clock.advance(200_000_000);
    let (seen, _) = answered(fixture.request(&id, read()).await);
    assert_eq!(seen, None);
    assert_eq!(fixture.counters().snapshots.get(), 0);
}

#[tokio::test]
async fn snapshots_are_bounded_in_bytes_and_can_be_turned_off() {
    for (bytes_max, few) in [(0, 0..1), (1 << 20, 1..150)] {
        let fixture = SessionFixture::with(SessionOptions {
            snapshots_bytes_max: bytes_max,
            ..SessionOptions::default()
        });
        let large = format!("\"{}\"", "x".repeat(4 << 10));
        let make = |_| fixture.make(None, &[("n", "1"), ("x", &large)]);
        let ids: Vec<_> = (0..200).map(make).collect();
        for id in &ids {
            answered(fixture.request(id, bump()).await);
        }
        for id in ids.iter().rev() {
            answered(fixture.request(id, bump()).await);
        }
        let hits = fixture.counters().snapshots.get();
        assert!(few.contains(&hits), "{hits} hits with {bytes_max} bytes");
    }
}

#[tokio::test]
async fn the_store_is_asked_while_the_guest_runs() {
    let fixture = Arc::new(SessionFixture::new());
    let id = fixture.make(None, &[("n", "1")]);
    answered(fixture.request(&id, read()).await);
    fixture.asked().await;
    let gate = super::stubborn::Gate::new();
    fixture.store.will_load([gate.then(Fate::Done)]);
    let visitor = {
        let gate = Arc::clone(&gate);
        guest(move |session, _| {
            let gate = Arc::clone(&gate);
            async move {
                let seen = session.get("n").await?;
                gate.arrival().await;
                Ok(seen)
            }
        })
    };
    let request = tokio::spawn({
        let (fixture, id) = (Arc::clone(&fixture), id.clone());
        async move { fixture.request(&id, visitor).await }
    });
    tokio::task::yield_now().await;
    assert!(!request.is_finished(), "it waits for the store's word");
    gate.open();
    let (seen, _) = answered(request.await.expect("no panic"));
    assert_eq!(seen.as_deref(), Some("1"));
}

//! Runs that must not or cannot be repeated, and the limits of waiting: effects, missing bodies, deadlines.

use std::time::{Duration, Instant};

use super::super::{CookieChange, ReplayPolicy, TransactionRefusal};
use super::fixture::SessionFixture;
use super::guest::{Trap, answered, failed, guest, guest_with, refused};
use super::stubborn::Asked;
use cloakroom_base::quota::{QuotaResource, QuotaTotals, Quotas};

/// A guest with the given `replay` reads `a`, another program writes `key`, and the guest writes `z`.
async fn overtaken(
    replay: ReplayPolicy,
    key: &'static str,
) -> (SessionFixture, crate::record::SessionId, bool) {
    let fixture = SessionFixture::new();
    let id = fixture.make(Some(60_000), &[("a", "1"), ("b", "1")]);
    let mut guest = guest_with(replay, |session, _| {
        let (fixture, id) = (&fixture, &id);
        async move {
            session.get("a").await?;
            let changed = if key == "a" { ["2", "1"] } else { ["1", "2"] };
            let entries = [("a", changed[0]), ("b", changed[1])];
            fixture.overwrite(id, Some(60_000), &entries);
            session.set("z", "1").await?;
            Ok(())
        }
    });
    let visit = fixture.visit(Some(&id));
    let outcome = fixture.manager.transact(visit, &mut guest).await;
    assert_eq!(guest.runs, 1, "it is never run again");
    let is_answered = match (replay, key) {
        (_, "b") => {
            answered(outcome);
            true
        }
        (ReplayPolicy::EffectMade, _) => {
            assert_eq!(
                refused(outcome),
                (TransactionRefusal::Conflict, CookieChange::Keep)
            );
            false
        }
        _ => {
            assert_eq!(
                refused(outcome),
                (TransactionRefusal::BodyGone, CookieChange::Keep)
            );
            false
        }
    };
    (fixture, id, is_answered)
}

#[tokio::test]
async fn an_unrepeatable_run_whose_reads_changed_is_refused_and_writes_nothing() {
    for replay in [ReplayPolicy::EffectMade, ReplayPolicy::BodyGone] {
        let (fixture, id, _) = overtaken(replay, "a").await;
        assert_eq!(fixture.entry(&id, "z").await, None, "{replay:?}");
        assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("2"));
        assert_eq!(fixture.counters().reruns.get(), 0);
    }
}

#[tokio::test]
async fn an_unrepeatable_run_whose_reads_hold_is_reapplied() {
    for replay in [ReplayPolicy::EffectMade, ReplayPolicy::BodyGone] {
        let (fixture, id, is_answered) = overtaken(replay, "b").await;
        assert!(is_answered, "{replay:?}");
        assert_eq!(fixture.entry(&id, "z").await.as_deref(), Some("1"));
        assert_eq!(fixture.entry(&id, "b").await.as_deref(), Some("2"));
    }
}

#[tokio::test]
async fn an_effect_made_on_a_session_that_vanished_is_a_conflict() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let logout = |fixture: &SessionFixture| fixture.another_manager();
    let outcome = fixture.request(
        &id,
        guest_with(ReplayPolicy::EffectMade, |session, _| {
            let (manager, visit) = (logout(&fixture), fixture.visit(Some(&id)));
            async move {
                session.set("a", "2").await?;
                let mut other = guest(|session, _| async move { Ok(session.destroy().await?) });
                answered(manager.transact(visit, &mut other).await);
                Ok(())
            }
        }),
    );
    assert_eq!(
        refused(outcome.await),
        (TransactionRefusal::Conflict, CookieChange::Keep)
    );
    assert_eq!(fixture.rows(), 0);
}

#[tokio::test]
async fn a_conflict_after_the_deadline_is_refused_as_busy() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let mut visit = fixture.visit(Some(&id));
    visit.deadline = (Instant::now()).into();
    let mut guest = guest(|session, _| {
        let (fixture, id) = (&fixture, &id);
        async move {
            let sum = session.increment("a", 1).await?;
            fixture.overwrite(id, None, &[("a", "5")]);
            Ok(sum)
        }
    });
    let outcome = fixture.manager.transact(visit, &mut guest).await;
    assert_eq!(
        refused(outcome),
        (TransactionRefusal::Busy, CookieChange::Keep)
    );
    assert_eq!(guest.runs, 1);
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("5"));
}

#[tokio::test]
async fn a_commit_without_a_conflict_is_made_after_the_deadline_too() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let mut visit = fixture.visit(Some(&id));
    visit.deadline = (Instant::now()).into();
    let mut guest = guest(|session, _| async move { Ok(session.increment("a", 1).await?) });
    answered(fixture.manager.transact(visit, &mut guest).await);
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_wait_for_the_lock_ends_at_the_deadline() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let held = fixture
        .manager
        .shared
        .locks
        .acquire(&id, deadline, None)
        .await;
    for start in [
        super::super::VisitStart::Optimistic,
        super::super::VisitStart::Exclusive,
    ] {
        let mut visit = fixture.visit(Some(&id));
        visit.start = start;
        visit.deadline = (Instant::now() + Duration::from_millis(5)).into();
        let mut guest = guest(|session, _| async move { Ok(session.increment("a", 1).await?) });
        let outcome = fixture.manager.transact(visit, &mut guest).await;
        assert_eq!(refused(outcome).0, TransactionRefusal::Busy, "{start:?}");
    }
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("1"));
    drop(held);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move { Ok(session.increment("a", 1).await?) }),
    );
    assert_eq!(answered(outcome.await).0, 2);
}

/// Without this, the requests of one client that wait for a session lock could keep all other clients from the host.
#[tokio::test]
async fn a_wait_for_the_lock_ends_when_another_client_needs_the_place() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let quotas = Quotas::new(QuotaTotals {
        requests: 1,
        ..QuotaTotals::default()
    });
    let (flood, visitor) = (quotas.peer([127, 0, 0, 1].into()), [127, 0, 0, 2].into());
    let deadline = Instant::now() + Duration::from_secs(60);
    let _held = fixture
        .manager
        .shared
        .locks
        .acquire(&id, deadline, None)
        .await;
    for start in [
        super::super::VisitStart::Optimistic,
        super::super::VisitStart::Exclusive,
    ] {
        let mut visit = fixture.visit(Some(&id));
        visit.start = start;
        visit.reservation = Some(flood.reserve(QuotaResource::Requests, 1).unwrap());
        let mut guest = guest(|session, _| async move { Ok(session.increment("a", 1).await?) });
        let waiting = fixture.manager.transact(visit, &mut guest);
        let taking = async {
            loop {
                match quotas.peer(visitor).reserve(QuotaResource::Requests, 1) {
                    Ok(reservation) => return reservation,
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        let (outcome, _place) = tokio::join!(waiting, taking);
        assert_eq!(refused(outcome).0, TransactionRefusal::Busy, "{start:?}");
    }
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn readers_do_not_wait_for_a_lock_that_others_hold() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let _held = fixture
        .manager
        .shared
        .locks
        .acquire(&id, deadline, None)
        .await;
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move { Ok(session.get("a").await?) }),
    );
    assert_eq!(answered(outcome.await).0.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_guest_that_fails_by_itself_commits_nothing() {
    let fixture = SessionFixture::new();
    let id = fixture.make(Some(60_000), &[("a", "1")]);
    let trap = |session: super::super::Session, _| async move {
        session.set("a", "2").await?;
        session.renew().await?;
        Err::<(), _>(Trap::OfItself)
    };
    let outcome = fixture.request(&id, guest(trap)).await;
    assert_eq!(failed(outcome), (Trap::OfItself, CookieChange::Keep));
    let outcome = fixture.first_request(guest(trap)).await;
    assert_eq!(failed(outcome), (Trap::OfItself, CookieChange::Keep));
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("1"));
    assert_eq!(fixture.rows(), 1);
    assert_eq!(fixture.asked().await, [Asked::Load]);
}

#[tokio::test]
async fn a_run_with_too_long_a_change_log_is_rerun_instead_of_reapplied() {
    let most = cloakroom_base::limits::SESSION_LOG_OPS_MAX;
    for (changes, runs) in [(most, 1), (most + 1, 2)] {
        let fixture = SessionFixture::new();
        let id = fixture.make(None, &[("a", "1")]);
        let mut guest = guest(|session, number| {
            let (fixture, id) = (&fixture, &id);
            async move {
                for _ in 0..changes {
                    session.add("mine", 1).await?;
                }
                if number == 1 {
                    fixture.overwrite(id, None, &[("a", "2")]);
                }
                Ok(())
            }
        });
        let visit = fixture.visit(Some(&id));
        answered(fixture.manager.transact(visit, &mut guest).await);
        assert_eq!(guest.runs, runs, "{changes} changes");
        assert_eq!(fixture.entry(&id, "mine").await, Some(changes.to_string()));
        assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("2"));
    }
}

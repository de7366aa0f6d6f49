//! A store that is down or returns invalid data: the visitor's answers, and the absence of half-done changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::super::{CookieChange, SessionCallError, SessionError, TransactionRefusal};
use super::fixture::{SessionFixture, presented, set_for};
use super::guest::{Trap, answered, bump, failed, guest, refused};
use super::stubborn::{Asked, Fate, Gate};
use crate::record::SessionId;
use crate::store::StoreErrorKind;

const REFUSED: (TransactionRefusal, CookieChange) =
    (TransactionRefusal::StoreUnavailable, CookieChange::Keep);

/// Returns whether a call was refused because the store is unavailable.
fn is_unavailable<T>(told: &Result<T, SessionCallError>) -> bool {
    matches!(told, Err(SessionCallError::Guest(SessionError::Unavailable(why))) if why.contains("did not answer"))
}

#[tokio::test]
async fn a_failed_load_refuses_every_visit_that_made_a_session_call() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will(Fate::DOWN);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move { Ok(session.get("n").await?) }),
    );
    assert_eq!(refused(outcome.await), REFUSED);
    let swallowing = guest(|session, _| async move {
        let told = session.get("n").await;
        assert_eq!(told, Err(SessionCallError::Interrupted));
        Ok("an anonymous page")
    });
    assert_eq!(refused(fixture.request(&id, swallowing).await), REFUSED);
    let failing = guest(|session, _| async move {
        let _ = session.set("n", "2").await;
        Err::<(), _>(Trap::OfItself)
    });
    assert_eq!(refused(fixture.request(&id, failing).await), REFUSED);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("1"));
    assert_eq!(fixture.counters().commits.get(), 0);
}

#[tokio::test]
async fn visits_without_a_session_call_or_a_cookie_need_no_store() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will(Fate::DOWN);
    let idle = fixture.request(&id, guest(|_, _| async { Ok("a page") }));
    assert_eq!(answered(idle.await), ("a page", CookieChange::Keep));
    let idle_trap = fixture.request(&id, guest(|_, _| async { Err::<(), _>(Trap::OfItself) }));
    assert_eq!(failed(idle_trap.await).0, Trap::OfItself);
    let reader = guest(|session, _| async move { Ok(session.get("n").await?) });
    assert_eq!(
        answered(fixture.first_request(reader).await),
        (None, CookieChange::Keep)
    );
    let mut tampered = fixture.visit(None);
    tampered.presented = presented(&["s%3Anobody.signature".to_owned()]);
    let mut reader = guest(|session, _| async move { Ok(session.get("n").await?) });
    let outcome = fixture.manager.transact(tampered, &mut reader).await;
    assert_eq!(answered(outcome), (None, CookieChange::Keep));
}

#[tokio::test]
async fn a_hanging_load_does_not_delay_a_visit_without_a_session_call() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    let gate = Gate::new();
    fixture.store.will_load([gate.then(Fate::Done)]);
    let outcome = fixture.request(&id, guest(|_, _| async { Ok(()) }));
    assert_eq!(answered(outcome.await).1, CookieChange::Keep);
    gate.open();
}

#[tokio::test]
async fn a_read_ends_with_the_request_that_it_was_for() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    for is_on_snapshot in [false, true] {
        let gate = Gate::new();
        fixture.store.will_load([gate.then(Fate::Done)]);
        let without_instance = guest(|_, _| {
            let gate = &gate;
            async move {
                gate.arrival().await;
                Err::<(), _>(Trap::OfItself)
            }
        });
        let outcome = fixture.request(&id, without_instance).await;
        assert_eq!(failed(outcome).0, Trap::OfItself);
        let snapshots = fixture.counters().snapshots.get();
        assert_eq!(snapshots, u64::from(is_on_snapshot));
        // This waits for all tasks of the manager while the gate stays closed.
        let asked = timeout(Duration::from_secs(5), fixture.asked()).await;
        assert_eq!(asked.expect("no task reads any more"), [Asked::Load]);
        // The next visit starts from a snapshot, and the store is asked while the guest runs.
        let reader = guest(|session, _| async move { Ok(session.get("n").await?) });
        answered(fixture.request(&id, reader).await);
        fixture.asked().await;
    }
}

/// Counts the warnings on this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::WARN {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn a_thousand_refused_requests_are_one_warning_for_each_kind_of_fault() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    let warnings = Warnings::default();
    let subscriber = tracing_subscriber::registry().with(warnings.clone());
    let _logging = tracing::subscriber::set_default(subscriber);
    fixture.store.will(Fate::DOWN);
    for _ in 0..1000 {
        assert_eq!(refused(fixture.request(&id, bump()).await), REFUSED);
    }
    let count = || warnings.0.load(Ordering::Relaxed);
    assert_eq!(count(), 0, "the store's meter tells that it is down");
    fixture.store.will(Fate::Fails(StoreErrorKind::Broken));
    for _ in 0..1000 {
        assert_eq!(refused(fixture.request(&id, bump()).await), REFUSED);
    }
    assert_eq!(count(), 1, "reads");
    for _ in 0..1000 {
        assert_eq!(refused(fixture.first_request(bump()).await), REFUSED);
    }
    assert_eq!(count(), 2, "commits");
    fixture.store.will(Fate::Fails(StoreErrorKind::Refused));
    assert_eq!(
        refused(fixture.request(&id, bump()).await).0,
        TransactionRefusal::StoreRefused
    );
    assert_eq!(count(), 3, "another kind");
}

#[tokio::test]
async fn a_permanent_refusal_of_a_load_or_a_delete_is_reported_as_permanent() {
    const REFUSED: (TransactionRefusal, CookieChange) =
        (TransactionRefusal::StoreRefused, CookieChange::Keep);
    let for_good = || Fate::Fails(StoreErrorKind::Refused);
    let reader = || guest(|session, _| async move { Ok(session.get("n").await?) });
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will_load([for_good()]);
    assert_eq!(refused(fixture.request(&id, reader()).await), REFUSED);
    fixture.store.will_load([for_good()]);
    let idle = guest(|_, _| async { Ok("a page") });
    let outcome = fixture.request(&id, idle).await;
    assert_eq!(answered(outcome), ("a page", CookieChange::Keep));

    fixture.store.will_load([Fate::Done, for_good()]);
    let reloading = guest(|session, _| async move { Ok(session.reload().await?) });
    assert_eq!(refused(fixture.request(&id, reloading).await), REFUSED);
    // Now there is a snapshot, which is compared with the store while the guest runs.
    fixture.store.will_load([for_good()]);
    assert_eq!(refused(fixture.request(&id, reader()).await), REFUSED);
    assert_eq!(fixture.counters().snapshots.get(), 1);

    fixture.store.will_commit([for_good()]);
    let dead = SessionId::generate();
    let logout = guest(|session, _| async move { Ok(session.destroy().await?) });
    assert_eq!(refused(fixture.request(&dead, logout).await), REFUSED);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_commit_that_fails_is_refused_with_nothing_written_and_no_cookie() {
    for (kind, refusal) in [
        (
            StoreErrorKind::Unavailable,
            TransactionRefusal::StoreUnavailable,
        ),
        (StoreErrorKind::Broken, TransactionRefusal::StoreUnavailable),
        (StoreErrorKind::TooLarge, TransactionRefusal::TooLarge),
        (StoreErrorKind::Refused, TransactionRefusal::StoreRefused),
    ] {
        let fixture = SessionFixture::new();
        let id = fixture.make(Some(60_000), &[("n", "1")]);
        fixture
            .store
            .will_commit([Fate::Fails(kind), Fate::Fails(kind)]);
        let outcome = fixture.request(&id, bump()).await;
        assert_eq!(refused(outcome), (refusal, CookieChange::Keep), "{kind:?}");
        let outcome = fixture.first_request(bump()).await;
        assert_eq!(refused(outcome), (refusal, CookieChange::Keep), "{kind:?}");
        assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("1"));
        assert_eq!(fixture.rows(), 1);
        let asked = fixture.asked().await;
        assert_eq!(
            asked,
            [Asked::Load, Asked::Replace, Asked::Create],
            "tried once each"
        );
    }
}

#[tokio::test]
async fn a_failed_destroy_leaves_the_session_and_its_cookie() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will_commit([Fate::DOWN]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move { Ok(session.destroy().await?) }),
    );
    assert_eq!(refused(outcome.await), REFUSED);
    assert_eq!(fixture.rows(), 1);
}

#[tokio::test]
async fn a_failed_save_or_reload_is_an_error_and_refuses_the_response() {
    for is_save in [true, false] {
        for traps in [true, false] {
            let fixture = SessionFixture::new();
            let id = fixture.make(Some(60_000), &[("n", "1")]);
            // The store works again right afterwards.
            fixture.store.will_load([Fate::Done, Fate::DOWN]);
            fixture.store.will_commit([Fate::DOWN]);
            let outcome = fixture.request(
                &id,
                guest(|session, _| async move {
                    session.set("n", "2").await?;
                    let told = if is_save {
                        session.save().await
                    } else {
                        session.reload().await
                    };
                    assert!(is_unavailable(&told), "{told:?}");
                    if traps { Err(Trap::OfItself) } else { Ok(()) }
                }),
            );
            assert_eq!(refused(outcome.await), REFUSED, "{is_save} {traps}");
            assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("1"));
        }
    }
}

#[tokio::test]
async fn a_session_saved_before_an_outage_keeps_its_cookie() {
    let fixture = SessionFixture::new();
    fixture.store.will_commit([Fate::Done, Fate::DOWN]);
    let outcome = fixture.first_request(guest(|session, _| async move {
        session.set("n", "1").await?;
        session.save().await?;
        session.set("n", "2").await?;
        Ok(())
    }));
    let (refusal, cookie) = refused(outcome.await);
    assert_eq!(refusal, TransactionRefusal::StoreUnavailable);
    assert_eq!(
        fixture.entry(&set_for(&cookie), "n").await.as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn a_store_failure_after_a_conflict_causes_no_rerun() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will_load([Fate::Done, Fate::DOWN]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.increment("n", 1).await?;
                fixture.overwrite(id, None, &[("n", "5")]);
                Ok(())
            }
        }),
    );
    assert_eq!(refused(outcome.await), REFUSED);
    assert_eq!(fixture.counters().runs.get(), 1);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("5"));
}

#[tokio::test]
async fn a_failed_touch_does_not_affect_the_response() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.clock.advance(70_000);
    fixture.store.will_load([Fate::Done]);
    fixture.store.will(Fate::DOWN);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move { Ok(session.get("n").await?) }),
    );
    assert_eq!(answered(outcome.await).0.as_deref(), Some("1"));
    assert_eq!(fixture.asked().await, [Asked::Load, Asked::Touch]);
}

#[tokio::test]
async fn a_corrupt_row_is_a_new_session_and_stays_as_it_is() {
    for data in [
        "",
        "null",
        "[]",
        "{}",
        "{\"cookie\":null}",
        "{\"cookie\":{}",
        "7",
    ] {
        let fixture = SessionFixture::new();
        let id = SessionId::generate();
        fixture.put(&id, data.to_owned(), i64::from(u32::MAX));
        let reader = guest(|session, _| async move { Ok(session.list_keys().await?) });
        let (seen, cookie) = answered(fixture.request(&id, reader).await);
        assert_eq!((seen.len(), cookie), (0, CookieChange::Keep), "{data}");
        let (_, cookie) = answered(fixture.request(&id, bump()).await);
        assert_ne!(set_for(&cookie), id);
        assert_eq!(fixture.data(&id).await.as_deref(), Some(data));
        assert_eq!(fixture.counters().corrupt_rows.get(), 2, "{data}");
    }
}

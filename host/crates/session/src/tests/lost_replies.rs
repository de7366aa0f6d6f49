//! Commits whose reply is lost: they are settled if their outcome can be determined, and given up otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{CookieChange, TransactionRefusal};
use super::fixture::{SessionFixture, set_for};
use super::guest::{answered, bump, guest, refused};
use super::stubborn::{Asked, Fate, Gate};
use crate::record::SessionId;
use crate::store::CommitVerdict;

const REFUSED: (TransactionRefusal, CookieChange) =
    (TransactionRefusal::StoreUnavailable, CookieChange::Keep);

#[tokio::test]
async fn a_lost_reply_of_a_commit_that_landed_counts_once() {
    let fixture = SessionFixture::new();
    let id = fixture.make(Some(60_000), &[("n", "1")]);
    // A first commit by Cloakroom, so that the row has a token.
    answered(fixture.request(&id, bump()).await);
    fixture.store.take_asked();
    fixture.store.will_commit([Fate::DoneReplyLost]);
    let (sum, cookie) = answered(fixture.request(&id, bump()).await);
    assert_eq!((sum, set_for(&cookie)), (3, id.clone()));
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("3"));
    let asked = fixture.asked().await;
    assert_eq!(asked, [Asked::Replace, Asked::Replace, Asked::Load]);
    assert_eq!(fixture.counters().runs.get(), 2);
}

#[tokio::test]
async fn a_lost_reply_of_a_commit_that_did_not_land_is_sent_again() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture
        .store
        .will_commit([Fate::NotDoneReplyLost, Fate::NotDoneReplyLost]);
    assert_eq!(answered(fixture.request(&id, bump()).await).0, 2);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("2"));
    assert_eq!(fixture.counters().ambiguous_commits.get(), 1);
    assert_eq!(fixture.counters().runs.get(), 1);
}

#[tokio::test]
async fn a_commit_that_arrives_late_changes_nothing_more() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will_commit([Fate::LateReplyLost]);
    answered(fixture.request(&id, bump()).await);
    answered(fixture.request(&id, bump()).await);
    let verdicts = fixture.store.deliver(fixture.clock.now_s()).await;
    assert!(matches!(verdicts[..], [CommitVerdict::Conflict]));
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_rollback_proves_nothing_of_a_commit_whose_reply_was_lost() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    answered(fixture.request(&id, bump()).await);
    fixture.store.take_asked();
    fixture
        .store
        .will_commit([Fate::LateReplyLost, Fate::RolledBack, Fate::RolledBack]);
    assert_eq!(answered(fixture.request(&id, bump()).await).0, 3);
    let verdicts = fixture.store.deliver(fixture.clock.now_s()).await;
    assert!(matches!(verdicts[..], [CommitVerdict::Conflict]));
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("3"));
    assert_eq!(fixture.asked().await, [Asked::Replace; 4]);
}

#[tokio::test]
async fn a_commit_that_is_rolled_back_is_tried_again_until_it_lands() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    fixture
        .store
        .will_commit([Fate::RolledBack, Fate::RolledBack]);
    assert_eq!(answered(fixture.request(&id, bump()).await).0, 2);
    fixture.store.will_commit([Fate::RolledBack]);
    let (_, cookie) = answered(
        fixture
            .manager
            .transact(fixture.visit(None), &mut bump())
            .await,
    );
    assert_eq!(
        fixture.entry(&set_for(&cookie), "n").await.as_deref(),
        Some("1")
    );
    assert_eq!(fixture.counters().runs.get(), 2);
}

#[tokio::test]
async fn a_lost_commit_that_another_one_overtook_runs_again() {
    let fixture = Arc::new(SessionFixture::new());
    let id = fixture.make(None, &[("n", "1")]);
    answered(fixture.request(&id, bump()).await);
    let gate = Gate::new();
    fixture
        .store
        .will_commit([gate.then(Fate::NotDoneReplyLost)]);
    let first = tokio::spawn({
        let (fixture, id) = (Arc::clone(&fixture), id.clone());
        async move { fixture.request(&id, bump()).await }
    });
    gate.arrival().await;
    let another = fixture.another_manager();
    let outcome = another
        .transact(fixture.visit(Some(&id)), &mut bump())
        .await;
    assert_eq!(answered(outcome).0, 3);
    gate.open();
    assert_eq!(answered(first.await.expect("no panic")).0, 4);
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("4"));
    assert_eq!(fixture.counters().reruns.get(), 1);
}

/// Returns the outcome of a commit that succeeded but whose reply was lost, after `meanwhile` has changed the row.
async fn in_doubt(
    fixture: &SessionFixture,
    id: &SessionId,
    meanwhile: impl FnOnce(),
) -> (TransactionRefusal, CookieChange) {
    let gate = Gate::new();
    fixture
        .store
        .will_commit([Fate::DoneReplyLost, gate.then(Fate::Done)]);
    let request = fixture.request(id, bump());
    let meanwhile = async {
        gate.arrival().await;
        meanwhile();
        gate.open();
    };
    let (outcome, ()) = futures_util::join!(request, meanwhile);
    refused(outcome)
}

#[tokio::test]
async fn an_undecidable_commit_is_refused_and_never_rerun() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    let reaped = in_doubt(&fixture, &id, || {
        fixture.clock.advance(200_000_000);
    });
    assert_eq!(reaped.await, REFUSED, "the row is gone");
    assert_eq!(fixture.counters().runs.get(), 1);

    let fixture = SessionFixture::new();
    fixture.store.keeps_tokens.store(false, Ordering::Relaxed);
    let id = fixture.make(None, &[("n", "1")]);
    fixture.store.will_commit([Fate::DoneReplyLost]);
    assert_eq!(refused(fixture.request(&id, bump()).await), REFUSED);
    assert_eq!(fixture.counters().runs.get(), 1);
    assert_eq!(fixture.asked().await, [Asked::Load, Asked::Replace]);
}

#[tokio::test]
async fn an_ambiguous_creation_is_repeated_under_another_id() {
    for fate in [
        Fate::DoneReplyLost,
        Fate::NotDoneReplyLost,
        Fate::LateReplyLost,
    ] {
        let fixture = SessionFixture::new();
        fixture.store.will_commit([fate.clone()]);
        let (sum, cookie) = answered(fixture.first_request(bump()).await);
        assert_eq!(sum, 1);
        let ids = fixture.store.ids();
        assert_eq!(ids.len(), 2, "{fate:?}");
        assert!(ids[0] != ids[1] && set_for(&cookie) == ids[1]);
        assert_eq!(fixture.entry(&ids[1], "n").await.as_deref(), Some("1"));
        assert_eq!(fixture.counters().runs.get(), 1);
    }
}

#[tokio::test]
async fn a_creation_that_stays_ambiguous_is_refused_without_a_cookie() {
    let fixture = SessionFixture::new();
    fixture.store.will(Fate::NotDoneReplyLost);
    assert_eq!(refused(fixture.first_request(bump()).await), REFUSED);
    assert_eq!(fixture.asked().await, [Asked::Create; 3]);
    assert_eq!(fixture.rows(), 0);
}

#[tokio::test]
async fn a_lost_reply_of_a_renew_or_a_destroy_is_settled_too() {
    for fate in [Fate::DoneReplyLost, Fate::NotDoneReplyLost] {
        let fixture = SessionFixture::new();
        let id = fixture.make(None, &[("n", "1")]);
        fixture.store.will_commit([fate.clone()]);
        let renew = guest(|session, _| async move { Ok(session.renew().await?) });
        let renewed = set_for(&answered(fixture.request(&id, renew).await).1);
        assert_eq!(
            fixture.entry(&renewed, "n").await.as_deref(),
            Some("1"),
            "{fate:?}"
        );
        assert_eq!(fixture.rows(), 1);
        fixture.store.will_commit([fate.clone()]);
        let destroy = guest(|session, _| async move { Ok(session.destroy().await?) });
        let (_, cookie) = answered(fixture.request(&renewed, destroy).await);
        assert!(matches!(cookie, CookieChange::Expire { .. }), "{fate:?}");
        assert_eq!(fixture.rows(), 0);
    }
}

#[tokio::test]
async fn a_commit_whose_replies_stay_lost_is_refused_at_the_deadline() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("n", "1")]);
    let mut visit = fixture.visit(Some(&id));
    visit.deadline = (Instant::now() + Duration::from_millis(60)).into();
    fixture.store.will_load([Fate::Done]);
    fixture.store.will(Fate::NotDoneReplyLost);
    let outcome = fixture.manager.transact(visit, &mut bump()).await;
    assert_eq!(refused(outcome), REFUSED);
    let tries = fixture.asked().await.len() - 1;
    assert!(
        (2..12).contains(&tries),
        "{tries} tries, with waits between them"
    );
    assert_eq!(fixture.entry(&id, "n").await.as_deref(), Some("1"));
}

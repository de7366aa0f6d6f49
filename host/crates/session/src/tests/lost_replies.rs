//! Commits whose reply is lost: they are settled if their outcome can be determined, and given up otherwise.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{CookieChange, TransactionRefusal};
use super::guest::{answered, bump, guest, refused};
use super::house::{House, set_for};
use super::stubborn::{Asked, Fate, Gate};
use crate::record::SessionId;
use crate::store::CommitVerdict;

const REFUSED: (TransactionRefusal, CookieChange) =
    (TransactionRefusal::StoreUnavailable, CookieChange::Keep);

#[tokio::test]
async fn a_lost_reply_of_a_commit_that_landed_counts_once() {
    let house = House::new();
    let id = house.make(Some(60_000), &[("n", "1")]);
    // A first commit by Cloakroom, so that the row has a token.
    answered(house.request(&id, bump()).await);
    house.store.take_asked();
    house.store.will_commit([Fate::DoneReplyLost]);
    let (sum, cookie) = answered(house.request(&id, bump()).await);
    assert_eq!((sum, set_for(&cookie)), (3, id.clone()));
    assert_eq!(house.entry(&id, "n").await.as_deref(), Some("3"));
    let asked = house.asked().await;
    assert_eq!(asked, [Asked::Replace, Asked::Replace, Asked::Load]);
    assert_eq!(house.counters().runs.get(), 2);
}

#[tokio::test]
async fn a_lost_reply_of_a_commit_that_did_not_land_is_sent_again() {
    let house = House::new();
    let id = house.make(None, &[("n", "1")]);
    house
        .store
        .will_commit([Fate::NotDoneReplyLost, Fate::NotDoneReplyLost]);
    assert_eq!(answered(house.request(&id, bump()).await).0, 2);
    assert_eq!(house.entry(&id, "n").await.as_deref(), Some("2"));
    assert_eq!(house.counters().ambiguous_commits.get(), 1);
    assert_eq!(house.counters().runs.get(), 1);
}

#[tokio::test]
async fn a_commit_that_arrives_late_changes_nothing_more() {
    let house = House::new();
    let id = house.make(None, &[("n", "1")]);
    house.store.will_commit([Fate::LateReplyLost]);
    answered(house.request(&id, bump()).await);
    answered(house.request(&id, bump()).await);
    let verdicts = house.store.deliver(house.clock.now_s()).await;
    assert!(matches!(verdicts[..], [CommitVerdict::Conflict]));
    assert_eq!(house.entry(&id, "n").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_rollback_proves_nothing_of_a_commit_whose_reply_was_lost() {
    let house = House::new();
    let id = house.make(None, &[("n", "1")]);
    answered(house.request(&id, bump()).await);
    house.store.take_asked();
    house
        .store
        .will_commit([Fate::LateReplyLost, Fate::RolledBack, Fate::RolledBack]);
    assert_eq!(answered(house.request(&id, bump()).await).0, 3);
    let verdicts = house.store.deliver(house.clock.now_s()).await;
    assert!(matches!(verdicts[..], [CommitVerdict::Conflict]));
    assert_eq!(house.entry(&id, "n").await.as_deref(), Some("3"));
    assert_eq!(house.asked().await, [Asked::Replace; 4]);
}

#[tokio::test]
async fn a_commit_that_is_rolled_back_is_tried_again_until_it_lands() {
    let house = House::new();
    let id = house.make(None, &[("n", "1")]);
    house
        .store
        .will_commit([Fate::RolledBack, Fate::RolledBack]);
    assert_eq!(answered(house.request(&id, bump()).await).0, 2);
    house.store.will_commit([Fate::RolledBack]);
    let (_, cookie) = answered(house.manager.transact(house.visit(None), &mut bump()).await);
    assert_eq!(
        house.entry(&set_for(&cookie), "n").await.as_deref(),
        Some("1")
    );
    assert_eq!(house.counters().runs.get(), 2);
}

#[tokio::test]
async fn a_lost_commit_that_another_one_overtook_runs_again() {
    let house = Arc::new(House::new());
    let id = house.make(None, &[("n", "1")]);
    answered(house.request(&id, bump()).await);
    let gate = Gate::new();
    house.store.will_commit([gate.then(Fate::NotDoneReplyLost)]);
    let first = tokio::spawn({
        let (house, id) = (Arc::clone(&house), id.clone());
        async move { house.request(&id, bump()).await }
    });
    gate.arrival().await;
    let another = house.another_manager();
    let outcome = another.transact(house.visit(Some(&id)), &mut bump()).await;
    assert_eq!(answered(outcome).0, 3);
    gate.open();
    assert_eq!(answered(first.await.expect("no panic")).0, 4);
    assert_eq!(house.entry(&id, "n").await.as_deref(), Some("4"));
    assert_eq!(house.counters().reruns.get(), 1);
}

/// Returns the outcome of a commit that succeeded but whose reply was lost, after `meanwhile` has changed the row.
async fn in_doubt(
    house: &House,
    id: &SessionId,
    meanwhile: impl FnOnce(),
) -> (TransactionRefusal, CookieChange) {
    let gate = Gate::new();
    house
        .store
        .will_commit([Fate::DoneReplyLost, gate.then(Fate::Done)]);
    let request = house.request(id, bump());
    let meanwhile = async {
        gate.arrival().await;
        meanwhile();
        gate.open();
    };
    let (outcome, ()) = futures_util::join!(request, meanwhile);
    refused(outcome)
}

#[tokio::test]
async fn what_nothing_can_tell_is_refused_and_never_run_again() {
    let house = House::new();
    let id = house.make(None, &[("n", "1")]);
    let reaped = in_doubt(&house, &id, || {
        house.clock.advance(200_000_000);
    });
    assert_eq!(reaped.await, REFUSED, "the row is gone");
    assert_eq!(house.counters().runs.get(), 1);

    let house = House::new();
    house.store.keeps_tokens.store(false, Ordering::Relaxed);
    let id = house.make(None, &[("n", "1")]);
    house.store.will_commit([Fate::DoneReplyLost]);
    assert_eq!(refused(house.request(&id, bump()).await), REFUSED);
    assert_eq!(house.counters().runs.get(), 1);
    assert_eq!(house.asked().await, [Asked::Load, Asked::Replace]);
}

#[tokio::test]
async fn a_creation_in_doubt_gets_another_id() {
    for fate in [
        Fate::DoneReplyLost,
        Fate::NotDoneReplyLost,
        Fate::LateReplyLost,
    ] {
        let house = House::new();
        house.store.will_commit([fate.clone()]);
        let (sum, cookie) = answered(house.first_request(bump()).await);
        assert_eq!(sum, 1);
        let ids = house.store.ids();
        assert_eq!(ids.len(), 2, "{fate:?}");
        assert!(ids[0] != ids[1] && set_for(&cookie) == ids[1]);
        assert_eq!(house.entry(&ids[1], "n").await.as_deref(), Some("1"));
        assert_eq!(house.counters().runs.get(), 1);
    }
}

#[tokio::test]
async fn a_creation_that_stays_in_doubt_is_given_up_without_a_cookie() {
    let house = House::new();
    house.store.will(Fate::NotDoneReplyLost);
    assert_eq!(refused(house.first_request(bump()).await), REFUSED);
    assert_eq!(house.asked().await, [Asked::Create; 3]);
    assert_eq!(house.rows(), 0);
}

#[tokio::test]
async fn a_lost_reply_of_a_move_or_an_end_is_settled_too() {
    for fate in [Fate::DoneReplyLost, Fate::NotDoneReplyLost] {
        let house = House::new();
        let id = house.make(None, &[("n", "1")]);
        house.store.will_commit([fate.clone()]);
        let renew = guest(|session, _| async move { Ok(session.renew().await?) });
        let renewed = set_for(&answered(house.request(&id, renew).await).1);
        assert_eq!(
            house.entry(&renewed, "n").await.as_deref(),
            Some("1"),
            "{fate:?}"
        );
        assert_eq!(house.rows(), 1);
        house.store.will_commit([fate.clone()]);
        let destroy = guest(|session, _| async move { Ok(session.destroy().await?) });
        let (_, cookie) = answered(house.request(&renewed, destroy).await);
        assert!(matches!(cookie, CookieChange::Expire { .. }), "{fate:?}");
        assert_eq!(house.rows(), 0);
    }
}

#[tokio::test]
async fn a_link_that_stays_cut_is_refused_at_the_deadline() {
    let house = House::new();
    let id = house.make(None, &[("n", "1")]);
    let mut visit = house.visit(Some(&id));
    visit.deadline = (Instant::now() + Duration::from_millis(60)).into();
    house.store.will_load([Fate::Done]);
    house.store.will(Fate::NotDoneReplyLost);
    let outcome = house.manager.transact(visit, &mut bump()).await;
    assert_eq!(refused(outcome), REFUSED);
    let tries = house.asked().await.len() - 1;
    assert!(
        (2..12).contains(&tries),
        "{tries} tries, with waits between them"
    );
    assert_eq!(house.entry(&id, "n").await.as_deref(), Some("1"));
}

//! `save` and `reload`: commits in the middle of a run, which cannot be undone.

use super::super::{CookieChange, Session, SessionOptions, TransactionRefusal};
use super::fixture::{SessionFixture, keys, set_for};
use super::guest::{Trap, answered, failed, guest, refused};
use super::stubborn::Asked;

#[tokio::test]
async fn after_a_save_reads_that_hold_are_applied_and_others_refused() {
    for (changed, is_answered) in [("a", false), ("b", true)] {
        let fixture = SessionFixture::new();
        let id = fixture.make(None, &[("a", "1"), ("b", "1")]);
        let mut guest = guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.set("saved", "1").await?;
                session.save().await?;
                session.get("a").await?;
                let other =
                    guest(move |session, _| async move { Ok(session.set(changed, "2").await?) });
                answered(fixture.request(id, other).await);
                session.set("z", "1").await?;
                Ok(())
            }
        });
        let visit = fixture.visit(Some(&id));
        let outcome = fixture.manager.transact(visit, &mut guest).await;
        assert_eq!(guest.runs, 1);
        assert_eq!(fixture.entry(&id, "saved").await.as_deref(), Some("1"));
        assert_eq!(fixture.entry(&id, changed).await.as_deref(), Some("2"));
        if is_answered {
            answered(outcome);
            assert_eq!(fixture.entry(&id, "z").await.as_deref(), Some("1"));
        } else {
            assert_eq!(refused(outcome).0, TransactionRefusal::Conflict);
            assert_eq!(fixture.entry(&id, "z").await, None);
        }
    }
}

#[tokio::test]
async fn a_conflict_inside_the_save_itself_runs_again() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, number| {
            let (fixture, id) = (&fixture, &id);
            async move {
                let sum = session.increment("a", 1).await?;
                if number == 1 {
                    fixture.overwrite(id, None, &[("a", "5")]);
                }
                session.save().await?;
                Ok((number, sum))
            }
        }),
    );
    assert_eq!(answered(outcome.await).0, (2, 6));
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("6"));
}

#[tokio::test]
async fn saved_changes_stay_when_the_guest_fails() {
    let fixture = SessionFixture::new();
    let trap = |session: Session, _| async move {
        session.set("saved", "1").await?;
        session.save().await?;
        session.set("unsaved", "1").await?;
        Err::<(), _>(Trap::OfItself)
    };
    let (why, cookie) = failed(fixture.first_request(guest(trap)).await);
    assert_eq!(why, Trap::OfItself);
    let id = set_for(&cookie);
    assert_eq!(fixture.entry(&id, "saved").await.as_deref(), Some("1"));
    assert_eq!(fixture.entry(&id, "unsaved").await, None);
}

#[tokio::test]
async fn the_cookie_of_a_saved_session_goes_out_with_a_conflict_too() {
    let fixture = SessionFixture::new();
    let outcome = fixture.first_request(guest(|session, _| {
        let fixture = &fixture;
        async move {
            session.set("a", "1").await?;
            session.save().await?;
            let id = fixture.id_of(&session).await;
            session.increment("a", 1).await?;
            fixture.overwrite(&id, None, &[("a", "7")]);
            Ok(())
        }
    }));
    let (refusal, cookie) = refused(outcome.await);
    assert_eq!(refusal, TransactionRefusal::Conflict);
    let id = set_for(&cookie);
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("7"));
}

#[tokio::test]
async fn a_session_that_vanished_after_its_save_is_not_written_back() {
    let fixture = SessionFixture::new();
    let id = fixture.make(Some(60_000), &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.set("a", "2").await?;
                session.save().await?;
                let other = guest(|session, _| async move { Ok(session.destroy().await?) });
                answered(fixture.request(id, other).await);
                session.set("a", "3").await?;
                Ok(())
            }
        }),
    );
    assert_eq!(refused(outcome.await).0, TransactionRefusal::Conflict);
    assert_eq!(fixture.rows(), 0);
}

#[tokio::test]
async fn a_new_session_has_a_fingerprint_from_its_save_on() {
    let fixture = SessionFixture::new();
    let outcome = fixture.first_request(guest(|session, _| async move {
        let before = session.fingerprint().await?;
        session.set("a", "1").await?;
        let unsaved = session.fingerprint().await?;
        session.save().await?;
        let saved = session.fingerprint().await?;
        session.renew().await?;
        let renewed = session.fingerprint().await?;
        Ok((before, unsaved, saved, renewed))
    }));
    let ((before, unsaved, saved, renewed), cookie) = answered(outcome.await);
    assert_eq!((before, unsaved), (None, None));
    let id = set_for(&cookie);
    assert_eq!(renewed, Some(keys().fingerprint(&id)));
    assert!(saved.is_some() && saved != renewed);
    assert_eq!(fixture.rows(), 1);
}

#[tokio::test]
async fn a_save_whose_caller_is_gone_is_finished() {
    let fixture = SessionFixture::new();
    fixture
        .store
        .pauses
        .store(3, std::sync::atomic::Ordering::Relaxed);
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move {
            session.set("a", "2").await?;
            let mut saving = Box::pin(session.save());
            assert!(futures_util::poll!(&mut saving).is_pending());
            drop(saving);
            Err::<(), _>(Trap::OfItself)
        }),
    );
    failed(outcome.await);
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_reload_discards_uncommitted_changes() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.clear().await?;
                session.renew().await?;
                session.set_max_age(Some(9_000)).await?;
                fixture.overwrite(id, None, &[("a", "2")]);
                session.reload().await?;
                Ok((session.get("a").await?, session.list_keys().await?))
            }
        }),
    );
    let ((a, keys), cookie) = answered(outcome.await);
    assert_eq!(
        (a.as_deref(), &keys[..]),
        (Some("2"), &["a".to_owned()][..])
    );
    assert_eq!(cookie, CookieChange::Keep);
    assert_eq!(fixture.counters().commits.get(), 0);
}

#[tokio::test]
async fn a_reload_sees_its_own_save() {
    let fixture = SessionFixture::new();
    let outcome = fixture.first_request(guest(|session, _| async move {
        session.set("a", "1").await?;
        session.save().await?;
        session.set("a", "2").await?;
        session.reload().await?;
        Ok(session.get("a").await?)
    }));
    assert_eq!(answered(outcome.await).0.as_deref(), Some("1"));
    assert_eq!(fixture.asked().await, [Asked::Create, Asked::Load]);
}

#[tokio::test]
async fn a_reload_of_a_session_without_a_row_starts_it_afresh() {
    let fixture = SessionFixture::new();
    let outcome = fixture.first_request(guest(|session, _| async move {
        session.set("a", "1").await?;
        session.reload().await?;
        Ok(session.get("a").await?)
    }));
    assert_eq!(answered(outcome.await), (None, CookieChange::Keep));
    assert_eq!(fixture.asked().await, []);
}

#[tokio::test]
async fn a_saved_destroy_is_not_undone_by_later_calls() {
    for expire_on_destroy in [true, false] {
        let fixture = SessionFixture::with(SessionOptions {
            expire_on_destroy,
            ..SessionOptions::default()
        });
        let id = fixture.make(None, &[("a", "1")]);
        let outcome = fixture.request(
            &id,
            guest(|session, _| async move {
                session.destroy().await?;
                session.save().await?;
                assert!(session.set("a", "2").await.is_err());
                Ok(session.get("a").await?)
            }),
        );
        let (seen, cookie) = answered(outcome.await);
        assert_eq!(seen, None);
        let is_expired = matches!(cookie, CookieChange::Expire { .. });
        assert_eq!(is_expired, expire_on_destroy);
        assert_eq!(fixture.rows(), 0);
        assert_eq!(fixture.asked().await, [Asked::Load, Asked::BlindDelete]);
    }
}

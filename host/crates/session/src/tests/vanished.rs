//! Sessions that end while a request uses them: they are never written back, and their visitor's cookie is not changed.

use super::super::{CookieChange, Session, SessionCallError, SessionError};
use super::fixture::{SessionFixture, set_for};
use super::guest::{answered, guest};
use super::stubborn::Asked;
use crate::record::SessionId;

/// How a session ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Another request destroys it.
    Destroyed,
    /// Another request gives it another id.
    Renewed,
    /// Its lifetime is over.
    Expired,
}

const ENDS: [End; 3] = [End::Destroyed, End::Renewed, End::Expired];

async fn end(fixture: &SessionFixture, id: &SessionId, how: End) {
    match how {
        End::Destroyed => {
            let other = guest(|session, _| async move { Ok(session.destroy().await?) });
            answered(fixture.request(id, other).await);
        }
        End::Renewed => {
            let other = guest(|session, _| async move { Ok(session.renew().await?) });
            answered(fixture.request(id, other).await);
        }
        End::Expired => fixture.clock.advance(100_000_000),
    }
}

/// Checks the properties of every detached run: the session is empty and writable, and has no fingerprint.
async fn look_around(session: &Session) -> Result<(), SessionCallError> {
    assert_eq!(session.get("a").await?, None);
    assert_eq!(session.list_keys().await?, Vec::<String>::new());
    assert_eq!(session.fingerprint().await?, None);
    session.set("own", "1").await?;
    assert_eq!(session.get("own").await?.as_deref(), Some("1"));
    assert_eq!(session.increment("own", 1).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_run_whose_row_vanished_runs_again_without_a_session() {
    for how in ENDS {
        let fixture = SessionFixture::new();
        let id = fixture.make(Some(60_000), &[("a", "1")]);
        let outcome = fixture.request(
            &id,
            guest(|session, number| {
                let (fixture, id) = (&fixture, &id);
                async move {
                    if number == 2 {
                        look_around(&session).await?;
                        return Ok(number);
                    }
                    session.set("b", "2").await?;
                    end(fixture, id, how).await;
                    Ok(number)
                }
            }),
        );
        assert_eq!(answered(outcome.await), (2, CookieChange::Keep), "{how:?}");
        assert_eq!(fixture.entry(&id, "b").await, None, "{how:?}");
        let left = if matches!(how, End::Destroyed) { 0 } else { 1 };
        assert_eq!(fixture.rows(), left, "{how:?}: no row is made");
    }
}

/// Changes that each write something. After any of them, the store must contain nothing.
#[derive(Clone, Copy, Debug)]
enum Last {
    Set,
    Renew,
    Regenerate,
    SetMaxAge,
    Save,
}

#[tokio::test]
async fn a_detached_run_stores_nothing() {
    for last in [
        Last::Set,
        Last::Renew,
        Last::Regenerate,
        Last::SetMaxAge,
        Last::Save,
    ] {
        let fixture = SessionFixture::new();
        let id = fixture.make(Some(60_000), &[("a", "1")]);
        let outcome = fixture.request(
            &id,
            guest(|session, number| {
                let (fixture, id) = (&fixture, &id);
                async move {
                    match last {
                        Last::Renew => session.renew().await?,
                        Last::Regenerate => session.regenerate().await?,
                        Last::SetMaxAge => session.set_max_age(Some(5_000)).await?,
                        Last::Set | Last::Save => session.set("a", "2").await?,
                    }
                    if number == 1 {
                        end(fixture, id, End::Destroyed).await;
                    }
                    if matches!(last, Last::Save) {
                        session.save().await?;
                    }
                    Ok(number)
                }
            }),
        );
        let told = answered(outcome.await);
        assert_eq!(told, (2, CookieChange::Keep), "{last:?}");
        assert_eq!(fixture.rows(), 0, "{last:?}");
    }
}

#[tokio::test]
async fn a_row_that_vanished_before_a_reload_is_no_session_either() {
    for how in ENDS {
        let fixture = SessionFixture::new();
        let id = fixture.make(None, &[("a", "1")]);
        let outcome = fixture.request(
            &id,
            guest(|session, number| {
                let (fixture, id) = (&fixture, &id);
                async move {
                    let seen = session.get("a").await?;
                    if number == 1 {
                        end(fixture, id, how).await;
                    }
                    session.reload().await?;
                    Ok((number, seen))
                }
            }),
        );
        let told = answered(outcome.await);
        assert_eq!(told, ((2, None), CookieChange::Keep), "{how:?}");
    }
}

#[tokio::test]
async fn two_logouts_at_once_both_succeed() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.destroy().await?;
                end(fixture, id, End::Destroyed).await;
                Ok(())
            }
        }),
    );
    let (_, cookie) = answered(outcome.await);
    assert!(matches!(cookie, CookieChange::Expire { .. }));
    assert_eq!(
        fixture.counters().reruns.get(),
        0,
        "a blind deletion has nothing to be wrong about"
    );
}

#[tokio::test]
async fn of_two_logins_at_once_one_has_the_session() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let mut inner = None;
    let id_found = parking_lot::Mutex::new(&mut inner);
    let outcome = fixture.request(
        &id,
        guest(|session, number| {
            let (fixture, id, id_found) = (&fixture, &id, &id_found);
            async move {
                session.regenerate().await?;
                session.set("user", "\"outer\"").await?;
                if number == 1 {
                    let other = guest(|session, _| async move {
                        session.regenerate().await?;
                        Ok(session.set("user", "\"inner\"").await?)
                    });
                    let cookie = answered(fixture.request(id, other).await).1;
                    **id_found.lock() = Some(set_for(&cookie));
                }
                Ok(number)
            }
        }),
    );
    assert_eq!(answered(outcome.await), (2, CookieChange::Keep));
    let winner = inner.expect("the inner one has logged in");
    assert_eq!(
        fixture.entry(&winner, "user").await.as_deref(),
        Some("\"inner\"")
    );
    assert_eq!(fixture.rows(), 1);
}

#[tokio::test]
async fn a_slow_request_does_not_undo_a_logout_of_express() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let delete = crate::store::Commit {
        id: id.clone(),
        change: crate::store::RowChange::Delete { base: None },
    };
    let outcome = fixture.request(
        &id,
        guest(|session, number| {
            let (fixture, delete) = (&fixture, &delete);
            async move {
                session.set("a", "2").await?;
                if number == 1 {
                    let express = &fixture.store.inner;
                    let deleting = crate::store::SessionStore::commit_many(
                        &**express,
                        std::slice::from_ref(delete),
                        0,
                    );
                    deleting.await;
                }
                Ok(())
            }
        }),
    );
    assert_eq!(answered(outcome.await).1, CookieChange::Keep);
    assert_eq!(fixture.rows(), 0);
    let asked = fixture.asked().await;
    assert_eq!(asked, [Asked::Load, Asked::Replace, Asked::Load]);
}

#[tokio::test]
async fn a_destroyed_session_reads_as_empty_and_refuses_changes() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| async move {
            session.destroy().await?;
            assert_eq!(session.get("a").await?, None);
            assert_eq!(session.list_keys().await?, Vec::<String>::new());
            assert_eq!(session.fingerprint().await?, None);
            session.cookie().await?;
            let refusals = [
                session.set("a", "1").await,
                session.delete("a").await,
                session.add("a", 1).await,
                session.increment("a", 1).await.map(drop),
                session.clear().await,
                session.renew().await,
                session.touch().await,
                session.set_max_age(None).await,
                session.reload().await,
            ];
            for (n, refusal) in refusals.into_iter().enumerate() {
                let is_invalid = matches!(
                    refusal,
                    Err(SessionCallError::Guest(SessionError::Invalid(_)))
                );
                assert!(is_invalid, "the {n}th: {refusal:?}");
            }
            session.destroy().await?;
            session.unset().await?;
            session.regenerate().await?;
            session.set("b", "2").await?;
            Ok(session.list_keys().await?)
        }),
    );
    let (keys, cookie) = answered(outcome.await);
    assert_eq!(keys, ["b"]);
    let regenerated = set_for(&cookie);
    assert_eq!(fixture.entry(&regenerated, "b").await.as_deref(), Some("2"));
    assert_eq!(fixture.rows(), 1);
}

//! Runs whose row another request has changed: the log is applied to the newer row if the data that the run saw is the same
//! there. Otherwise the guest is run again.

use super::super::{Session, SessionOptions, UnsetPolicy};
use super::fixture::SessionFixture;
use super::guest::{Trap, answered, guest};
use super::stubborn::Asked;
use crate::record::SessionId;

/// A call of the guest before another program writes the row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Get(&'static str),
    ListKeys,
    Cookie,
    Fingerprint,
    Set(&'static str),
    Add(&'static str),
    Increment(&'static str),
    Delete(&'static str),
    Clear,
    Touch,
    SetMaxAge,
    Reload,
    Renew,
    Regenerate,
}

async fn make(session: &Session, call: Call) -> Result<(), Trap> {
    // A refusal also counts as data that the guest has seen.
    match call {
        Call::Get(key) => drop(session.get(key).await?),
        Call::ListKeys => drop(session.list_keys().await?),
        Call::Cookie => drop(session.cookie().await?),
        Call::Fingerprint => drop(session.fingerprint().await?),
        Call::Set(key) => session.set(key, "\"mine\"").await?,
        Call::Add(key) => drop(session.add(key, 1).await),
        Call::Increment(key) => drop(session.increment(key, 1).await),
        Call::Delete(key) => session.delete(key).await?,
        Call::Clear => session.clear().await?,
        Call::Touch => session.touch().await?,
        Call::SetMaxAge => session.set_max_age(Some(5_000)).await?,
        Call::Reload => session.reload().await?,
        Call::Renew => session.renew().await?,
        Call::Regenerate => session.regenerate().await?,
    }
    Ok(())
}

/// The content of a row, before and after another program's write: its cookie's lifetime and its entries.
type Content = (Option<i64>, &'static [(&'static str, &'static str)]);

const BEFORE: Content = (None, &[("a", "1"), ("b", "2"), ("t", "\"text\"")]);
const OTHER_A: Content = (None, &[("a", "7"), ("b", "2"), ("t", "\"text\"")]);
const OTHER_B: Content = (None, &[("a", "1"), ("b", "7"), ("t", "\"text\"")]);
const MORE: Content = (
    None,
    &[("a", "1"), ("b", "2"), ("t", "\"text\""), ("c", "7")],
);
const LESS: Content = (None, &[("b", "2"), ("t", "\"text\"")]);
const OTHER_ORDER: Content = (None, &[("b", "2"), ("a", "1"), ("t", "\"text\"")]);
const OTHER_COOKIE: Content = (Some(90_000), BEFORE.1);
const T_IS_NUMBER: Content = (None, &[("a", "1"), ("b", "2"), ("t", "3")]);
const A_IS_TEXT: Content = (None, &[("a", "\"text\""), ("b", "2"), ("t", "\"text\"")]);

/// Returns how many runs a guest needs that makes these calls and then writes `z`, while the row becomes `after` in between.
async fn runs(calls: &'static [Call], after: Content) -> u32 {
    let fixture = SessionFixture::new();
    let id = fixture.make(BEFORE.0, BEFORE.1);
    let mut guest = guest(|session, number| {
        let (fixture, id) = (&fixture, &id);
        async move {
            fixture.loaded().await;
            for call in calls {
                make(&session, *call).await?;
            }
            if number == 1 {
                fixture.overwrite(id, after.0, after.1);
            }
            session.set("z", "true").await?;
            Ok(())
        }
    });
    let visit = fixture.visit(Some(&id));
    answered(fixture.manager.transact(visit, &mut guest).await);
    let runs = guest.runs;
    let reapplies = fixture.counters().reapplies.get();
    assert_eq!(reapplies, u64::from(runs == 1), "{calls:?}, {after:?}");
    runs
}

#[tokio::test]
async fn a_run_whose_reads_hold_is_applied_to_the_newer_row() {
    let cases: &[(&'static [Call], Content)] = &[
        (&[], OTHER_A),
        (&[Call::Get("a")], OTHER_B),
        (&[Call::Get("a")], MORE),
        (&[Call::Get("a")], OTHER_COOKIE),
        (&[Call::Get("a")], OTHER_ORDER),
        (&[Call::Get("absent")], MORE),
        (&[Call::Get("cookie")], OTHER_COOKIE),
        (&[Call::ListKeys], OTHER_COOKIE),
        (&[Call::Cookie], OTHER_A),
        (&[Call::Fingerprint], OTHER_A),
        (&[Call::Set("a")], OTHER_A),
        (&[Call::Set("a"), Call::Get("a")], OTHER_A),
        (&[Call::Delete("a"), Call::Get("a")], OTHER_A),
        (&[Call::Clear, Call::Get("a"), Call::ListKeys], OTHER_A),
        (&[Call::Regenerate, Call::Cookie], OTHER_COOKIE),
        (&[Call::Add("a")], OTHER_A),
        (&[Call::Increment("a")], OTHER_B),
        (&[Call::Delete("a")], OTHER_A),
        (&[Call::Touch], OTHER_COOKIE),
        (&[Call::SetMaxAge], OTHER_COOKIE),
        (&[Call::Renew], OTHER_A),
        (&[Call::Reload], OTHER_A),
        (&[Call::Get("a"), Call::Reload], OTHER_B),
    ];
    for (calls, after) in cases {
        assert_eq!(runs(calls, *after).await, 1, "{calls:?}, {after:?}");
    }
}

#[tokio::test]
async fn a_run_whose_reads_have_changed_is_rerun() {
    let cases: &[(&'static [Call], Content)] = &[
        (&[Call::Get("a")], OTHER_A),
        (&[Call::Get("a")], LESS),
        (&[Call::Get("c")], MORE),
        (&[Call::Get("b"), Call::Get("a")], OTHER_A),
        (&[Call::ListKeys], MORE),
        (&[Call::ListKeys], LESS),
        (&[Call::ListKeys], OTHER_ORDER),
        (&[Call::Cookie], OTHER_COOKIE),
        (&[Call::Increment("a")], OTHER_A),
        (&[Call::Get("a"), Call::Set("a")], OTHER_A),
        (&[Call::Add("a"), Call::Get("a")], OTHER_A),
        (&[Call::Get("a"), Call::Clear], OTHER_A),
        (&[Call::Get("a"), Call::Reload], OTHER_A),
        (&[Call::Cookie, Call::Reload], OTHER_COOKIE),
        // Whether the sum fits depends on all entries.
        (&[Call::Add("a"), Call::Reload], OTHER_B),
        // An addition that was refused and would now succeed, and vice versa.
        (&[Call::Add("t")], T_IS_NUMBER),
        (&[Call::Add("a")], A_IS_TEXT),
    ];
    for (calls, after) in cases {
        assert_eq!(runs(calls, *after).await, 2, "{calls:?}, {after:?}");
    }
}

#[tokio::test]
async fn a_write_that_no_longer_fits_the_key_limit_is_rerun() {
    let fixture = SessionFixture::with(SessionOptions {
        keys_max: 3,
        ..SessionOptions::default()
    });
    let id = fixture.make(None, &[("a", "1"), ("b", "2")]);
    let outcome = fixture.request(
        &id,
        guest(|session, number| {
            let (fixture, id) = (&fixture, &id);
            async move {
                let told = session.set("mine", "1").await;
                if number == 1 {
                    fixture.overwrite(id, None, &[("a", "1"), ("b", "2"), ("c", "3")]);
                }
                Ok((number, told.is_ok()))
            }
        }),
    );
    let (answer, _) = answered(outcome.await);
    assert_eq!(
        answer,
        (2, false),
        "the second run gets the error that the session is full"
    );
    assert_eq!(fixture.entry(&id, "mine").await, None);
}

#[tokio::test]
async fn both_writers_changes_are_in_the_row() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.set("mine", "1").await?;
                let theirs =
                    guest(|session, _| async move { Ok(session.set("theirs", "2").await?) });
                answered(fixture.request(id, theirs).await);
                Ok(())
            }
        }),
    );
    answered(outcome.await);
    assert_eq!(fixture.entry(&id, "mine").await.as_deref(), Some("1"));
    assert_eq!(fixture.entry(&id, "theirs").await.as_deref(), Some("2"));
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_second_run_sees_the_newer_row_and_nothing_of_the_first() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, number| {
            let (fixture, id) = (&fixture, &id);
            async move {
                let read = session.get("a").await?;
                if number == 1 {
                    session.set("only-first", "1").await?;
                    fixture.overwrite(id, None, &[("a", "2")]);
                }
                session.set("last", &number.to_string()).await?;
                Ok(read)
            }
        }),
    );
    assert_eq!(answered(outcome.await).0.as_deref(), Some("2"));
    assert_eq!(fixture.entry(&id, "only-first").await, None);
    assert_eq!(fixture.entry(&id, "last").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_guest_that_continues_after_an_interruption_is_still_rerun() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, number| {
            let (fixture, id) = (&fixture, &id);
            async move {
                session.get("a").await?;
                if number == 1 {
                    fixture.overwrite(id, None, &[("a", "2")]);
                    let interrupted = session.reload().await;
                    assert!(interrupted.is_err());
                    let after = session.set("a", "\"too late\"").await;
                    assert_eq!(after, Err(super::super::SessionCallError::Interrupted));
                }
                Ok(number)
            }
        }),
    );
    assert_eq!(answered(outcome.await).0, 2);
    assert_eq!(fixture.entry(&id, "a").await.as_deref(), Some("2"));
}

/// Runs a guest that ends the session after `calls`, by `unset` or `destroy`, while the row changes. Returns the number of
/// runs and the store calls.
async fn end(calls: &'static [Call], by_unset: bool) -> (u32, Vec<Asked>, bool) {
    let fixture = SessionFixture::with(SessionOptions {
        unset: UnsetPolicy::Destroy,
        ..SessionOptions::default()
    });
    let id = fixture.make(BEFORE.0, BEFORE.1);
    let mut guest = guest(|session, number| {
        let (fixture, id) = (&fixture, &id);
        async move {
            fixture.loaded().await;
            for call in calls {
                make(&session, *call).await?;
            }
            if number == 1 {
                fixture.overwrite(id, OTHER_A.0, OTHER_A.1);
            }
            match by_unset {
                true => session.unset().await?,
                false => session.destroy().await?,
            }
            Ok(())
        }
    });
    let visit = fixture.visit(Some(&id));
    answered(fixture.manager.transact(visit, &mut guest).await);
    let is_gone = fixture.row(&id).await.is_none();
    (guest.runs, fixture.asked().await, is_gone)
}

#[tokio::test]
async fn a_delete_is_unconditional_without_reads_and_compared_with_reads() {
    for by_unset in [false, true] {
        let blind = vec![Asked::Load, Asked::BlindDelete];
        assert_eq!(end(&[], by_unset).await, (1, blind.clone(), true));
        assert_eq!(end(&[Call::Clear], by_unset).await, (1, blind, true));
        let compared = vec![Asked::Load, Asked::Delete, Asked::Load, Asked::Delete];
        let read_a = end(&[Call::Get("a")], by_unset).await;
        assert_eq!(
            read_a,
            (2, compared.clone(), true),
            "it may decide otherwise"
        );
        let read_b = end(&[Call::Get("b")], by_unset).await;
        assert_eq!(read_b, (1, compared, true), "what it read holds");
    }
}

#[tokio::test]
async fn a_renewed_session_takes_the_newer_data_along() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id): (&SessionFixture, &SessionId) = (&fixture, &id);
            async move {
                session.renew().await?;
                fixture.overwrite(id, None, &[("a", "2")]);
                Ok(())
            }
        }),
    );
    let (_, cookie) = answered(outcome.await);
    let renewed = super::fixture::set_for(&cookie);
    assert_ne!(renewed, id);
    assert!(fixture.row(&id).await.is_none());
    assert_eq!(fixture.entry(&renewed, "a").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_foreign_write_of_the_same_bytes_is_no_conflict() {
    let fixture = SessionFixture::new();
    let id = fixture.make(None, &[("a", "1")]);
    let outcome = fixture.request(
        &id,
        guest(|session, _| {
            let (fixture, id) = (&fixture, &id);
            async move {
                let sum = session.increment("a", 1).await?;
                fixture.overwrite(id, None, &[("a", "1")]);
                Ok(sum)
            }
        }),
    );
    assert_eq!(answered(outcome.await).0, 2);
    assert_eq!(fixture.counters().conflicts.get(), 0);
}

//! Grants: every call is checked against the guest's grant first.

use std::sync::Arc;

use super::super::{
    CookieChange, KeyPatterns, Session, SessionCallError, SessionError, SessionGrant,
    SessionOptions,
};
use super::fixture::SessionFixture;
use super::guest::{answered, guest};
use super::stubborn::Asked;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Done,
    Denied,
    Other,
}

fn told<T>(result: Result<T, SessionCallError>) -> Told {
    match result {
        Ok(_) => Told::Done,
        Err(SessionCallError::Guest(SessionError::Denied(_))) => Told::Denied,
        Err(_) => Told::Other,
    }
}

/// Makes every call, in an order in which no call affects the next.
async fn all_calls(session: &Session) -> [(&'static str, Told); 15] {
    [
        ("get", told(session.get("a").await)),
        ("list-keys", told(session.list_keys().await)),
        ("fingerprint", told(session.fingerprint().await)),
        ("cookie", told(session.cookie().await)),
        ("reload", told(session.reload().await)),
        ("set", told(session.set("a", "1").await)),
        ("delete", told(session.delete("b").await)),
        ("add", told(session.add("n", 1).await)),
        ("increment", told(session.increment("n", 1).await)),
        ("touch", told(session.touch().await)),
        ("set-max-age", told(session.set_max_age(None).await)),
        ("renew", told(session.renew().await)),
        ("save", told(session.save().await)),
        ("clear", told(session.clear().await)),
        ("destroy", told(session.destroy().await)),
    ]
}

async fn under(grant: SessionGrant) -> (Vec<&'static str>, Vec<Asked>, CookieChange, usize) {
    let fixture = SessionFixture::with(SessionOptions {
        save_uninitialized: true,
        ..SessionOptions::default()
    });
    let id = fixture.make(Some(60_000), &[("a", "1"), ("n", "1")]);
    let mut visit = fixture.visit(Some(&id));
    visit.grant = Arc::new(grant);
    let mut guest = guest(|session, _| async move { Ok(all_calls(&session).await) });
    let (told, cookie) = answered(fixture.manager.transact(visit, &mut guest).await);
    assert!(
        told.iter().all(|(_, told)| *told != Told::Other),
        "{told:?}"
    );
    let done = told.into_iter().filter(|(_, told)| *told == Told::Done);
    let done = done.map(|(call, _)| call).collect();
    (done, fixture.asked().await, cookie, fixture.rows())
}

const READS: [&str; 5] = ["get", "list-keys", "fingerprint", "cookie", "reload"];

#[tokio::test]
async fn without_a_grant_every_call_is_denied_and_no_store_is_asked() {
    let (done, asked, cookie, rows) = under(SessionGrant::default()).await;
    assert_eq!((done.len(), asked.len(), rows), (0, 0, 1));
    assert_eq!(cookie, CookieChange::Keep);
}

#[tokio::test]
async fn a_read_grant_covers_all_calls_that_change_nothing() {
    let (done, asked, cookie, rows) = under(SessionGrant::read()).await;
    assert_eq!(done, READS);
    assert_eq!((asked, rows), (vec![Asked::Load, Asked::Load], 1));
    assert_eq!(cookie, CookieChange::Keep);
}

#[tokio::test]
async fn a_grant_to_write_covers_everything() {
    let (done, asked, _, rows) = under(SessionGrant::write()).await;
    assert_eq!(done.len(), 15);
    let moved = [Asked::Load, Asked::Load, Asked::Move, Asked::BlindDelete];
    assert_eq!((&asked[..], rows), (&moved[..], 0));
}

#[tokio::test]
async fn unset_and_regenerate_need_the_same_grant_as_destroy() {
    for (patterns, expected) in [(vec!["*"], Told::Done), (vec!["a", "b*"], Told::Denied)] {
        let fixture = SessionFixture::new();
        let mut visit = fixture.visit(None);
        visit.grant = Arc::new(SessionGrant {
            write_keys: KeyPatterns::new(patterns),
            ..SessionGrant::write()
        });
        let mut guest = guest(|session, _| async move {
            Ok([
                told(session.clear().await),
                told(session.regenerate().await),
                told(session.unset().await),
                told(session.destroy().await),
            ])
        });
        let (told, _) = answered(fixture.manager.transact(visit, &mut guest).await);
        assert_eq!(told, [expected; 4]);
    }
}

#[tokio::test]
async fn keys_outside_of_the_patterns_are_neither_seen_nor_changed() {
    let fixture = SessionFixture::new();
    let entries = [
        ("user", "1"),
        ("cart.items", "2"),
        ("cart.sum", "3"),
        ("secret", "4"),
    ];
    let id = fixture.make(None, &entries);
    let mut visit = fixture.visit(Some(&id));
    visit.grant = Arc::new(SessionGrant {
        read_keys: KeyPatterns::new(["user", "cart.*"]),
        write_keys: KeyPatterns::new(["cart.*", "secret"]),
        ..SessionGrant::write()
    });
    let mut guest = guest(|session, _| async move {
        assert_eq!(
            session.list_keys().await?,
            ["user", "cart.items", "cart.sum"]
        );
        // For each key, whether the guest may read, write, delete, add and increment. An increment both reads and writes.
        let mut may = Vec::new();
        for key in ["secret", "user", "users", "cart.sum"] {
            may.push([
                told(session.get(key).await),
                told(session.set(key, "7").await),
                told(session.add(key, 1).await),
                told(session.increment(key, 1).await),
            ]);
        }
        assert_eq!(told(session.delete("user").await), Told::Denied);
        Ok(may)
    });
    let (may, _) = answered(fixture.manager.transact(visit, &mut guest).await);
    let (done, denied) = (Told::Done, Told::Denied);
    let expected = [
        [denied, done, done, denied],
        [done, denied, denied, denied],
        [denied, denied, denied, denied],
        [done, done, done, done],
    ];
    assert_eq!(may, expected);
    assert_eq!(fixture.entry(&id, "secret").await.as_deref(), Some("8"));
    assert_eq!(fixture.entry(&id, "user").await.as_deref(), Some("1"));
    assert_eq!(fixture.entry(&id, "cart.sum").await.as_deref(), Some("9"));
}

#[tokio::test]
async fn a_handle_without_a_session_denies_everything() {
    let session = Session::none();
    let told = all_calls(&session).await;
    assert!(
        told.iter().all(|(_, told)| *told == Told::Denied),
        "{told:?}"
    );
    assert_eq!(format!("{session:?}"), "Session { .. }");
}

//! Visits with several valid cookies: at most one is the session's, no row is left without a cookie, and a logout ends all of them.

use super::super::{CookieChange, SessionOptions, TransactionRefusal, Visit, VisitStart};
use super::fixture::{NOW_MS, SessionFixture, keys, presented, set_for};
use super::guest::{Trap, answered, bump, guest, refused};
use super::stubborn::{Asked, Fate};
use crate::record::{CookieAttributes, SessionId};
use cloakroom_base::limits::{SESSION_IDS_MAX, SESSION_SET_COOKIES_MAX};

/// Returns a visit with the cookies of these sessions.
fn visit(fixture: &SessionFixture, ids: &[&SessionId]) -> Visit {
    let values: Vec<String> = ids.iter().map(|id| keys().sign(id)).collect();
    Visit {
        presented: presented(&values),
        ..fixture.visit(None)
    }
}

/// Returns the change to the session's own cookie, and the places where duplicate cookies are expired.
fn parts(cookie: CookieChange) -> (CookieChange, Vec<CookieAttributes>) {
    match cookie {
        CookieChange::WithDuplicates { own, duplicates } => (*own, duplicates),
        own => (own, Vec::new()),
    }
}

/// The places where duplicate cookies may be, in addition to a cookie of the host alone.
const OTHERS: [(Option<&str>, &str); 2] =
    [(Some("www.example.com"), "/"), (Some("example.com"), "/")];

fn places(duplicates: &[CookieAttributes]) -> Vec<(Option<&str>, &str)> {
    duplicates
        .iter()
        .map(|it| (it.domain.as_deref(), it.path.as_str()))
        .collect()
}

#[tokio::test]
async fn the_rival_session_with_a_row_is_used_and_the_others_are_expired() {
    let fixture = SessionFixture::new();
    let (live, dead) = (fixture.make(None, &[("n", "6")]), SessionId::generate());
    for (sum, ids) in [(7, [&live, &dead]), (8, [&dead, &live])] {
        let outcome = fixture
            .manager
            .transact(visit(&fixture, &ids), &mut bump())
            .await;
        let (told, cookie) = answered(outcome);
        assert_eq!(told, sum);
        let (own, duplicates) = parts(cookie);
        assert_eq!(set_for(&own), live, "a client may drop it with the others");
        assert_eq!(places(&duplicates), OTHERS);
    }
    assert_eq!(fixture.rows(), 1);
    assert_eq!(fixture.counters().stray_cookies.get(), 2);
    let asked = fixture.asked().await;
    assert_eq!(
        asked,
        [Asked::Load, Asked::Replace, Asked::Load, Asked::Replace],
        "one call for both ids"
    );
}

#[tokio::test]
async fn if_no_rival_session_has_a_row_a_login_creates_a_session() {
    let fixture = SessionFixture::new();
    let dead = [SessionId::generate(), SessionId::generate()];
    let ids = [&dead[0], &dead[1]];
    let reader = &mut guest(|session, _| async move { Ok(session.get("n").await?) });
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &ids), reader)
        .await;
    let (own, duplicates) = parts(answered(outcome).1);
    assert!(matches!(own, CookieChange::Expire { .. }), "{own:?}");
    assert_eq!(places(&duplicates), OTHERS);

    let outcome = fixture
        .manager
        .transact(visit(&fixture, &ids), &mut bump())
        .await;
    let (own, duplicates) = parts(answered(outcome).1);
    assert!(fixture.row(&set_for(&own)).await.is_some());
    assert_eq!(fixture.rows(), 1);
    assert_eq!(places(&duplicates), OTHERS);
}

#[tokio::test]
async fn several_rival_sessions_with_rows_are_no_session_and_refuse_writes() {
    let fixture = SessionFixture::new();
    let rows = [
        fixture.make(None, &[("n", "1")]),
        fixture.make(None, &[("n", "2")]),
    ];
    let ids = [&rows[0], &rows[1]];
    let reader = &mut guest(|session, _| async move {
        assert_eq!(session.fingerprint().await?, None);
        Ok(session.get("n").await?)
    });
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &ids), reader)
        .await;
    let (seen, cookie) = answered(outcome);
    assert_eq!(seen, None);
    let all = [
        (None, "/"),
        (Some("www.example.com"), "/"),
        (Some("example.com"), "/"),
    ];
    let (own, duplicates) = parts(cookie);
    assert_eq!(
        (own, places(&duplicates)),
        (CookieChange::Keep, all.to_vec())
    );

    for step in 0..8 {
        let writer = &mut guest(|session, _| async move {
            match step {
                0 => session.set("n", "7").await?,
                1 => session.regenerate().await?,
                2 => session.save().await?,
                3 => session.set_max_age(Some(5_000)).await?,
                4 => session.clear().await?,
                5 => session.delete("n").await?,
                6 => session.renew().await?,
                _ => {
                    session.set("m", "7").await?;
                    session.delete("m").await?;
                }
            }
            Ok(())
        });
        let outcome = fixture
            .manager
            .transact(visit(&fixture, &ids), writer)
            .await;
        let (refusal, cookie) = refused(outcome);
        assert_eq!(refusal, TransactionRefusal::SeveralSessions, "{step}");
        let (own, duplicates) = parts(cookie);
        assert_eq!(
            (own, places(&duplicates)),
            (CookieChange::Keep, all.to_vec())
        );
    }
    assert_eq!(fixture.rows(), 2);
    assert_eq!(fixture.entry(ids[0], "n").await.as_deref(), Some("1"));
    let counters = fixture.counters();
    assert_eq!(counters.several_refused.get(), 8);
    assert_eq!(counters.ambiguous_cookies.get(), 9);
}

#[tokio::test]
async fn more_than_four_rival_sessions_are_not_loaded() {
    let fixture = SessionFixture::new();
    let rows: Vec<_> = (0..=SESSION_IDS_MAX)
        .map(|_| fixture.make(None, &[("n", "1")]))
        .collect();
    let ids: Vec<&SessionId> = rows.iter().collect();
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &ids), &mut bump())
        .await;
    let (refusal, cookie) = refused(outcome);
    assert_eq!(refusal, TransactionRefusal::SeveralSessions);
    assert_eq!(parts(cookie).1.len(), 3);
    assert_eq!(fixture.asked().await, []);
    assert_eq!(fixture.rows(), rows.len());
}

#[tokio::test]
async fn a_logout_ends_every_session_that_is_named() {
    for start in [VisitStart::Optimistic, VisitStart::Exclusive] {
        for count in [1, 2, 4, 6] {
            for live in [0, 1, count] {
                let fixture = SessionFixture::new();
                let rows: Vec<_> = (0..count)
                    .map(|n| match n < live {
                        true => fixture.make(None, &[("n", "1")]),
                        false => SessionId::generate(),
                    })
                    .collect();
                let late = rows.last().expect("one at least");
                let ids: Vec<&SessionId> = rows.iter().collect();
                let visit = Visit {
                    start,
                    ..visit(&fixture, &ids)
                };
                let mut logout = guest(|session, _| {
                    let fixture = &fixture;
                    async move {
                        drop(session.list_keys().await?);
                        if live < count {
                            // Only now does a lagging server show the row.
                            fixture.overwrite(late, None, &[]);
                        }
                        Ok(session.destroy().await?)
                    }
                });
                let outcome = fixture.manager.transact(visit, &mut logout).await;
                answered(outcome);
                assert_eq!(fixture.rows(), 0, "{start:?}: {live} of {count}");
            }
        }
    }
}

#[tokio::test]
async fn a_logout_that_does_not_end_all_sessions_keeps_every_cookie() {
    let fixture = SessionFixture::new();
    let (live, dead) = (fixture.make(None, &[("n", "1")]), SessionId::generate());
    fixture.store.will_commit([Fate::Done, Fate::DOWN]);
    let logout = &mut guest(|session, _| async move { Ok(session.destroy().await?) });
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &[&live, &dead]), logout)
        .await;
    assert_eq!(
        refused(outcome),
        (TransactionRefusal::StoreUnavailable, CookieChange::Keep)
    );
}

#[tokio::test]
async fn a_deletion_that_is_rolled_back_is_sent_again() {
    let fixture = SessionFixture::new();
    let rows = [fixture.make(None, &[]), fixture.make(None, &[])];
    fixture.store.will_commit([Fate::RolledBack, Fate::Done]);
    let logout = &mut guest(|session, _| async move { Ok(session.destroy().await?) });
    let visit = visit(&fixture, &[&rows[0], &rows[1]]);
    answered(fixture.manager.transact(visit, logout).await);
    assert_eq!(fixture.rows(), 0);
    let deletions = [Asked::BlindDelete; 3];
    assert_eq!(fixture.asked().await[1..], deletions);
}

#[tokio::test]
async fn a_guest_that_logs_out_and_goes_on_ends_all_and_begins_one() {
    for (count, live) in [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (6, 6)] {
        for saves in [false, true] {
            let fixture = SessionFixture::new();
            let rows: Vec<_> = (0..count)
                .map(|n| match n < live {
                    true => fixture.make(None, &[("n", "1")]),
                    false => SessionId::generate(),
                })
                .collect();
            let late = rows.last().expect("one at least");
            let mut again = guest(|session, _| {
                let fixture = &fixture;
                async move {
                    drop(session.list_keys().await?);
                    session.destroy().await?;
                    if live < count {
                        fixture.overwrite(late, None, &[]);
                    }
                    if saves {
                        session.save().await?;
                    }
                    session.regenerate().await?;
                    Ok(session.set("m", "7").await?)
                }
            });
            let ids: Vec<&SessionId> = rows.iter().collect();
            let outcome = fixture
                .manager
                .transact(visit(&fixture, &ids), &mut again)
                .await;
            let (own, _) = parts(answered(outcome).1);
            let own = set_for(&own);
            assert!(!rows.contains(&own), "{live} of {count}");
            assert_eq!(fixture.entry(&own, "m").await.as_deref(), Some("7"));
            assert_eq!(fixture.rows(), 1, "{live} of {count}, {saves}");
        }
    }
}

#[tokio::test]
async fn with_too_many_cookie_values_no_session_is_used_or_ended() {
    let fixture = SessionFixture::new();
    let rows: Vec<_> = (0..17).map(|_| fixture.make(None, &[("n", "1")])).collect();
    let ids: Vec<&SessionId> = rows.iter().collect();
    let all = || visit(&fixture, &ids);
    let outcome = fixture.manager.transact(all(), &mut bump()).await;
    assert_eq!(refused(outcome).0, TransactionRefusal::SeveralSessions);
    let logout = &mut guest(|session, _| async move { Ok(session.destroy().await?) });
    let outcome = fixture.manager.transact(all(), logout).await;
    let (refusal, cookie) = refused(outcome);
    assert_eq!(refusal, TransactionRefusal::SeveralSessions);
    assert_eq!(parts(cookie).1.len(), 3);
    let reader = &mut guest(|session, _| async move { Ok(session.get("n").await?) });
    let (seen, cookie) = answered(fixture.manager.transact(all(), reader).await);
    assert_eq!((seen, parts(cookie).1.len()), (None, 3));
    assert_eq!(fixture.rows(), rows.len());
    assert_eq!(fixture.asked().await, []);
}

#[tokio::test]
async fn a_rerun_still_expires_the_other_rival_sessions() {
    let fixture = SessionFixture::new();
    let (live, dead) = (fixture.make(None, &[("n", "1")]), SessionId::generate());
    let mut overtaken = guest(|session, number| {
        let (fixture, live) = (&fixture, &live);
        async move {
            let sum = session.increment("n", 1).await?;
            if number == 1 {
                fixture.overwrite(live, None, &[("n", "10")]);
            }
            Ok(sum)
        }
    });
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &[&dead, &live]), &mut overtaken)
        .await;
    let (sum, cookie) = answered(outcome);
    assert_eq!(sum, 11);
    assert_eq!(places(&parts(cookie).1), OTHERS);
}

#[tokio::test]
async fn a_session_that_vanishes_meanwhile_expires_nothing() {
    let fixture = SessionFixture::new();
    let (live, dead) = (fixture.make(None, &[("n", "1")]), SessionId::generate());
    let mut overtaken = guest(|session, number| {
        let (fixture, live) = (&fixture, &live);
        async move {
            session.increment("n", 1).await?;
            if number == 1 {
                let logout = guest(|session, _| async move { Ok(session.destroy().await?) });
                answered(fixture.request(live, logout).await);
            }
            Ok(number)
        }
    });
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &[&dead, &live]), &mut overtaken)
        .await;
    assert_eq!(answered(outcome), (2, CookieChange::Keep));
    assert_eq!(fixture.rows(), 0);
}

#[tokio::test]
async fn no_duplicates_are_expired_for_a_host_prefixed_cookie_name() {
    let mut options = SessionOptions::default();
    options.cookie.name = "__Host-sid".to_owned();
    let fixture = SessionFixture::with(options);
    let (live, dead) = (fixture.make(None, &[("n", "6")]), SessionId::generate());
    let outcome = fixture
        .manager
        .transact(visit(&fixture, &[&dead, &live]), &mut bump())
        .await;
    assert_eq!(answered(outcome), (7, CookieChange::Keep));
}

/// The action of a random visit's guest.
#[derive(Clone, Copy, Debug)]
enum Do {
    Read,
    Write,
    Regenerate,
    Destroy,
}

/// The session that a random cookie names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Named {
    Live,
    Absent,
    Expired,
    Corrupt,
}

/// A generator of small random numbers, which are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

fn make(fixture: &SessionFixture, named: Named) -> SessionId {
    let id = match named {
        Named::Live => fixture.make(None, &[("n", "1")]),
        _ => SessionId::generate(),
    };
    match named {
        Named::Live | Named::Absent => {}
        Named::Expired => fixture.put(&id, "{}".to_owned(), NOW_MS / 1_000 - 10),
        Named::Corrupt => fixture.put(&id, "null".to_owned(), i64::from(u32::MAX)),
    }
    id
}

#[tokio::test]
async fn random_rival_sessions_give_at_most_one_session_and_no_orphan_row() {
    let mut dice = Dice(11);
    for round in 0..600 {
        let fixture = SessionFixture::new();
        let all = [Named::Live, Named::Absent, Named::Expired, Named::Corrupt];
        let named: Vec<Named> = (0..1 + dice.below(6)).map(|_| all[dice.below(4)]).collect();
        let ids: Vec<SessionId> = named.iter().map(|named| make(&fixture, *named)).collect();
        let step = [Do::Read, Do::Write, Do::Regenerate, Do::Destroy][dice.below(4)];
        let host = ["a.b.c.example.com:8080", "localhost", "10.0.0.1"][dice.below(3)];
        let visit = Visit {
            host: host.to_owned(),
            path: ["/", "/a/b/c/d/e/f/g"][dice.below(2)].to_owned(),
            ..visit(&fixture, &ids.iter().collect::<Vec<_>>())
        };
        let before = fixture.rows();
        let mut guest = guest(|session, _| async move {
            let seen = session.get("n").await?;
            match step {
                Do::Read => {}
                Do::Write => session.set("n", "2").await?,
                Do::Regenerate => session.regenerate().await?,
                Do::Destroy => session.destroy().await?,
            }
            Ok::<_, Trap>(seen)
        });
        let outcome = fixture.manager.transact(visit, &mut guest).await;
        let story = format!("{round}: {step:?} with {named:?} at {host}");
        let live = named.iter().filter(|it| **it == Named::Live).count();
        let is_none_meant = live > 1 || named.len() > SESSION_IDS_MAX;
        let is_write = matches!(step, Do::Write | Do::Regenerate);
        let (own, duplicates) = if is_none_meant && is_write {
            let (refusal, cookie) = refused(outcome);
            assert_eq!(refusal, TransactionRefusal::SeveralSessions, "{story}");
            parts(cookie)
        } else {
            let (seen, cookie) = answered(outcome);
            assert_eq!(seen.is_some(), live == 1 && !is_none_meant, "{story}");
            parts(cookie)
        };
        let fields = duplicates.len() + usize::from(own != CookieChange::Keep);
        assert!(
            fields <= SESSION_SET_COOKIES_MAX,
            "{story}: {fields} fields"
        );
        assert!(named.len() > 1 || duplicates.is_empty(), "{story}");
        let is_live_left = live == 1 && !is_none_meant && !matches!(step, Do::Destroy);
        let is_expired = places(&duplicates).contains(&(None, "/"));
        assert!(!(is_live_left && is_expired), "{story}: the live cookie");
        let rows = named.iter().filter(|it| **it != Named::Absent).count();
        let expected = match step {
            Do::Destroy => before - rows,
            Do::Write | Do::Regenerate if live == 0 && !is_none_meant => before + 1,
            _ => before,
        };
        assert_eq!(fixture.rows(), expected, "{story}");
        if let CookieChange::Set { .. } = &own {
            assert!(fixture.row(&set_for(&own)).await.is_some(), "{story}");
        }
    }
}

//! The formulas of express-session compared with the manager, for every combination of their inputs; and the cookie's attributes.

use std::time::Duration;

use super::super::{
    CookieChange, CookieOptions, SameSitePolicy, SecurePolicy, SessionCallError, SessionError,
    SessionOptions, TouchPolicy,
};
use super::fixture::{NOW_MS, SessionFixture, presented, set_for};
use super::guest::{answered, guest};
use super::stubborn::Asked;
use crate::record::{CookieAttributes, Document, SameSite};

/// One visit, reduced to the inputs of express-session's formulas.
#[derive(Clone, Copy, Debug)]
struct Case {
    resave: bool,
    save_uninitialized: bool,
    rolling: bool,
    is_known: bool,
    has_max_age: bool,
    writes: bool,
    saves: bool,
    writes_after: bool,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        (0..256u32).map(|bits| {
            let bit = |n: u32| bits >> n & 1 == 1;
            Self {
                resave: bit(0),
                save_uninitialized: bit(1),
                rolling: bit(2),
                is_known: bit(3),
                has_max_age: bit(4),
                writes: bit(5),
                saves: bit(6),
                writes_after: bit(7),
            }
        })
    }

    /// `hash(sess) !== originalHash`.
    fn is_modified(self) -> bool {
        self.writes || self.writes_after
    }

    /// `shouldSetCookie` of express-session, except for a new session that `save` has stored unchanged. In express-session,
    /// its row would be an orphan.
    fn sets_cookie(self) -> bool {
        if self.is_known {
            self.rolling || (self.has_max_age && self.is_modified())
        } else {
            self.save_uninitialized || self.is_modified() || self.saves
        }
    }

    /// `shouldSave` of express-session at the end of the response.
    fn saves_at_end(self) -> bool {
        // `savedHash`: whether it is set, and whether the session is unchanged since then.
        let is_saved = match (self.saves, self.is_known && !self.resave) {
            (true, _) => !self.writes_after,
            (false, true) => !self.is_modified(),
            (false, false) => false,
        };
        if !self.save_uninitialized && !self.saves && !self.is_known {
            return self.is_modified();
        }
        !is_saved
    }

    /// `shouldTouch` of express-session, except for a session whose lifetime `save` has just renewed.
    fn touches(self) -> bool {
        self.is_known && !self.saves_at_end() && !self.saves
    }

    fn asked(self) -> Vec<Asked> {
        let mut asked = Vec::new();
        if self.is_known {
            asked.push(Asked::Load);
        }
        let writes = usize::from(self.saves) + usize::from(self.saves_at_end());
        for n in 0..writes {
            let is_first = n == 0 && !self.is_known;
            asked.push(if is_first {
                Asked::Create
            } else {
                Asked::Replace
            });
        }
        asked.extend(self.touches().then_some(Asked::Touch));
        asked
    }

    fn options(self) -> SessionOptions {
        SessionOptions {
            resave: self.resave,
            save_uninitialized: self.save_uninitialized,
            rolling: self.rolling,
            touch: TouchPolicy::Always,
            cookie: CookieOptions {
                max_age: self.has_max_age.then_some(Duration::from_secs(600)),
                ..CookieOptions::default()
            },
            ..SessionOptions::default()
        }
    }
}

#[tokio::test]
async fn express_sessions_formulas_hold_for_every_combination() {
    let mut sets = 0;
    for case in Case::all() {
        let fixture = SessionFixture::with(case.options());
        let max_age_ms = case.has_max_age.then_some(600_000);
        let id = fixture.make(max_age_ms, &[("n", "1")]);
        fixture.clock.advance(10_000);
        let visit = fixture.visit(case.is_known.then_some(&id));
        let mut guest = guest(|session, _| async move {
            session.get("n").await?;
            if case.writes {
                session.add("n", 1).await?;
            }
            if case.saves {
                session.save().await?;
            }
            if case.writes_after {
                session.add("n", 1).await?;
            }
            Ok(())
        });
        let (_, cookie) = answered(fixture.manager.transact(visit, &mut guest).await);
        assert_eq!(fixture.asked().await, case.asked(), "{case:?}");
        let is_set = matches!(cookie, CookieChange::Set { .. });
        assert_eq!(is_set, case.sets_cookie(), "{case:?}");
        if is_set {
            sets += 1;
            assert_eq!(set_for(&cookie) == id, case.is_known, "{case:?}");
        } else {
            assert_eq!(cookie, CookieChange::Keep, "{case:?}");
        }
    }
    // Of the 128 known sessions, 64 by `rolling` and 24 by a change; of the new ones, all but 8.
    assert_eq!(sets, 208);
}

/// Writes to a new session over such a link. Returns the attributes of its cookie, if one is set, and whether it has a row.
async fn new_over(cookie: CookieOptions, is_secure: bool) -> (Option<CookieAttributes>, bool) {
    let fixture = SessionFixture::with(SessionOptions {
        cookie,
        ..SessionOptions::default()
    });
    let mut visit = fixture.visit(None);
    visit.is_secure = is_secure;
    let mut guest = guest(|session, _| async move { Ok(session.set("a", "1").await?) });
    let (_, cookie) = answered(fixture.manager.transact(visit, &mut guest).await);
    let undeliverable = fixture.counters().undeliverable_cookies.get();
    assert_eq!(undeliverable, u64::from(fixture.rows() == 0));
    let attributes = match cookie {
        CookieChange::Set { attributes, .. } => Some(attributes),
        CookieChange::Keep => None,
        CookieChange::Expire { .. } | CookieChange::WithDuplicates { .. } => {
            panic!("there is nothing to expire")
        }
    };
    (attributes, fixture.rows() == 1)
}

#[tokio::test]
async fn a_secure_cookie_over_http_is_no_cookie_and_no_row() {
    let cases = [
        (SecurePolicy::Always, true, Some(true)),
        (SecurePolicy::Always, false, None),
        (SecurePolicy::Never, true, Some(false)),
        (SecurePolicy::Never, false, Some(false)),
        (SecurePolicy::Auto, true, Some(true)),
        (SecurePolicy::Auto, false, Some(false)),
    ];
    for (secure, is_secure, expected) in cases {
        let options = CookieOptions {
            secure,
            ..CookieOptions::default()
        };
        let (attributes, has_row) = new_over(options, is_secure).await;
        let sent = attributes.map(|attributes| attributes.secure);
        assert_eq!(sent, expected, "{secure:?}, {is_secure}");
        assert_eq!(has_row, expected.is_some(), "{secure:?}, {is_secure}");
    }
}

#[tokio::test]
async fn same_site_follows_the_option_or_the_security_of_the_connection() {
    let cases = [
        (None, true, None),
        (Some(SameSitePolicy::Strict), false, Some(SameSite::Strict)),
        (Some(SameSitePolicy::Lax), true, Some(SameSite::Lax)),
        (Some(SameSitePolicy::None), false, Some(SameSite::None)),
        (Some(SameSitePolicy::Auto), true, Some(SameSite::None)),
        (Some(SameSitePolicy::Auto), false, Some(SameSite::Lax)),
    ];
    for (same_site, is_secure, expected) in cases {
        let options = CookieOptions {
            same_site,
            ..CookieOptions::default()
        };
        let (attributes, _) = new_over(options, is_secure).await;
        let sent = attributes.expect("a cookie").same_site;
        assert_eq!(sent, expected, "{same_site:?}, {is_secure}");
    }
}

#[tokio::test]
async fn a_secure_session_over_http_is_written_without_its_cookie_and_never_renamed() {
    for (renews, asked) in [(false, Asked::Replace), (true, Asked::Delete)] {
        let fixture = SessionFixture::with(SessionOptions {
            rolling: true,
            ..SessionOptions::default()
        });
        let mut visit = fixture.visit(None);
        visit.is_secure = true;
        let mut first = guest(|session, _| async move { Ok(session.set("a", "1").await?) });
        let (_, cookie) = answered(fixture.manager.transact(visit, &mut first).await);
        let id = set_for(&cookie);
        fixture.store.take_asked();
        let second = guest(|session, _| async move {
            session.set("a", "2").await?;
            if renews {
                session.renew().await?
            }
            Ok(())
        });
        let (_, cookie) = answered(fixture.request(&id, second).await);
        assert_eq!(cookie, CookieChange::Keep, "it may not go over this link");
        assert_eq!(fixture.asked().await, [asked]);
        let left = (!renews).then_some("2");
        assert_eq!(
            fixture.rows(),
            usize::from(!renews),
            "a row whose cookie no visitor could receive"
        );
        if left.is_some() {
            assert_eq!(fixture.entry(&id, "a").await.as_deref(), left);
        }
    }
}

#[tokio::test]
async fn sessions_exist_only_below_the_cookies_path() {
    let cases = [
        ("/", "/anything", true),
        ("/admin", "/admin", true),
        ("/admin", "/admin/users", true),
        ("/admin", "/administrator", false),
        ("/admin/", "/admin", false),
        ("/admin", "/", false),
        ("/admin", "/ADMIN", false),
    ];
    for (cookie_path, path, is_inside) in cases {
        let fixture = SessionFixture::with(SessionOptions {
            save_uninitialized: true,
            cookie: CookieOptions {
                path: cookie_path.to_owned(),
                ..CookieOptions::default()
            },
            ..SessionOptions::default()
        });
        let id = fixture.make(None, &[("a", "1")]);
        let mut visit = fixture.visit(Some(&id));
        visit.path = path.to_owned();
        let mut guest = guest(|session, _| async move { Ok(session.get("a").await) });
        let (told, cookie) = answered(fixture.manager.transact(visit, &mut guest).await);
        assert_eq!(cookie, CookieChange::Keep);
        let asked = fixture.asked().await;
        if is_inside {
            assert_eq!(told, Ok(Some("1".to_owned())), "{cookie_path} {path}");
            assert_eq!(asked, [Asked::Load]);
        } else {
            let denied = matches!(told, Err(SessionCallError::Guest(SessionError::Denied(_))));
            assert!(denied && asked.is_empty(), "{cookie_path} {path}: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_loaded_session_keeps_the_attributes_in_its_row() {
    let fixture = SessionFixture::with(SessionOptions {
        rolling: true,
        cookie: CookieOptions {
            max_age: Some(Duration::from_secs(5)),
            domain: Some("example.org".to_owned()),
            ..CookieOptions::default()
        },
        ..SessionOptions::default()
    });
    let id = fixture.make(Some(60_000), &[("a", "1")]);
    fixture.clock.advance(30_000);
    let reader = guest(|session, _| async move { Ok(session.get("a").await?) });
    let CookieChange::Set { attributes, .. } = answered(fixture.request(&id, reader).await).1
    else {
        panic!("rolling sends it");
    };
    let expected = CookieAttributes {
        original_max_age_ms: Some(60_000),
        expires_at_ms: Some(NOW_MS + 30_000 + 60_000),
        ..CookieAttributes::default()
    };
    assert_eq!(attributes, expected);
}

#[tokio::test]
async fn a_change_of_the_lifetime_is_stored_and_sent() {
    for max_age_ms in [Some(5_000), Some(-1_000), None] {
        let fixture = SessionFixture::new();
        let id = fixture.make(Some(60_000), &[("a", "1")]);
        fixture.clock.advance(10_000);
        let now_ms = fixture.clock.now_ms();
        let change = guest(|session, _| async move { Ok(session.set_max_age(max_age_ms).await?) });
        let CookieChange::Set { attributes, .. } = answered(fixture.request(&id, change).await).1
        else {
            panic!("a change of the cookie is sent");
        };
        let ends_at_ms = max_age_ms.map(|ms| now_ms + ms);
        assert_eq!(attributes.original_max_age_ms, max_age_ms);
        assert_eq!(attributes.expires_at_ms, ends_at_ms);
        let row = fixture.row(&id).await.expect("a row");
        let stored = Document::parse(&row.data).expect("a session's row");
        assert_eq!(*stored.cookie().attributes(), attributes);
        let day_ms = 86_400_000;
        let row_ends_at_s = (now_ms + max_age_ms.unwrap_or(day_ms)) / 1_000;
        assert_eq!(row.expires_at_s, row_ends_at_s, "{max_age_ms:?}");
    }
}

#[tokio::test]
async fn an_absolute_lifetime_caps_every_expiry_and_then_ends_the_session() {
    let fixture = SessionFixture::with(SessionOptions {
        absolute_lifetime: Some(Duration::from_secs(100)),
        rolling: true,
        ..SessionOptions::default()
    });
    let change = || guest(|session, _| async move { Ok(session.increment("n", 1).await?) });
    let id = set_for(&answered(fixture.first_request(change()).await).1);
    let last_s = NOW_MS / 1_000 + 100;
    for passed_ms in [0, 40_000, 60_000] {
        fixture.clock.advance(passed_ms);
        answered(fixture.request(&id, change()).await);
        let row = fixture.row(&id).await.expect("a row");
        assert_eq!(row.expires_at_s, last_s);
    }
    fixture.clock.advance(1_000);
    let (n, cookie) = answered(fixture.request(&id, change()).await);
    assert_eq!(n, 1, "a new session");
    assert_ne!(set_for(&cookie), id);
}

#[tokio::test]
async fn two_valid_cookies_of_two_sessions_are_no_session() {
    let fixture = SessionFixture::new();
    let sign = |id| super::fixture::keys().sign(id);
    let (one, other) = (
        fixture.make(None, &[("a", "1")]),
        fixture.make(None, &[("a", "2")]),
    );
    let cases = [
        (vec![sign(&one), sign(&other)], None, (0, 1)),
        (
            vec!["s%3Abad.sig".to_owned(), sign(&other)],
            Some("2"),
            (0, 0),
        ),
        (vec![sign(&one), sign(&one)], Some("1"), (0, 0)),
        (vec!["s%3Abad.sig".to_owned()], None, (1, 0)),
    ];
    for (values, expected, counted) in cases {
        let count = || {
            let counters = fixture.counters();
            (counters.bad_cookies.get(), counters.ambiguous_cookies.get())
        };
        let before = count();
        let mut visit = fixture.visit(None);
        visit.presented = presented(&values);
        let mut guest = guest(|session, _| async move { Ok(session.get("a").await?) });
        let (seen, _) = answered(fixture.manager.transact(visit, &mut guest).await);
        assert_eq!(seen.as_deref(), expected, "{} values", values.len());
        let after = count();
        assert_eq!((after.0 - before.0, after.1 - before.1), counted);
    }
}

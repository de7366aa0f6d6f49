//! Guests with a session: the interface in both worlds, and the effect of a response's release on the session.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::*;
use cloakroom_base::clock::Clock;
use cloakroom_base::deadline::Deadline;
use cloakroom_session as session;
use cloakroom_session::cookie;
use cloakroom_session::cookie::{KeyRing, Secret};
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::{CookieChange, ReplayPolicy, SessionManager, TransactionOutcome, Visit};

const SCRIPTED: [&str; 2] = ["fixture-session", "fixture-session-service"];
const FAULTS: [&str; 2] = ["fixture-faults", "fixture-faults-service"];
const COOKIE_NAME: &str = "sid";

/// A visitor with a session cookie, and a session manager with an in-memory store.
pub(crate) struct Visitor {
    sessions: Arc<SessionManager>,
    cookie: Option<String>,
}

impl Visitor {
    pub(crate) fn new() -> Self {
        let keys = KeyRing::new(vec![Secret::new(vec![b'k'; 32])]).unwrap();
        let store = Arc::new(MemoryStore::new());
        let sessions = SessionManager::new(
            session::SessionOptions::default(),
            keys,
            store,
            Clock::system(),
        );
        Self {
            sessions,
            cookie: None,
        }
    }

    /// Returns the same visitor, as in another browser window.
    pub(crate) fn same(&self) -> Self {
        Self {
            sessions: Arc::clone(&self.sessions),
            cookie: self.cookie.clone(),
        }
    }

    async fn transact(
        &mut self,
        guest: &Arc<Guest>,
        mut attempt: Invocation,
    ) -> TransactionOutcome<ReleasedResponse, GuestFailure> {
        let mut headers = HeaderMap::new();
        if let Some(value) = &self.cookie {
            let cookie = format!("{COOKIE_NAME}={value}");
            headers.insert(COOKIE, HeaderValue::from_str(&cookie).unwrap());
        }
        let visit = Visit {
            presented: cookie::take_from(&mut headers, COOKIE_NAME),
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::clone(guest.grant()),
            deadline: Deadline::after(guest.limits().deadline),
            start: guest.start(),
            reservation: None,
        };
        let outcome = self.sessions.transact(visit, &mut attempt).await;
        let (TransactionOutcome::Answered { cookie, .. }
        | TransactionOutcome::Failed { cookie, .. }
        | TransactionOutcome::Refused { cookie, .. }) = &outcome;
        match cookie {
            CookieChange::Set { value, .. } => self.cookie = Some(value.clone()),
            CookieChange::Expire { .. } => self.cookie = None,
            CookieChange::Keep => {}
            CookieChange::WithDuplicates { .. } => panic!("the visitor has one cookie"),
        }
        outcome
    }

    pub(crate) async fn answer(
        &mut self,
        guest: &Arc<Guest>,
        target: &str,
        body: &str,
    ) -> ReleasedResponse {
        let method = if body.is_empty() {
            Method::GET
        } else {
            Method::POST
        };
        let attempt = invocation(guest, method, target, body.to_owned());
        match self.transact(guest, attempt).await {
            TransactionOutcome::Answered { answer, .. } => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn text(&mut self, guest: &Arc<Guest>, target: &str, body: &str) -> String {
        let released = self.answer(guest, target, body).await;
        String::from_utf8(super::body(released).await.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn the_counter_counts_and_resets_in_both_worlds() {
    for name in ["counter", "counter-service"] {
        let (guest, mut visitor) = (guest(name), Visitor::new());
        for count in 1..=3 {
            assert_eq!(
                visitor.text(&guest, "/", "").await,
                format!("{count}번 접속"),
                "{name}"
            );
        }
        let gone = visitor.answer(&guest, "/session/delete", "").await;
        assert_eq!(
            (
                gone.head.status.as_u16(),
                gone.head.headers["location"].as_bytes()
            ),
            (302, &b"/session"[..]),
            "{name}"
        );
        assert_eq!(visitor.text(&guest, "/", "").await, "1번 접속", "{name}");
    }
}

#[tokio::test]
async fn every_session_function_works_in_both_worlds() {
    let ops = "get a\nset a {\"x\":1}\nget a\nadd n 2\nincrement n 3\nkeys\ndelete a\nkeys\nset a nonsense\n\
               fingerprint\nmax-age 60000\ntouch\nsave\nreload\nget n\nrenew\nregenerate\nkeys\nset b 1\nclear\nkeys\n\
               set c 1\ndestroy\nget c\nset c 1";
    for name in SCRIPTED {
        let text = Visitor::new().text(&guest(name), "/", ops).await;
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "none",
            "ok",
            "{\"x\":1}",
            "ok",
            "5",
            "[\"a\",\"n\"]",
            "ok",
            "[\"n\"]",
        ];
        assert_eq!(lines[..8], expected, "{name}: {text}");
        assert!(lines[8].starts_with("error invalid"), "{name}: {text}");
        assert_eq!(
            lines[10..15],
            ["ok", "ok", "ok", "ok", "5"],
            "{name}: {text}"
        );
        assert_eq!(
            lines[15..21],
            ["ok", "ok", "[]", "ok", "ok", "[]"],
            "{name}: {text}"
        );
        assert_eq!(lines[21..24], ["ok", "ok", "none"], "{name}: {text}");
        assert!(lines[24].starts_with("error invalid"), "{name}: {text}");
    }
}

#[tokio::test]
async fn the_cookies_attributes_reach_the_guest() {
    for name in SCRIPTED {
        let mut visitor = Visitor::new();
        let guest = guest(name);
        visitor.text(&guest, "/", "set a 1\nmax-age 60000").await;
        let text = visitor.text(&guest, "/", "cookie\nfingerprint").await;
        let (cookie, fingerprint) = text.trim_end().split_once('\n').unwrap();
        let cookie: serde_json::Value = serde_json::from_str(cookie).unwrap();
        assert_eq!(cookie["originalMaxAge"], 60_000, "{name}");
        assert_eq!(
            (&cookie["path"], &cookie["httpOnly"]),
            (&"/".into(), &true.into()),
            "{name}"
        );
        assert_eq!(
            (&cookie["sameSite"], &cookie["priority"]),
            (&"lax".into(), &serde_json::Value::Null),
            "{name}"
        );
        assert_eq!(fingerprint.len(), 32, "{name}: {fingerprint}");
    }
}

#[tokio::test]
async fn changes_before_a_trap_are_committed_only_if_they_were_saved() {
    for name in SCRIPTED {
        let (guest, mut visitor) = (guest(name), Visitor::new());
        visitor.text(&guest, "/", "set a 1").await;
        for (ops, kept) in [("set a 2\ntrap", "1\n"), ("set a 3\nsave\ntrap", "3\n")] {
            let attempt = invocation(&guest, Method::POST, "/", ops);
            let outcome = visitor.transact(&guest, attempt).await;
            assert!(
                matches!(
                    &outcome,
                    TransactionOutcome::Failed {
                        failure: GuestFailure::Trap { .. },
                        ..
                    }
                ),
                "{name}: {outcome:?}"
            );
            assert_eq!(visitor.text(&guest, "/", "get a").await, kept, "{name}");
        }
    }
}

#[tokio::test]
async fn a_write_after_the_release_is_refused_and_earlier_writes_are_kept() {
    for name in FAULTS {
        let (guest, mut visitor) = (guest(name), Visitor::new());
        let late = visitor.text(&guest, "/late-write", "").await;
        assert!(
            late.lines().last().unwrap().starts_with("error committed"),
            "{name}"
        );
        let events = visitor.text(&guest, "/sse", "").await;
        assert!(
            events.starts_with("data: first\n\ndata: error committed"),
            "{name}: {events}"
        );
    }
    for name in SCRIPTED {
        let (guest, mut visitor) = (guest(name), Visitor::new());
        let large = format!("set a 1\nhead\nbody {}\nset a 2\nget a", 100 << 10);
        let answer = visitor.text(&guest, "/", &large).await;
        assert!(
            answer.ends_with('x'),
            "{name}: a script says nothing behind `body`"
        );
        assert_eq!(visitor.text(&guest, "/", "get a").await, "1\n", "{name}");
    }
}

#[tokio::test]
async fn a_short_body_behind_its_head_is_held_so_that_later_writes_count() {
    for name in SCRIPTED {
        let (guest, mut visitor) = (guest(name), Visitor::new());
        let answer = visitor
            .text(&guest, "/", "set a 1\nhead\nset a 2\nsleep 20\nset a 3")
            .await;
        assert_eq!(answer, "ok\nok\nok\nok\nok\n", "{name}");
        assert_eq!(visitor.text(&guest, "/", "get a").await, "3\n", "{name}");
    }
}

#[tokio::test]
async fn parallel_increments_are_all_counted_and_no_number_is_given_twice() {
    for name in ["counter", "counter-service"] {
        let (guest, mut visitor) = (guest(name), Visitor::new());
        visitor.text(&guest, "/", "").await;
        let visits = (0..16).map(|_| {
            let mut same = visitor.same();
            let guest = Arc::clone(&guest);
            async move { same.text(&guest, "/", "").await }
        });
        let mut answers = futures_util::future::join_all(visits).await;
        answers.sort();
        let mut expected: Vec<String> = (2..=17).map(|count| format!("{count}번 접속")).collect();
        expected.sort();
        assert_eq!(answers, expected, "{name}");
    }
}

#[tokio::test]
async fn a_guest_without_a_grant_is_denied_and_has_no_session() {
    for name in SCRIPTED {
        let mut settings = settings(name);
        settings.grants.session = Arc::default();
        let guest = load(settings);
        let mut invocation = invocation(&guest, Method::POST, "/", "set a 1");
        let released = invocation.run_without_session().await.unwrap();
        let answer = super::body(released).await.unwrap();
        assert!(answer.starts_with(b"error denied"), "{name}: {answer:?}");
        assert_eq!(invocation.replay(), ReplayPolicy::Possible);
    }
}

#[tokio::test]
async fn a_value_beyond_the_sessions_limit_is_refused_and_not_a_trap() {
    let (guest, mut visitor) = (guest("fixture-faults"), Visitor::new());
    let message = visitor.text(&guest, "/big-value?500000", "").await;
    assert!(message.starts_with("error too-large 65536"), "{message}");
    let message = visitor.text(&guest, "/many-keys?300", "").await;
    assert!(message.starts_with("256 keys then error"), "{message}");
}

//! What the tests of transactions stand in: a store, a clock that stands still, a manager, and visitors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::super::{
    Attempt, CookieChange, Counters, Grant, Options, Outcome, Session, SessionManager, Start, Visit,
};
use super::stubborn::{Asked, StubbornStore};
use crate::clock::Clock;
use crate::cookie::{KeyRing, Presented, Secret, take_from};
use crate::record::{CookieAttributes, Document, SessionId, SessionRecord, StoredCookie};
use crate::store::SessionStore as _;
use crate::store::memory::MemoryStore;

pub(super) const NOW_MS: i64 = 1_795_000_000_000;
const COOKIE_NAME: &str = "sid";

/// See the module.
pub(super) struct House {
    pub(super) store: Arc<StubbornStore>,
    pub(super) clock: Clock,
    pub(super) options: Options,
    pub(super) manager: Arc<SessionManager>,
}

pub(super) fn keys() -> KeyRing {
    let secret = Secret::new(b"a secret of more than thirty-two bytes".to_vec());
    KeyRing::new(vec![secret]).expect("a secret")
}

/// A request with these values of our cookie.
pub(super) fn presented(values: &[String]) -> Presented {
    let mut headers = HeaderMap::new();
    for value in values {
        let pair = HeaderValue::from_str(&format!("{COOKIE_NAME}={value}"));
        headers.append(http::header::COOKIE, pair.expect("a header's value"));
    }
    take_from(&mut headers, COOKIE_NAME)
}

/// The session that a cookie is set for.
#[track_caller]
pub(super) fn set_for(cookie: &CookieChange) -> SessionId {
    match cookie {
        CookieChange::Set { value, .. } => keys().verify(value).expect("our own signature"),
        other => panic!("no cookie was set: {other:?}"),
    }
}

impl House {
    pub(super) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Self {
        let store = StubbornStore::new(Arc::new(MemoryStore::new()));
        let clock = Clock::manual(NOW_MS);
        let manager = SessionManager::new(options.clone(), keys(), store.clone(), clock.clone());
        Self {
            store,
            clock,
            options,
            manager,
        }
    }

    /// A manager as another process on the same store has one.
    pub(super) fn another_manager(&self) -> Arc<SessionManager> {
        let (options, clock) = (self.options.clone(), self.clock.clone());
        SessionManager::new(options, keys(), self.store.clone(), clock)
    }

    pub(super) fn counters(&self) -> &Counters {
        self.manager.counters()
    }

    /// Makes a session whose cookie has this lifetime, as Express would: without a commit token.
    pub(super) fn make(&self, max_age_ms: Option<i64>, entries: &[(&str, &str)]) -> SessionId {
        let id = SessionId::generate();
        self.overwrite(&id, max_age_ms, entries);
        id
    }

    /// Writes a session's row without asking what it holds, as Express does.
    pub(super) fn overwrite(
        &self,
        id: &SessionId,
        max_age_ms: Option<i64>,
        entries: &[(&str, &str)],
    ) {
        let now_ms = self.clock.now_ms();
        let mut document = Document::new(StoredCookie::new(&CookieAttributes {
            original_max_age_ms: max_age_ms,
            expires_at_ms: max_age_ms.map(|ms| now_ms + ms),
            ..CookieAttributes::default()
        }));
        for (key, value) in entries {
            document.set(key, value);
        }
        let idle_ms = self.options.idle_expiration.as_millis() as i64;
        let ends_at_ms = now_ms + max_age_ms.unwrap_or(idle_ms);
        let ends_at_s = crate::clock::round_to_seconds(ends_at_ms);
        self.put(id, document.to_json(), ends_at_s);
    }

    pub(super) fn put(&self, id: &SessionId, data: String, ends_at_s: i64) {
        self.store.inner.overwrite(id, Bytes::from(data), ends_at_s);
    }

    /// The row as it is, expired or not.
    pub(super) async fn row(&self, id: &SessionId) -> Option<SessionRecord> {
        let rows = self.store.inner.load_many(std::slice::from_ref(id), 0);
        rows.await.expect("the store in memory works").remove(0)
    }

    /// The text in the row.
    pub(super) async fn data(&self, id: &SessionId) -> Option<String> {
        let row = self.row(id).await?;
        Some(String::from_utf8(row.data.to_vec()).expect("JSON is UTF-8"))
    }

    /// An entry of the row.
    pub(super) async fn entry(&self, id: &SessionId, key: &str) -> Option<String> {
        let row = self.row(id).await?;
        let document = Document::parse(&row.data).expect("a session's row");
        document.get(key).map(str::to_owned)
    }

    /// The id of a session that a guest is in, found by its fingerprint.
    pub(super) async fn id_of(&self, session: &Session) -> SessionId {
        let name = session.fingerprint().await.expect("a grant");
        let name = name.expect("a session with a row");
        let ids = self.store.ids();
        let found = ids.into_iter().find(|id| keys().fingerprint(id) == name);
        found.expect("a row that was written through the store")
    }

    /// Waits until a row was read. Call it on a current-thread runtime, where nobody sees a load half done.
    pub(super) async fn loaded(&self) {
        while self.counters().loads.get() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.store.inner.row_count()
    }

    /// A request over plain HTTP, with a session's cookie or without one, whose guest may do everything.
    pub(super) fn visit(&self, id: Option<&SessionId>) -> Visit {
        let values: Vec<String> = id.iter().map(|id| keys().sign(id)).collect();
        Visit {
            presented: presented(&values),
            host: "www.example.com".to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::new(Grant::write()),
            deadline: (Instant::now() + Duration::from_secs(60)).into(),
            start: Start::Optimistic,
            place: None,
        }
    }

    /// One request with a session's cookie.
    pub(super) async fn request<A: Attempt>(
        &self,
        id: &SessionId,
        mut guest: A,
    ) -> Outcome<A::Answer, A::Failure> {
        let visit = self.visit(Some(id));
        self.manager.transact(visit, &mut guest).await
    }

    /// One request without a cookie.
    pub(super) async fn first_request<A: Attempt>(
        &self,
        mut guest: A,
    ) -> Outcome<A::Answer, A::Failure> {
        let visit = self.visit(None);
        self.manager.transact(visit, &mut guest).await
    }

    /// What the store was asked, touches that are under way included.
    pub(super) async fn asked(&self) -> Vec<Asked> {
        self.manager.shutdown().await;
        self.store.take_asked()
    }
}

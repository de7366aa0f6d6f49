//! The fixture for tests of transactions: a store, a manual clock, a manager, and visitors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::super::{
    Attempt, CookieChange, Session, SessionCounters, SessionGrant, SessionManager, SessionOptions,
    TransactionOutcome, Visit, VisitStart,
};
use super::stubborn::{Asked, StubbornStore};
use crate::cookie::{KeyRing, PresentedCookies, Secret, take_from};
use crate::record::{CookieAttributes, Document, SessionId, SessionRecord, StoredCookieObject};
use crate::store::SessionStore as _;
use crate::store::memory::MemoryStore;
use cloakroom_base::clock::Clock;

pub(crate) const NOW_MS: i64 = 1_795_000_000_000;
const COOKIE_NAME: &str = "sid";

/// The fixture: a store, a manual clock, and a manager.
pub(crate) struct SessionFixture {
    pub(crate) store: Arc<StubbornStore>,
    pub(crate) clock: Clock,
    pub(crate) options: SessionOptions,
    pub(crate) manager: Arc<SessionManager>,
}

pub(crate) fn keys() -> KeyRing {
    let secret = Secret::new(b"a secret of more than thirty-two bytes".to_vec());
    KeyRing::new(vec![secret]).expect("a secret")
}

/// Returns the cookies of a request with these session cookie values.
pub(crate) fn presented(values: &[String]) -> PresentedCookies {
    let mut headers = HeaderMap::new();
    for value in values {
        let pair = HeaderValue::from_str(&format!("{COOKIE_NAME}={value}"));
        headers.append(http::header::COOKIE, pair.expect("a header's value"));
    }
    take_from(&mut headers, COOKIE_NAME)
}

/// Returns the session that a cookie is set for.
#[track_caller]
pub(crate) fn set_for(cookie: &CookieChange) -> SessionId {
    match cookie {
        CookieChange::Set { value, .. } => keys().verify(value).expect("our own signature"),
        other => panic!("no cookie was set: {other:?}"),
    }
}

impl SessionFixture {
    pub(crate) fn new() -> Self {
        Self::with(SessionOptions::default())
    }

    pub(crate) fn with(options: SessionOptions) -> Self {
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

    /// Creates a manager like that of another process on the same store.
    pub(crate) fn another_manager(&self) -> Arc<SessionManager> {
        let (options, clock) = (self.options.clone(), self.clock.clone());
        SessionManager::new(options, keys(), self.store.clone(), clock)
    }

    pub(crate) fn counters(&self) -> &SessionCounters {
        self.manager.counters()
    }

    /// Creates a session whose cookie has this lifetime, as Express would: without a commit token.
    pub(crate) fn make(&self, max_age_ms: Option<i64>, entries: &[(&str, &str)]) -> SessionId {
        let id = SessionId::generate();
        self.overwrite(&id, max_age_ms, entries);
        id
    }

    /// Writes a session's row regardless of its content, as Express does.
    pub(crate) fn overwrite(
        &self,
        id: &SessionId,
        max_age_ms: Option<i64>,
        entries: &[(&str, &str)],
    ) {
        let now_ms = self.clock.now_ms();
        let mut document = Document::new(StoredCookieObject::new(&CookieAttributes {
            original_max_age_ms: max_age_ms,
            expires_at_ms: max_age_ms.map(|ms| now_ms + ms),
            ..CookieAttributes::default()
        }));
        for (key, value) in entries {
            document.set(key, value);
        }
        let idle_ms = self.options.idle_expiration.as_millis() as i64;
        let ends_at_ms = now_ms + max_age_ms.unwrap_or(idle_ms);
        let ends_at_s = cloakroom_base::clock::round_to_seconds(ends_at_ms);
        self.put(id, document.to_json(), ends_at_s);
    }

    pub(crate) fn put(&self, id: &SessionId, data: String, ends_at_s: i64) {
        self.store.inner.overwrite(id, Bytes::from(data), ends_at_s);
    }

    /// Returns the row, even if it has expired.
    pub(crate) async fn row(&self, id: &SessionId) -> Option<SessionRecord> {
        let rows = self.store.inner.load_many(std::slice::from_ref(id), 0);
        rows.await.expect("the store in memory works").remove(0)
    }

    /// Returns the row's text.
    pub(crate) async fn data(&self, id: &SessionId) -> Option<String> {
        let row = self.row(id).await?;
        Some(String::from_utf8(row.data.to_vec()).expect("JSON is UTF-8"))
    }

    /// Returns an entry of the row.
    pub(crate) async fn entry(&self, id: &SessionId, key: &str) -> Option<String> {
        let row = self.row(id).await?;
        let document = Document::parse(&row.data).expect("a session's row");
        document.get(key).map(str::to_owned)
    }

    /// Finds, by its fingerprint, the id of the session that a guest uses.
    pub(crate) async fn id_of(&self, session: &Session) -> SessionId {
        let name = session.fingerprint().await.expect("a grant");
        let name = name.expect("a session with a row");
        let ids = self.store.ids();
        let found = ids.into_iter().find(|id| keys().fingerprint(id) == name);
        found.expect("a row that was written through the store")
    }

    /// Waits until a row was read. Call it on a current-thread runtime, where a load is never seen half done.
    pub(crate) async fn loaded(&self) {
        while self.counters().loads.get() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.store.inner.row_count()
    }

    /// Returns a visit over plain HTTP, with or without a session's cookie, whose guest has all permissions.
    pub(crate) fn visit(&self, id: Option<&SessionId>) -> Visit {
        let values: Vec<String> = id.iter().map(|id| keys().sign(id)).collect();
        Visit {
            presented: presented(&values),
            host: "www.example.com".to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::new(SessionGrant::write()),
            deadline: (Instant::now() + Duration::from_secs(60)).into(),
            start: VisitStart::Optimistic,
            reservation: None,
        }
    }

    /// Runs one request with a session's cookie.
    pub(crate) async fn request<A: Attempt>(
        &self,
        id: &SessionId,
        mut guest: A,
    ) -> TransactionOutcome<A::Answer, A::Failure> {
        let visit = self.visit(Some(id));
        self.manager.transact(visit, &mut guest).await
    }

    /// Runs one request without a cookie.
    pub(crate) async fn first_request<A: Attempt>(
        &self,
        mut guest: A,
    ) -> TransactionOutcome<A::Answer, A::Failure> {
        let visit = self.visit(None);
        self.manager.transact(visit, &mut guest).await
    }

    /// Returns the calls on the store, including touches that are under way.
    pub(crate) async fn asked(&self) -> Vec<Asked> {
        self.manager.shutdown().await;
        self.store.take_asked()
    }
}

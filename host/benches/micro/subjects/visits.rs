//! A visitor with a session in memory, and the counter's work on it without a guest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloakroom_base::clock::Clock;
use cloakroom_session::cookie;
use cloakroom_session::cookie::PresentedCookies;
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::{
    Attempt, ReplayPolicy, Session, SessionCallError, SessionGrant, SessionManager, SessionOptions,
    TransactionOutcome, Visit, VisitStart,
};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::cookies::Signed;
use super::rows;

/// The cookie's name.
pub(crate) const COOKIE_NAME: &str = "sid";
/// Long enough even under valgrind, where everything takes fifty times as long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A returning visitor.
pub(crate) struct Visitor {
    pub(crate) sessions: Arc<SessionManager>,
    presented: PresentedCookies,
    grant: Arc<SessionGrant>,
}

impl Visitor {
    /// Creates a returning visitor, whose session's row is in the store.
    pub(crate) fn new() -> Self {
        let clock = Clock::system();
        let signed = Signed::new();
        let store = Arc::new(MemoryStore::new());
        store.overwrite(&signed.id, rows::small(), clock.now_s() + 86_400);
        // The host uses no snapshots with this store, because its rows are as close as snapshots would be.
        let options = SessionOptions {
            snapshots_bytes_max: 0,
            ..SessionOptions::default()
        };
        let cookie = HeaderValue::from_str(&format!("{COOKIE_NAME}={}", signed.value));
        let cookie = cookie.expect("a signed value is a header's");
        let mut headers = HeaderMap::from_iter([(COOKIE, cookie)]);
        Self {
            sessions: SessionManager::new(options, signed.keys, store, clock),
            presented: cookie::take_from(&mut headers, COOKIE_NAME),
            grant: Arc::new(SessionGrant::write()),
        }
    }

    /// Processes one request: loads the session, runs the attempt and commits its changes.
    pub(crate) async fn visit<A: Attempt>(&self, mut attempt: A) -> A::Answer {
        let visit = Visit {
            presented: self.presented.clone(),
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            is_secure: false,
            grant: Arc::clone(&self.grant),
            deadline: (Instant::now() + DEADLINE).into(),
            start: VisitStart::Optimistic,
            reservation: None,
        };
        match self.sessions.transact(visit, &mut attempt).await {
            TransactionOutcome::Answered { answer, .. } => answer,
            TransactionOutcome::Failed { .. } => panic!("the attempt failed"),
            TransactionOutcome::Refused { refusal, .. } => panic!("refused: {refusal:?}"),
        }
    }
}

/// The counter's work as native code.
pub(crate) struct NativeCounter;

impl Attempt for NativeCounter {
    type Answer = String;
    type Failure = SessionCallError;

    async fn run(&mut self, session: Session, _number: u32) -> Result<String, SessionCallError> {
        let count = session.get("num").await?;
        let count = count.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) + 1;
        session.set("num", &count.to_string()).await?;
        Ok(format!("{count}번 접속"))
    }

    fn replay(&self) -> ReplayPolicy {
        ReplayPolicy::Possible
    }
}

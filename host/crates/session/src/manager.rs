//! The sessions of all visitors, as the rest of the host sees them.

use std::sync::Arc;

use crate::attempt::Attempt;
use crate::cookie::KeyRing;
use crate::counters::SessionCounters;
use crate::options::SessionOptions;
use crate::outcome::TransactionOutcome;
use crate::seed::{self, SeedError, SessionSeed};
use crate::shared::SessionShared;
use crate::store::SessionStore;
use crate::transact;
use crate::visit::Visit;
use cloakroom_base::clock::Clock;

/// The sessions of all visitors. Each host has one manager.
pub struct SessionManager {
    pub(crate) shared: Arc<SessionShared>,
}

/// Hides the keys.
impl std::fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionManager")
            .field("store", &self.shared.store)
            .finish_non_exhaustive()
    }
}

impl SessionManager {
    /// Creates a manager of the sessions in `store`.
    pub fn new(
        options: SessionOptions,
        keys: impl Into<Arc<KeyRing>>,
        store: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Arc<Self> {
        let shared = SessionShared::new(options, keys.into(), store, clock);
        Arc::new(Self { shared })
    }

    /// Handles one request as a transaction: runs `attempt` on the visitor's session and commits its changes before its
    /// answer may be released. Runs the attempt again on the newer session if another request changed data that it had
    /// read.
    ///
    /// Waiting and re-running end at the visit's deadline. A commit that was sent is settled even after the deadline.
    ///
    /// Not cancel safe: a dropped call may or may not have committed. Call it from a task that is never cancelled.
    pub async fn transact<A: Attempt>(
        &self,
        visit: Visit,
        attempt: &mut A,
    ) -> TransactionOutcome<A::Answer, A::Failure> {
        transact::transact(&self.shared, visit, attempt).await
    }

    /// Creates a session from keys and JSON texts, as a guest would have filled it now for a visitor without TLS. Does not
    /// store it.
    ///
    /// # Errors
    /// [`SeedError`] if a guest's write would have been refused.
    pub fn seed<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<SessionSeed, SeedError> {
        seed::seed(&self.shared, entries)
    }

    /// Replaces the secrets that sign and verify cookies. A cookie that none of the new secrets has signed no longer names a session.
    pub fn replace_keys(&self, keys: Arc<KeyRing>) {
        self.shared.replace_keys(keys);
    }

    /// Returns the clock of the sessions and their cookies.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Returns the manager's counters.
    pub fn counters(&self) -> &SessionCounters {
        &self.shared.counters
    }

    /// Waits until the touches and saves under way have ended. Call it when no transaction is running.
    pub async fn shutdown(&self) {
        self.shared.shutdown().await;
    }
}

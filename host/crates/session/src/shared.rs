//! The parts that all visits of one host use: options, keys, store, clock, snapshots, locks and counters. This module makes
//! no decisions.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::cookie::{CookieResolution, KeyRing, PresentedCookies};
use crate::counters::SessionCounters;
use crate::lock::SessionLocks;
use crate::options::SessionOptions;
use crate::policy::{self, LinkSecurity};
use crate::record::{CookieAttributes, SessionId};
use crate::snapshots::Snapshots;
use crate::store::{SessionStore, StoreError, StoreErrorKind, Touch};
use crate::touches::Touches;
use cloakroom_base::clock::Clock;
use cloakroom_base::telemetry::RateLimitedLines;

/// The parts that all visits share.
pub(crate) struct SessionShared {
    pub(crate) options: SessionOptions,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) clock: Clock,
    pub(crate) locks: Arc<SessionLocks>,
    pub(crate) snapshots: Snapshots,
    pub(crate) counters: SessionCounters,
    keys: ArcSwap<KeyRing>,
    touches: Arc<Touches>,
    /// Loads, saves and touches under way.
    tasks: TaskTracker,
    /// Limits the log lines about failed store calls, by message and by error kind.
    store_faults: RateLimitedLines<(&'static str, StoreErrorKind)>,
    /// Limits the log lines about visits with several sessions, by message.
    rival_lines: RateLimitedLines<&'static str>,
}

impl SessionShared {
    pub(crate) fn new(
        options: SessionOptions,
        keys: Arc<KeyRing>,
        store: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            locks: SessionLocks::new(options.lock_waiters_max),
            snapshots: Snapshots::new(options.snapshots_bytes_max),
            touches: Arc::default(),
            options,
            keys: ArcSwap::new(keys),
            store,
            clock,
            counters: SessionCounters::default(),
            tasks: TaskTracker::new(),
            store_faults: RateLimitedLines::default(),
            rival_lines: RateLimitedLines::default(),
        })
    }

    /// Replaces the secrets that sign and verify cookies.
    pub(crate) fn replace_keys(&self, keys: Arc<KeyRing>) {
        self.keys.store(keys);
    }

    /// Returns the sessions that a request's cookies name.
    pub(crate) fn resolve(&self, presented: &PresentedCookies) -> CookieResolution {
        presented.resolve(&self.keys.load())
    }

    /// Returns the signed value of a session's cookie.
    pub(crate) fn sign(&self, id: &SessionId) -> String {
        self.keys.load().sign(id)
    }

    /// Returns the keyed hash that stands for a session in logs and towards guests.
    pub(crate) fn fingerprint(&self, id: &SessionId) -> String {
        self.keys.load().fingerprint(id)
    }

    /// Returns the cookie of a session that is created now.
    pub(crate) fn new_cookie(&self, link: LinkSecurity) -> CookieAttributes {
        policy::new_cookie(&self.options.cookie, link, self.clock.now_ms())
    }

    /// Moves a row's expiry in the background, unless the same or a later expiry is on its way to the store.
    pub(crate) fn touch(&self, touch: Touch) {
        let (store, clock) = (&self.store, &self.clock);
        if self.touches.send(touch, store, clock, &self.tasks) {
            self.counters.touches.add_one();
        }
    }

    /// Starts a task that [`SessionShared::shutdown`] waits for.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(task)
    }

    /// Waits until the tasks under way have ended.
    pub(crate) async fn shutdown(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Logs the failure of a store call; `message` says which call.
    pub(crate) fn log_store_fault(&self, message: &'static str, error: &StoreError) {
        // A store that is down fails the calls of every request. The metered store in front of it logs when it goes down
        // and when it answers again.
        if error.kind == StoreErrorKind::Unavailable {
            tracing::debug!(%error, "{message}");
            return;
        }
        let key = (message, error.kind);
        if let Some(line) = self.store_faults.take_line(key, Instant::now()) {
            tracing::warn!(%error, untold = line.untold, "{message}");
        }
    }

    /// Counts and logs a commit whose reply was lost.
    pub(crate) fn note_lost_reply(&self, error: &StoreError) {
        self.counters.ambiguous_commits.add_one();
        self.log_store_fault("the reply to a session's commit was lost", error);
    }

    /// Counts and logs a visit that came with several sessions, none of which is used.
    pub(crate) fn note_several(&self) {
        self.counters.ambiguous_cookies.add_one();
        self.log_rivals(
            "a request came with valid cookies of several sessions, and none of them is used; its browser is asked to drop them",
        );
    }

    /// Counts and logs a visit that came with several sessions and was refused.
    pub(crate) fn note_several_refused(&self) {
        self.counters.several_refused.add_one();
        self.log_rivals(
            "a request that came with valid cookies of several sessions was refused because its guest wrote; \
             nothing was stored",
        );
    }

    /// Limits the number of lines, because a browser sends the cookies with each of its requests.
    fn log_rivals(&self, message: &'static str) {
        if let Some(line) = self.rival_lines.take_line(message, Instant::now()) {
            tracing::warn!(untold = line.untold, "{message}");
        }
    }
}

//! Stores that wrap another store and change some of its calls, for example to measure them.

use std::fmt;

use super::{Commit, CommitVerdict, ServerStanding, SessionStore, StoreError, StoreFuture, Touch};
use crate::record::{SessionId, SessionRecord};
use cloakroom_base::telemetry::metrics::Scrape;

/// A [`SessionStore`] that wraps another one. Each method has the contract of the method of the same name there, and passes the
/// call on by default.
///
/// A module that implements it names it by its path. With both traits in scope, each call on the layer would be ambiguous.
pub trait StoreLayer: Send + Sync + fmt::Debug + 'static {
    /// Returns the wrapped store.
    fn inner(&self) -> &dyn SessionStore;

    /// Passes on [`SessionStore::load_many`].
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        self.inner().load_many(ids, now_s)
    }

    /// Passes on [`SessionStore::commit_many`].
    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        self.inner().commit_many(commits, now_s)
    }

    /// Passes on [`SessionStore::touch_many`].
    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        self.inner().touch_many(touches, now_s)
    }

    /// Passes on [`SessionStore::reap`].
    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        self.inner().reap(now_s, rows_max)
    }

    /// Passes on [`SessionStore::keeps_tokens`].
    fn keeps_tokens(&self) -> bool {
        self.inner().keeps_tokens()
    }
}

impl<L: StoreLayer> SessionStore for L {
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        StoreLayer::load_many(self, ids, now_s)
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        StoreLayer::commit_many(self, commits, now_s)
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        StoreLayer::touch_many(self, touches, now_s)
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        StoreLayer::reap(self, now_s, rows_max)
    }

    fn keeps_tokens(&self) -> bool {
        StoreLayer::keeps_tokens(self)
    }

    fn halted(&self) -> Option<StoreError> {
        self.inner().halted()
    }

    fn servers(&self) -> Vec<ServerStanding> {
        self.inner().servers()
    }

    fn prefer_first(&self) -> StoreFuture<'_, Result<String, StoreError>> {
        self.inner().prefer_first()
    }

    fn collect_into(&self, scrape: &Scrape) {
        self.inner().collect_into(scrape);
    }
}

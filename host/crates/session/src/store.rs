//! The storage layer: one trait that every session store implements. Knows rows, ids and commit tokens; knows no
//! cookies, no guests and no policy.
//!
//! Every change is one compare-and-swap per row. A created id is inserted and a loaded id is only updated, so no store
//! can write a destroyed session back. The methods take many rows per call, so that waiting commits can be batched.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod copy;
pub mod examine;
pub mod layer;
pub mod memory;
pub mod metered;
pub mod reaper;
pub mod scan;

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;

use crate::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_base::telemetry::metrics::Scrape;

/// The future that every method of a store returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session store.
///
/// All times are the host's clock in whole seconds since the epoch. The caller passes them in; a store never uses the
/// database's clock. The store's own timeouts bound every method.
///
/// Cancel safety: a dropped `commit_many` may still take effect; call it from a task that is never cancelled. A dropped
/// `load_many` does not read the rows that are still waiting.
pub trait SessionStore: Send + Sync + fmt::Debug + 'static {
    /// Reads rows and returns one result per id, in the same order: `None` if the row is absent or expired before
    /// `now_s`.
    ///
    /// # Errors
    /// Returns an error if the store does not answer in time. The state of all the rows is then unknown.
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>>;

    /// Applies each change durably and on its own, without a transaction over several rows. Returns one verdict per
    /// change, in the same order.
    ///
    /// An id must not occur twice in one call.
    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>>;

    /// Moves the expiry of rows that are still valid at `now_s` and leaves other rows alone. Best effort.
    ///
    /// # Errors
    /// Returns an error if the store does not answer in time. Some rows may have been touched.
    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>>;

    /// Deletes at most `rows_max` rows that expired before `now_s`, by primary key in one short statement, and returns
    /// their number.
    ///
    /// # Errors
    /// Returns an error if the store does not answer in time. The next call continues where this one stopped.
    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>>;

    /// Returns whether rows keep commit tokens. Without tokens (an existing table that must not be altered), a commit
    /// whose reply was lost stays undecided.
    fn keeps_tokens(&self) -> bool;

    /// Returns the reason if the store refuses all writes until the host is restarted. Such a store may still serve
    /// reads. Like every store error, the reason is for the log only.
    fn halted(&self) -> Option<StoreError> {
        None
    }

    /// Returns the servers that the store may use, in order of preference. Empty if the store has no list of servers.
    fn servers(&self) -> Vec<ServerStanding> {
        Vec::new()
    }

    /// Makes the first server of the list the server in use and returns its name. Servers that were left after a
    /// failure may be used again. Called only on an explicit command of the operator.
    ///
    /// # Errors
    /// Returns an error if that server does not serve or the store has no list of servers. Nothing has changed then.
    fn prefer_first(&self) -> StoreFuture<'_, Result<String, StoreError>> {
        Box::pin(async {
            Err(StoreError {
                kind: StoreErrorKind::Broken,
                detail: "the store has no list of servers".to_owned(),
            })
        })
    }

    /// Adds the metrics that only this kind of store has.
    fn collect_into(&self, _scrape: &Scrape) {}
}

/// The state of one server in a store's list. Only for the operator: it names servers and their errors.
#[derive(Clone, Debug)]
pub struct ServerStanding {
    /// The server's address.
    pub name: String,
    /// Whether the store uses this server now.
    pub is_in_use: bool,
    /// Whether this server recently gave connections because the server in use had none left.
    pub is_helping: bool,
    /// Whether the server was left after a failure. It is used again only after [`SessionStore::prefer_first`] or a
    /// restart.
    pub is_barred: bool,
    /// The server's description of itself, once a connection has read it.
    pub is: Option<String>,
    /// Number of open connections to this server.
    pub connections: usize,
    /// The maximum number of connections. Lower than the configured maximum while the server refuses more.
    pub connections_max: usize,
    /// The reason why the store currently does not use this server.
    pub failure: Option<String>,
}

/// A change to one row.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The id under which the row was loaded or is created.
    pub id: SessionId,
    /// The change to apply.
    pub change: RowChange,
}

/// The change that a commit makes to its row.
#[derive(Clone, Debug)]
pub enum RowChange {
    /// Inserts the row. The verdict is [`CommitVerdict::Conflict`] if the id exists.
    Create(SessionRecord),
    /// Replaces the row if it still equals `base` and is still valid. Otherwise the verdict is [`CommitVerdict::Conflict`].
    ///
    /// `record.tokens` is `base.tokens` with this commit's token pushed, so a committed row always differs from its
    /// base.
    Update {
        /// The row as it was read.
        base: RowVersion,
        /// The new row. Its `created_at_s` is written only if the row has none yet.
        record: SessionRecord,
        /// The new id, if `renew` or `regenerate` moves the row.
        new_id: Option<SessionId>,
    },
    /// Deletes the row. With a base, deletes it only if it still equals the base and is still valid; otherwise the
    /// verdict is [`CommitVerdict::Conflict`]. Without a base, deletes whatever the row holds, and an absent row counts as
    /// [`CommitVerdict::Committed`].
    Delete {
        /// The row as it was read, if it was read.
        base: Option<RowVersion>,
    },
}

/// The part of a row that a compare-and-swap compares: tokens *and* data, because Express writes the data but not the
/// tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct RowVersion {
    /// The row's commit tokens as they were read.
    pub tokens: TokenHistory,
    /// The row's data as it was read, byte for byte.
    pub data: Bytes,
}

impl RowVersion {
    /// Returns the version of `record`.
    pub fn of(record: &SessionRecord) -> Self {
        Self {
            tokens: record.tokens.clone(),
            data: record.data.clone(),
        }
    }
}

impl fmt::Debug for RowVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowVersion")
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// A new expiry for one row.
#[derive(Clone, Debug)]
pub struct Touch {
    /// The row's id.
    pub id: SessionId,
    /// The row's new last valid second.
    pub expires_at_s: i64,
}

/// The outcome of one change.
#[derive(Debug)]
pub enum CommitVerdict {
    /// The change is durable and visible to every later load.
    Committed,
    /// Not applied: the row differs from the row that the change expected.
    Conflict,
    /// Not applied: the store rolled the change back in favour of another transaction. The row may still be the row
    /// that the change expected.
    RolledBack(StoreError),
    /// The statement was sent but no reply arrived. It may have been applied, may not have been, or may be applied
    /// later.
    Ambiguous(StoreError),
    /// Not applied, for a reason other than the row's state.
    Failed(StoreError),
}

/// Error returned by a store. Its `Display` text is only for the log: it may name hosts and server errors, but never
/// ids, data or passwords.
#[derive(Clone, Debug, thiserror::Error)]
#[error("session store: {detail}")]
pub struct StoreError {
    /// The class of the error, which says whether a retry may help.
    pub kind: StoreErrorKind,
    /// Details for the operator's log.
    pub detail: String,
}

/// The meaning of a store error for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Unreachable, overloaded, read-only or too slow. A later retry may succeed.
    Unavailable,
    /// The row does not fit the store (too large).
    TooLarge,
    /// The table refuses the row permanently: a column cannot hold the value, or a constraint forbids it. Only a change
    /// of the table helps.
    Refused,
    /// Any other error, such as a wrong schema, a missing privilege or a corrupt file.
    Broken,
}

impl StoreErrorKind {
    /// Returns whether the store refused this row. It may accept another one.
    pub(crate) fn is_about_row(self) -> bool {
        match self {
            Self::TooLarge | Self::Refused => true,
            Self::Unavailable | Self::Broken => false,
        }
    }
}

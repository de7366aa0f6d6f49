//! Where rows live: one trait for all stores. Knows rows, ids and commit tokens; knows no cookies, no guests, no policy.
//!
//! Every change is one compare-and-swap per row. A created id is inserted, a loaded one only updated, so no store can
//! write a destroyed session back. Stores take many rows at once, so that commits that wait can travel together.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod copy;
pub mod examine;
pub mod memory;
pub mod metered;
pub mod mysql;
pub mod reaper;
pub mod scan;
pub mod sqlite;

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;

use crate::record::{SessionId, SessionRecord, TokenHistory};
use crate::telemetry::metrics::Scrape;

/// A future a store returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place that keeps sessions.
///
/// All times are the host's clock in whole seconds since the epoch, passed in, never the database's own.
/// Every method is bounded in time by the store's own timeouts.
///
/// Cancel safety: a dropped `commit_many` may still take effect; call it from a task that is never cancelled. What still
/// waits of a dropped `load_many` is not done.
pub trait SessionStore: Send + Sync + fmt::Debug + 'static {
    /// Reads rows, one answer per id in the same order; `None` where the row is absent or expired before `now_s`.
    ///
    /// # Errors
    /// When the store did not answer in time; then nothing is known of any of the rows.
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>>;

    /// Applies changes, each on its own (no transaction over several rows), durably; one verdict per change in the same order.
    ///
    /// No id may be named twice in one call.
    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<Verdict>>;

    /// Moves the expiry of rows that are still valid at `now_s`; others are left alone. Best effort.
    ///
    /// # Errors
    /// When the store did not answer in time; some rows may have been touched.
    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>>;

    /// Deletes at most `rows_max` rows that expired before `now_s` and returns how many; by primary key, in one short statement.
    ///
    /// # Errors
    /// When the store did not answer in time; the next call goes on where this one stopped.
    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>>;

    /// Whether rows keep commit tokens. Where they do not (an existing table that may not be altered), a commit whose
    /// reply was lost cannot be decided.
    fn keeps_tokens(&self) -> bool;

    /// Why it refuses all writes until the host is restarted, if it does; it may go on reading. For the log, as every error.
    fn halted(&self) -> Option<StoreError> {
        None
    }

    /// The servers that it may use, in the order in which they are preferred; none where it has no list of servers.
    fn servers(&self) -> Vec<ServerStanding> {
        Vec::new()
    }

    /// Uses the first server of the list from now on, and lets those be used again that were left after a failure: the operator's
    /// word. Its name.
    ///
    /// # Errors
    /// When that server does not serve, or there is no list; then nothing has changed.
    fn prefer_first(&self) -> StoreFuture<'_, Result<String, StoreError>> {
        Box::pin(async {
            Err(StoreError {
                kind: StoreErrorKind::Broken,
                detail: "the store has no list of servers".to_owned(),
            })
        })
    }

    /// Adds the counters that only this kind of store has.
    fn tell(&self, _scrape: &Scrape) {}
}

/// One server of a store's list. For the operator alone: it names servers and their errors.
#[derive(Clone, Debug)]
pub struct ServerStanding {
    /// Its address.
    pub name: String,
    /// Whether the store uses it now.
    pub is_in_use: bool,
    /// Whether it gave connections lately because the one in use gave none.
    pub is_helping: bool,
    /// Whether it was left after a failure and is used again only after [`SessionStore::prefer_first`] or a restart.
    pub is_barred: bool,
    /// What it is, if a connection has told.
    pub is: Option<String>,
    /// Connections to it.
    pub connections: usize,
    /// How many there may be: fewer than were configured while it refuses more.
    pub connections_max: usize,
    /// Why it is left alone just now.
    pub failure: Option<String>,
}

/// One row's change.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The row, by the id it was loaded or is created under.
    pub id: SessionId,
    /// What becomes of it.
    pub change: Change,
}

/// What a commit does to its row.
#[derive(Clone, Debug)]
pub enum Change {
    /// Inserts the row; [`Verdict::Conflict`] if the id exists.
    Create(SessionRecord),
    /// Replaces the row if it is still `base` and still valid; [`Verdict::Conflict`] otherwise.
    ///
    /// `record.tokens` is `base.tokens` with this commit's token pushed, so a committed row always differs from its base.
    Update {
        /// What was read.
        base: RowVersion,
        /// What it becomes. Its `created_at_s` is written only where the row has none yet.
        record: SessionRecord,
        /// The id it moves to, by `renew` and `regenerate`.
        new_id: Option<SessionId>,
    },
    /// Deletes the row: whatever it holds, or with a base only if it is still that and still valid ([`Verdict::Conflict`] otherwise).
    /// Without a base an absent row counts as [`Verdict::Committed`].
    Delete {
        /// What was read, if anything was.
        base: Option<RowVersion>,
    },
}

/// What a compare-and-swap compares: tokens *and* data, because Express writes the data and not the tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct RowVersion {
    /// The row's commit tokens as read.
    pub tokens: TokenHistory,
    /// The row's data as read, byte for byte.
    pub data: Bytes,
}

impl RowVersion {
    /// The version that `record` is.
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

/// Moves a row's expiry.
#[derive(Clone, Debug)]
pub struct Touch {
    /// The row.
    pub id: SessionId,
    /// Its new last valid second.
    pub expires_at_s: i64,
}

/// What became of one change.
#[derive(Debug)]
pub enum Verdict {
    /// Durable and visible to every later load.
    Committed,
    /// Not applied: the row is not what the change expected.
    Conflict,
    /// Not applied: the store rolled it back in favour of another transaction. The row may be what the change expected.
    RolledBack(StoreError),
    /// The statement left and no answer came: applied or not, now or later.
    Ambiguous(StoreError),
    /// Not applied, and not because of the row.
    Failed(StoreError),
}

/// Why a store did not do as asked. `Display` is for the log alone: it may name hosts and server errors, never ids, data or passwords.
#[derive(Clone, Debug, thiserror::Error)]
#[error("session store: {detail}")]
pub struct StoreError {
    /// Whether trying later may help.
    pub kind: StoreErrorKind,
    /// For the operator's log.
    pub detail: String,
}

/// What a store error means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// Unreachable, overloaded, read-only or too slow: try later.
    Unavailable,
    /// The row does not fit the store (too large).
    TooLarge,
    /// The table refuses the row for good: a column cannot hold the value, or a constraint forbids it. Nothing but a change of the
    /// table helps.
    Refused,
    /// Anything else: wrong schema, missing grant, corrupt file.
    Broken,
}

//! The operations that a SQL store supplies to group commit. Knows no driver and no SQL text.

use std::collections::HashMap;

use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, CommitVerdict, RowVersion, StoreError};

/// The statements that group commit needs on one table of sessions.
///
/// The store's own timeouts bound every method. Group commit runs the methods in tasks of its own and drops no future
/// before it is done, except when the runtime shuts down.
pub trait Dialect: Send + Sync + 'static {
    /// A connection that is checked out of the store's pool. Dropping it gives it back.
    type Connection<'a>: Send;

    /// The error of a statement, or of an attempt to get a connection.
    type Error: StatementFailure;

    /// The size limits of one statement.
    const BATCH_LIMITS: BatchLimits;

    /// Returns the maximum number of concurrent statements when many rows are read or changed one by one.
    fn rows_in_flight_max(&self) -> usize;

    /// Returns whether [`Dialect::swap_rows`] takes several rows. This requires a table whose rows keep commit tokens,
    /// and a statement that locks only the rows that it names. Otherwise group commit swaps each row with
    /// [`Dialect::commit_row`].
    fn swaps_many(&self) -> bool;

    /// Returns how many of `rows` rows (at least one) the next insert takes: at least one, at most `rows`.
    fn insert_rows_max(&self, rows: usize) -> usize;

    /// Returns the error of a commit that the table permanently refuses and that is therefore never sent.
    fn refusal(&self, commit: &Commit) -> Option<StoreError>;

    /// Gets a connection from the pool.
    fn acquire(&self) -> impl Future<Output = Result<Self::Connection<'_>, Self::Error>> + Send;

    /// Runs one statement that swaps each of the rows if it still equals its base and is valid at `now_s`. Returns the
    /// number of swapped rows, and the connection on which they were swapped. No row occurs twice.
    ///
    /// The statement may be retried only if it was certainly not applied. With several rows, it must not be retried if
    /// one of the rows may be the cause: that failure is a [`FailureScope::OneRow`].
    ///
    /// # Errors
    /// Returns an error if the statement was not applied, or may not have been.
    fn swap_rows<'a>(
        &'a self,
        connection: Self::Connection<'a>,
        rows: &[RowSwap<'_>],
        now_s: i64,
    ) -> impl Future<Output = Result<(u64, Self::Connection<'a>), Self::Error>> + Send;

    /// Runs one statement that inserts all of the rows, as many as [`Dialect::insert_rows_max`] allows. Returns the
    /// connection on which they were inserted. The rule on retries is that of [`Dialect::swap_rows`].
    ///
    /// # Errors
    /// Returns an error if the statement was not applied, or may not have been.
    fn insert_rows<'a>(
        &'a self,
        connection: Self::Connection<'a>,
        rows: &[RowInsert<'_>],
    ) -> impl Future<Output = Result<Self::Connection<'a>, Self::Error>> + Send;

    /// Reads the current tokens of these rows, expired ones as well. It must run on `connection`, and is not retried on
    /// another one: only the connection that swapped the rows is sure to see them.
    ///
    /// # Errors
    /// Returns an error if the connection gives no answer.
    fn read_tokens(
        &self,
        connection: &mut Self::Connection<'_>,
        ids: &[&SessionId],
    ) -> impl Future<Output = Result<RowsById<TokenHistory>, Self::Error>> + Send;

    /// Reads the rows that are valid at `now_s`. The ids are sorted, and none occurs twice.
    ///
    /// # Errors
    /// Returns an error if the rows could not be read.
    fn load_rows<'a>(
        &'a self,
        connection: Self::Connection<'a>,
        ids: &[&SessionId],
        now_s: i64,
    ) -> impl Future<Output = Result<RowsById<SessionRecord>, Self::Error>> + Send;

    /// Applies one commit of any kind in a statement of its own.
    fn commit_row(&self, commit: &Commit, now_s: i64)
    -> impl Future<Output = CommitVerdict> + Send;
}

/// The error of a statement, as far as group commit must understand it.
pub trait StatementFailure: Send + Sync {
    /// Returns which rows of the statement the failure concerns.
    fn scope(&self) -> FailureScope;

    /// Returns the verdict on each change of a statement that failed for all of its rows.
    fn to_verdict(&self) -> CommitVerdict;

    /// Converts the failure to the error that the request receives.
    fn to_store_error(&self) -> StoreError;
}

/// The rows of a statement that its failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureScope {
    /// All rows alike: each change has the same verdict ([`StatementFailure::to_verdict`]).
    AllRows,
    /// One of the rows may be the cause, and none was changed. Each row is tried in a statement of its own.
    OneRow,
    /// The server rolled the statement back, but other members of its group may still apply it. A swap is repeated row
    /// by row, because it applies only to the unchanged base; the tokens then decide. An insert is a failure of all rows.
    MayStillApply,
}

/// The size limits of one statement.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Maximum number of rows.
    pub rows_max: usize,
    /// Maximum number of bytes of session data. A larger row is a batch of its own.
    pub bytes_max: usize,
}

/// One row of a statement that swaps rows.
#[derive(Clone, Copy, Debug)]
pub struct RowSwap<'a> {
    /// The row's id.
    pub id: &'a SessionId,
    /// The row as it was read.
    pub base: &'a RowVersion,
    /// The new row.
    pub record: &'a SessionRecord,
}

/// One row of a statement that inserts rows.
#[derive(Clone, Copy, Debug)]
pub struct RowInsert<'a> {
    /// The row's id.
    pub id: &'a SessionId,
    /// The new row.
    pub record: &'a SessionRecord,
}

/// Values of rows, by the exact bytes of the rows' ids. A column's collation may also match ids that differ.
pub type RowsById<T> = HashMap<Vec<u8>, T>;

//! Group commit on MySQL: the statements of a batch, and the meaning of their errors for its rows.

use std::time::Instant;

use super::MysqlShared;
use super::commit::verdict_of;
use super::connection::{Statement, StatementResult};
use super::error::{StatementError, StatementErrorClass};
use super::execute::{RetryRule, execute_over};
use super::rows;
use super::servers::PooledConnection;
use cloakroom_base::limits::{STORE_BATCH_BYTES_MAX, STORE_BATCH_ROWS_MAX};
use cloakroom_group_commit::{
    BatchLimits, Dialect, FailureScope, RowInsert, RowSwap, RowsById, StatementFailure,
};
use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{Commit, CommitVerdict, StoreError};

impl Dialect for MysqlShared {
    type Connection<'a> = PooledConnection<'a>;
    type Error = StatementError;

    const BATCH_LIMITS: BatchLimits = BatchLimits {
        rows_max: STORE_BATCH_ROWS_MAX,
        bytes_max: STORE_BATCH_BYTES_MAX,
    };

    fn rows_in_flight_max(&self) -> usize {
        self.rows_in_flight_max
    }

    fn swaps_many(&self) -> bool {
        self.sql.swaps_many()
    }

    fn insert_rows_max(&self, rows: usize) -> usize {
        let (count, _) = self.sql.insert_many(rows);
        count
    }

    fn refusal(&self, commit: &Commit) -> Option<StoreError> {
        self.columns.refusal(commit)
    }

    fn acquire(&self) -> impl Future<Output = Result<PooledConnection<'_>, StatementError>> + Send {
        self.hosts.link()
    }

    async fn swap_rows<'a>(
        &'a self,
        connection: PooledConnection<'a>,
        rows: &[RowSwap<'_>],
        now_s: i64,
    ) -> Result<(u64, PooledConnection<'a>), StatementError> {
        let committer = self.committer(now_s);
        let statement = committer.update_many(rows);
        let sent = self.send(connection, &statement, rows[0].id, rows.len());
        let (result, connection) = sent.await?;
        Ok((result.affected_rows, connection))
    }

    async fn insert_rows<'a>(
        &'a self,
        connection: PooledConnection<'a>,
        rows: &[RowInsert<'_>],
    ) -> Result<PooledConnection<'a>, StatementError> {
        // An insert compares no time.
        let committer = self.committer(0);
        let statement = committer.insert_many(rows);
        let sent = self.send(connection, &statement, rows[0].id, rows.len());
        let (_, connection) = sent.await?;
        Ok(connection)
    }

    fn read_tokens(
        &self,
        connection: &mut Self::Connection<'_>,
        ids: &[&SessionId],
    ) -> impl Future<Output = Result<RowsById<TokenHistory>, StatementError>> + Send {
        rows::tokens(connection, &self.sql, ids)
    }

    fn load_rows<'a>(
        &'a self,
        connection: PooledConnection<'a>,
        ids: &[&SessionId],
        now_s: i64,
    ) -> impl Future<Output = Result<RowsById<SessionRecord>, StatementError>> + Send {
        let started_at = Instant::now();
        rows::load(connection, started_at, &self.hosts, &self.sql, ids, now_s)
    }

    async fn commit_row(&self, commit: &Commit, now_s: i64) -> CommitVerdict {
        self.committer(now_s).commit(commit).await
    }
}

impl MysqlShared {
    /// Runs a statement that changes `count` rows, `first` among them.
    async fn send<'a>(
        &'a self,
        connection: PooledConnection<'a>,
        statement: &Statement<'_>,
        first: &SessionId,
        count: usize,
    ) -> Result<(StatementResult, PooledConnection<'a>), StatementError> {
        let is_alone = count == 1;
        let retry = match is_alone {
            true => RetryRule::IfNotApplied,
            false => RetryRule::IfNotForItsRows,
        };
        let sent = execute_over(connection, Instant::now(), &self.hosts, statement, retry).await;
        if is_alone || sent.is_ok() {
            // If a statement with several rows fails, one of them may have been locked. The rows are retried one by one
            // and recorded then.
            let outcome = sent.as_ref().map(|_| ());
            self.hosts.note_change(first, outcome);
        }
        sent
    }
}

impl StatementFailure for StatementError {
    fn scope(&self) -> FailureScope {
        match self.class {
            StatementErrorClass::RolledBackHere => FailureScope::MayStillApply,
            _ if self.may_be_for_a_row() => FailureScope::OneRow,
            _ => FailureScope::AllRows,
        }
    }

    fn to_verdict(&self) -> CommitVerdict {
        verdict_of(self)
    }

    fn to_store_error(&self) -> StoreError {
        self.to_store_error()
    }
}

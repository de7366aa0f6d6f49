//! Sessions in MySQL, MariaDB or any server that speaks their protocol, in Express's table. Only this module and its
//! submodules name the driver.
//!
//! A change is one autocommit statement whose `WHERE` compares the row with the version that was read. This is correct
//! at every isolation level. Every wait has a limit. While a server is down, requests fail at once; when it is back,
//! the store finds it again by itself. Reads and commits go through group commit, which batches those that wait.

mod choice;
mod circuit;
mod commit;
mod connect_error;
mod connection;
mod dialect;
mod error;
mod examine;
mod execute;
mod locked;
mod options;
mod pool;
mod pool_size;
mod rows;
mod scan;
mod schema;
mod server;
mod servers;
mod setup;
mod sql;

pub use connect_error::{ConnectErrorClass, MysqlConnectError};
pub use examine::examine;
pub use options::{
    BadIdentifier, CertificateCheck, Identifier, MysqlOptions, MysqlTls, SchemaNames, ServerAddress,
};

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt as _, stream};

use cloakroom_base::telemetry::metrics::Scrape;
use cloakroom_group_commit::GroupCommit;
use cloakroom_session::record::{Charset, SessionId, SessionRecord};
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_session::store::{
    Commit, CommitVerdict, ServerStanding, SessionStore, StoreError, StoreFuture, Touch,
};
use commit::CommitContext;
use schema::TableColumns;
use servers::{ServerList, ServerWatch};
use sql::TableStatements;

/// Time between two connection attempts at start.
const START_RETRY: Duration = Duration::from_millis(200);

/// A session store in MySQL or a compatible server. Its connections belong to the runtime on which it was created.
///
/// Commits and reads run in tasks of the store's own, so a caller that is dropped does not interrupt them. A read that
/// is still waiting in the batch queue when its caller is dropped is cancelled.
pub struct MysqlStore {
    shared: Arc<MysqlShared>,
    group_commit: GroupCommit<MysqlShared>,
    /// Findings on the table, made at start.
    findings: Vec<ExamineFinding>,
    /// Whether the data column has a type that keeps the meaning of a text but not its bytes.
    rewrites_data: bool,
    /// `None` if the store only reads: the server in use may then be one that takes no writes.
    _watch: Option<ServerWatch>,
}

struct MysqlShared {
    servers: ServerList,
    names: SchemaNames,
    sql: TableStatements,
    columns: TableColumns,
    /// Maximum number of concurrent statements when many rows are changed one by one.
    rows_in_flight_max: usize,
}

impl MysqlStore {
    /// Connects, and finds or creates the table. At start a server must be reachable; the store survives later outages.
    ///
    /// # Errors
    /// Returns [`ConnectErrorClass::Reach`] if no server was found within [`MysqlOptions::start_timeout`]. Returns all other errors at
    /// once, because waiting does not fix a wrong password or an unusable table.
    ///
    /// Cancel safety: if the future is dropped, a change of the table may still be in progress.
    pub async fn connect(options: &MysqlOptions) -> Result<Self, MysqlConnectError> {
        let servers = ServerList::new(options);
        let started_at = Instant::now();
        let mut is_waiting = false;
        let prepared = loop {
            match schema::prepare(&servers, options).await {
                Ok(prepared) => break prepared,
                Err(error)
                    if error.culprit == ConnectErrorClass::Reach
                        && started_at.elapsed() < options.start_timeout =>
                {
                    if !std::mem::replace(&mut is_waiting, true) {
                        let seconds_max = options.start_timeout.as_secs_f32();
                        tracing::info!(
                            reason = error.detail,
                            seconds_max,
                            "waiting for the session store"
                        );
                    }
                    tokio::time::sleep(START_RETRY).await;
                }
                Err(error) => return Err(servers.with_remedy(error)),
            }
        };
        let columns = prepared.columns;
        let shared = MysqlShared {
            names: options.schema.clone(),
            sql: TableStatements::new(&options.schema, columns),
            servers,
            columns,
            rows_in_flight_max: options.connection_limit.max(1),
        };
        let shared = Arc::new(shared);
        // As long as a statement outside the batch queue may wait for its connection.
        let wait_max = options.acquire_timeout + options.connect_timeout;
        Ok(Self {
            group_commit: GroupCommit::new(&shared, wait_max),
            findings: prepared.findings,
            rewrites_data: prepared.rewrites_data,
            _watch: (!options.reads_only).then(|| ServerWatch::over(&shared)),
            shared,
        })
    }

    /// Returns whether the table treated different ids as equal when it was checked: ids that differ only in case,
    /// accents or characters without weight.
    pub fn compares_ids_loosely(&self) -> bool {
        self.shared.columns.is_id_loose
    }

    /// Returns the characters that the data column could hold when it was checked. A row with other characters is
    /// refused.
    pub fn charset(&self) -> Charset {
        self.shared.columns.charset
    }

    /// Returns the findings on the table from start: missing features, and rows that it refuses permanently.
    pub fn findings(&self) -> &[ExamineFinding] {
        &self.findings
    }

    /// Returns whether the server rewrites each session's data (MySQL's JSON type). The data that is read then differs
    /// from the data that was written.
    pub fn rewrites_data(&self) -> bool {
        self.rewrites_data
    }

    /// Waits for the commits and reads that are in progress. New ones may still begin.
    pub async fn shutdown(&self) {
        self.group_commit.shutdown().await;
    }
}

impl SessionStore for MysqlStore {
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(self.group_commit.load_many(ids, now_s))
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(self.group_commit.commit_many(commits, now_s))
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        let MysqlShared {
            servers,
            sql,
            rows_in_flight_max,
            ..
        } = &*self.shared;
        let mut sorted: Vec<_> = touches.iter().collect();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        Box::pin(async move {
            stream::iter(sorted.chunks(sql.touched_rows_max()).map(Ok))
                .try_for_each_concurrent(*rows_in_flight_max, |touches| {
                    rows::touch(servers, sql, touches, now_s)
                })
                .await
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(rows::reap(
            &self.shared.servers,
            &self.shared.sql,
            now_s,
            rows_max,
        ))
    }

    fn keeps_tokens(&self) -> bool {
        self.shared.columns.has_token
    }

    fn servers(&self) -> Vec<ServerStanding> {
        self.shared.servers.standings()
    }

    fn prefer_first(&self) -> StoreFuture<'_, Result<String, StoreError>> {
        Box::pin(async move {
            let preferred = self.shared.servers.prefer_first().await;
            preferred.map_err(|fault| fault.to_store_error())
        })
    }

    fn collect_into(&self, scrape: &Scrape) {
        self.shared.servers.add_metrics(scrape);
    }
}

impl MysqlShared {
    fn committer(&self, now_s: i64) -> CommitContext<'_> {
        CommitContext {
            servers: &self.servers,
            sql: &self.sql,
            columns: self.columns,
            now_s,
        }
    }
}

impl fmt::Debug for MysqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlStore")
            .field("hosts", &self.shared.servers.names())
            .field("columns", &self.shared.columns)
            .finish_non_exhaustive()
    }
}

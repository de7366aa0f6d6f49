//! The store's periodic checks: whether the server in use still takes writes, and whether an earlier server of the list
//! is healthy again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::join;
use mysql_async::{Row, from_row_opt};
use tokio::task::JoinHandle;

use super::super::MysqlShared;
use super::super::connection::Statement;
use super::super::error::{StatementError, StatementErrorClass, StatementProgress};
use super::super::pool::PoolTimeouts;
use super::super::server::{READ_ONLY, ServerVariables};
use super::ServerList;

/// Time between two checks of the server in use. For this long, a host that only reads may continue to use a demoted
/// primary.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait for a connection for a check.
const CHECK_ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time between two checks of the servers that precede the server in use in the list.
const EARLIER_INTERVAL: Duration = Duration::from_secs(5);

/// The task that runs the checks. The checks end when this is dropped.
pub(crate) struct ServerWatch(JoinHandle<()>);

impl ServerWatch {
    /// Starts the checks. They run for as long as the store exists.
    pub(crate) fn over(shared: &Arc<MysqlShared>) -> Self {
        let shared = Arc::downgrade(shared);
        Self(tokio::spawn(async move {
            // Concurrently, so that an earlier server that does not answer does not delay the check of the server in
            // use.
            join(watch_used(&shared), watch_earlier(&shared)).await;
        }))
    }
}

impl Drop for ServerWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch_used(shared: &Weak<MysqlShared>) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.servers.check_current().await;
        shared.servers.log_end_of_fallback();
    }
}

async fn watch_earlier(shared: &Weak<MysqlShared>) {
    loop {
        tokio::time::sleep(EARLIER_INTERVAL).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.servers.check_earlier().await;
    }
}

impl ServerList {
    /// Leaves the server in use if it no longer takes writes, because its rows are then those of a replica.
    ///
    /// Cancel safety: dropping it costs at most one connection.
    async fn check_current(&self) {
        let current = self.choice.lock().current();
        let server = &self.servers[current];
        let times = PoolTimeouts {
            acquire: CHECK_ACQUIRE_TIMEOUT,
            ..self.times
        };
        let deadline = Instant::now() + CHECK_ACQUIRE_TIMEOUT + self.times.connect;
        // A failure to connect is handled by the pool.
        let Ok(mut connection) = server.acquire(times, deadline).await else {
            return;
        };
        let statement = Statement {
            text: READ_ONLY,
            values: Vec::new(),
        };
        let Ok(answer) = connection.run(&statement).await else {
            return;
        };
        drop(connection);
        let mut facts = ServerVariables::default();
        facts.add(answer.rows.into_iter().filter_map(variable));
        if let Some(name) = facts.read_only() {
            let detail = format!("the server no longer takes writes: {name} is on");
            let fault = StatementError::new(
                StatementErrorClass::ServerUnfit,
                StatementProgress::NotSent,
                detail,
            );
            server.leave(&fault.at(server.name()));
        }
    }

    /// Switches back to an earlier server of the list once it has been a healthy member of the cluster in use for long
    /// enough.
    ///
    /// Cancel safety: dropping it changes nothing.
    async fn check_earlier(&self) {
        let (earlier, cluster) = {
            let choice = self.choice.lock();
            (choice.earlier(), choice.cluster().cloned())
        };
        // Among single servers, only the operator knows which one has the latest rows.
        let Some(cluster) = cluster else {
            return;
        };
        for index in earlier {
            let server = &self.servers[index];
            let found = server.probe(self.times.connect).await;
            let is_healthy =
                found.is_some_and(|it| it.is_healthy_member && it.shares_cluster_with(&cluster));
            if is_healthy {
                server.is_back();
            }
            let (before, is_due) = {
                let mut choice = self.choice.lock();
                let before = choice.current();
                let is_due = choice.record_check(index, is_healthy, Instant::now());
                (before, is_due)
            };
            if is_due {
                self.switched(
                    before,
                    index,
                    "it has been a healthy member of the cluster for a while",
                );
                return;
            }
        }
    }
}

fn variable(row: Row) -> Option<(String, Option<String>)> {
    from_row_opt(row).ok()
}

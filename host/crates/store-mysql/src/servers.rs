//! The servers of the list: which one is in use ([`ServerChoice`]), and the kind of each.
//!
//! The first server that takes writes is used until it fails, then the next one that takes writes. A member of a
//! cluster is used again automatically once it is healthy; a single server is not.

mod fallback;
mod log;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choice::{ServerChoice, ServerFailure, ServerSearch, ServingOutcome};
use super::connect_error::{ConnectErrorClass, MysqlConnectError};
use super::connection::lock_wait;
use super::error::{StatementError, StatementErrorClass, StatementProgress};
use super::locked::LockedServer;
use super::options::MysqlOptions;
use super::pool::{PoolTimeouts, ServerPool};
use cloakroom_base::telemetry::metrics::{Counter, counter};
use cloakroom_session::record::SessionId;
use fallback::FallbackPeriod;
use parking_lot::Mutex;

pub(crate) use super::pool::PooledConnection;
pub(crate) use watch::ServerWatch;

/// Maximum number of searches per request. A search is repeated if another server came into use in the meantime.
const SEARCHES_MAX: usize = 4;

/// All servers of the list. It has no `Debug`, because the driver's types print the password.
pub(crate) struct ServerList {
    servers: Vec<Arc<ServerPool>>,
    choice: Mutex<ServerChoice>,
    fallback: Mutex<FallbackPeriod>,
    locked: Mutex<LockedServer>,
    times: PoolTimeouts,
    deadlocks: Counter,
    switches: Counter,
}

impl ServerList {
    pub(crate) fn new(options: &MysqlOptions) -> Self {
        let servers: Vec<_> = match &options.socket {
            Some(socket) => {
                let name = format!("socket {}", socket.display());
                vec![ServerPool::new(0, name, options, None)]
            }
            None => (options.hosts.iter().enumerate())
                .map(|(n, address)| ServerPool::new(n, address.to_string(), options, Some(address)))
                .collect(),
        };
        Self {
            choice: Mutex::new(ServerChoice::new(servers.len())),
            servers,
            fallback: Mutex::default(),
            locked: Mutex::default(),
            times: PoolTimeouts {
                acquire: options.acquire_timeout,
                connect: options.connect_timeout,
                statement: options.statement_timeout,
            },
            deadlocks: counter(
                "cloakroom_store_deadlocks_total",
                "Statements that the database rolled back in favour of another transaction.",
                &[],
            ),
            switches: counter(
                "cloakroom_store_server_switches_total",
                "Times the host switched to another server of the session store's list.",
                &[],
            ),
        }
    }

    /// Counts the statements that a server rolled back in favour of another transaction.
    pub(crate) fn deadlocks(&self) -> &Counter {
        &self.deadlocks
    }

    /// Returns the names of all servers, for logs and errors.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        names.join(", ")
    }

    pub(crate) fn statement_timeout(&self) -> Duration {
        self.times.statement
    }

    /// Returns a connection to the server in use, or to the first server that may replace it. Bounded by the acquire
    /// timeout plus the connect timeout.
    pub(crate) async fn acquire(&self) -> Result<PooledConnection<'_>, StatementError> {
        let deadline = Instant::now() + self.times.acquire + self.times.connect;
        for _ in 0..SEARCHES_MAX {
            if let Some(connection) = self.search(deadline).await? {
                return Ok(connection);
            }
        }
        let detail = "another server came into use each time a connection was ready";
        Err(StatementError::new(
            StatementErrorClass::Unavailable,
            StatementProgress::NotSent,
            detail,
        ))
    }

    /// Returns a connection, or `None` if another server came into use in the meantime.
    async fn search(
        &self,
        deadline: Instant,
    ) -> Result<Option<PooledConnection<'_>>, StatementError> {
        let (mut search, in_use) = {
            let mut choice = self.choice.lock();
            (choice.search(), choice.current())
        };
        let mut faults = Vec::new();
        if search.avoids_locked() {
            let detail = "changes of three sessions in a row timed out waiting for a lock: all rows seem to be locked";
            let fault = StatementError::new(
                StatementErrorClass::LockWait,
                StatementProgress::Sent,
                detail,
            );
            faults.push(fault.at(self.servers[in_use].name()));
        }
        for index in search.order() {
            let server = &self.servers[index];
            let fault = match server.acquire(self.times, deadline).await {
                Ok(connection) => match self.found(index, &search, &faults) {
                    ServingOutcome::Serves | ServingOutcome::Adopted | ServingOutcome::Fallback => {
                        return Ok(Some(connection));
                    }
                    ServingOutcome::Moved => return Ok(None),
                    ServingOutcome::Foreign => self.foreign(index),
                },
                Err(fault) => fault,
            };
            let failure = failure_of(&fault);
            search.tried(index, failure);
            faults.push(fault);
            let is_single = server.server().is_some_and(|it| !it.is_clustered());
            // The server is too busy but not down. Commits that belong to this server must not go to another single
            // server.
            if failure == ServerFailure::Full && is_single && !search.avoids_locked() {
                break;
            }
        }
        Err(self.of_all(&faults))
    }

    /// Derives the consequence of a connection to this server. If the server in use failed, this server is in use from
    /// now on.
    fn found(
        &self,
        index: usize,
        search: &ServerSearch,
        faults: &[StatementError],
    ) -> ServingOutcome {
        let Some(server) = self.servers[index].server() else {
            // Cannot occur: each connection reads the server's description before it is handed out.
            return ServingOutcome::Foreign;
        };
        let now = Instant::now();
        let mut choice = self.choice.lock();
        let before = choice.current();
        // A check may have read the description of the server in use, with no request since then.
        if let Some(in_use) = self.servers[before].server() {
            choice.learn(&in_use);
        }
        let found = choice.found(index, &server, search, now);
        drop(choice);
        let reason = || StatementError::of_all(faults).detail;
        match found {
            ServingOutcome::Adopted => self.switched(before, index, &reason()),
            ServingOutcome::Fallback if self.fallback.lock().record(index, now) => {
                self.log_fallback(before, index, &reason());
            }
            ServingOutcome::Fallback
            | ServingOutcome::Serves
            | ServingOutcome::Foreign
            | ServingOutcome::Moved => {}
        }
        found
    }

    /// Returns the reason why a server that serves is not used.
    fn foreign(&self, index: usize) -> StatementError {
        let server = &self.servers[index];
        let is = server.server().map(|it| it.to_string());
        let wanted = match self.choice.lock().cluster() {
            Some(cluster) => format!("the store uses {cluster}"),
            None => "only members of the same cluster help each other out".to_owned(),
        };
        let detail = format!(
            "it is not a member of the store's cluster ({wanted}; this is {}): as the first of the list it is used after \
             `cloakroom store prefer-first`, else after a restart",
            is.as_deref().unwrap_or("unknown")
        );
        StatementError::new(
            StatementErrorClass::ServerUnfit,
            StatementProgress::NotSent,
            detail,
        )
        .at(server.name())
    }

    /// Completes the change to another server in use.
    fn switched(&self, before: usize, index: usize, reason: &str) {
        self.switches.inc();
        self.servers[before].close_all();
        self.locked.lock().changed();
        self.fallback.lock().end();
        self.log_switch(index, reason);
    }

    /// Returns the reason why no server can be used: the answer of each, and the names of the barred servers.
    fn of_all(&self, faults: &[StatementError]) -> StatementError {
        let choice = self.choice.lock();
        let barred: Vec<_> = (0..self.servers.len())
            .filter(|index| choice.is_barred(*index) && *index != choice.current())
            .map(|index| self.servers[index].name())
            .collect();
        drop(choice);
        let mut fault = StatementError::of_all(faults);
        if !barred.is_empty() {
            let names = barred.join(", ");
            fault.detail.push_str(&format!(
                "; {names} failed before: used again only after `cloakroom store prefer-first` (POST /store/prefer-first) or a restart"
            ));
        }
        fault
    }

    /// Records whether a change of this session timed out waiting for a lock. If this happens to several sessions in a
    /// row, all rows of the server are treated as locked, and another server is used if one takes writes.
    pub(crate) fn note_change(&self, id: &SessionId, outcome: Result<(), &StatementError>) {
        match outcome {
            Ok(()) => self.locked.lock().changed(),
            Err(fault) => {
                let is_all = self.is_lock_wait(fault) && self.locked.lock().waited(id);
                if is_all {
                    self.choice.lock().suspect_locked();
                }
            }
        }
    }

    /// Returns whether the server in use let a change wait for a lock. A late answer from another server says nothing
    /// about the server in use.
    fn is_lock_wait(&self, fault: &StatementError) -> bool {
        let statement = self.times.statement;
        let is_wait = match fault.class {
            StatementErrorClass::LockWait => true,
            // With a statement timeout this short, the server's lock wait error arrives too late.
            StatementErrorClass::TimedOut => {
                fault.progress == StatementProgress::Sent && statement <= lock_wait(statement)
            }
            _ => false,
        };
        is_wait
            && fault.origin.is_some_and(|origin| {
                origin.server == self.choice.lock().current()
                    && origin.generation == self.servers[origin.server].generation()
            })
    }

    /// Makes the first server of the list the server in use and returns its name. Servers that were left may be used
    /// again. Called only on the operator's prefer-first command.
    ///
    /// # Errors
    /// Returns an error if the first server does not serve. Nothing has changed then.
    ///
    /// Cancel safety: dropping it changes nothing.
    pub(crate) async fn prefer_first(&self) -> Result<String, StatementError> {
        let first = &self.servers[0];
        let deadline = Instant::now() + self.times.acquire + self.times.connect;
        let connection = first.acquire(self.times, deadline).await?;
        drop(connection);
        // Each connection reads the server's description before it is handed out.
        if let Some(server) = first.server() {
            let mut choice = self.choice.lock();
            let before = choice.current();
            choice.prefer_first(&server);
            drop(choice);
            if before != 0 {
                self.switched(before, 0, "the operator asked for it");
            }
        }
        Ok(first.name().to_owned())
    }

    /// Adds the SQL for an administrator to an error at start, if the servers refuse the account a privilege that it
    /// needs.
    pub(crate) fn with_remedy(&self, mut error: MysqlConnectError) -> MysqlConnectError {
        let remedy = self.servers.iter().find_map(|server| server.remedy());
        if let Some(remedy) = remedy.filter(|_| error.culprit != ConnectErrorClass::Reach) {
            error.culprit = ConnectErrorClass::Account;
            error.detail = error.detail.replace(&format!(": {remedy}"), "");
            error.remedy = remedy;
        }
        error
    }
}

fn failure_of(fault: &StatementError) -> ServerFailure {
    match fault.class {
        StatementErrorClass::ServerUnfit => ServerFailure::Unfit,
        StatementErrorClass::Unavailable => ServerFailure::Full,
        _ => ServerFailure::Failed,
    }
}

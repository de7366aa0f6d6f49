//! The servers of the list: which one is in use ([`Choice`]), and the kind of each.
//!
//! The first server that takes writes is used until it fails, then the next one that takes writes. A member of a
//! cluster is used again automatically once it is healthy; a single server is not.

mod help;
mod look;
mod tell;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::choice::{Choice, Failure, Found, Walk};
use super::connect_error::{ConnectError, Culprit};
use super::error::{Class, Fault, Progress};
use super::link::lock_wait;
use super::locked::Locked;
use super::options::Options;
use super::pool::{ServerPool, Times};
use crate::record::SessionId;
use crate::telemetry::metrics::{Counter, counter};
use help::Help;

pub(super) use super::pool::Link;
pub(super) use look::Watch;

/// Maximum number of walks per request. A walk is repeated if another server came into use in the meantime.
const WALKS_MAX: usize = 4;

/// All servers of the list. It has no `Debug`, because the driver's types print the password.
pub(super) struct Hosts {
    servers: Vec<Arc<ServerPool>>,
    choice: Mutex<Choice>,
    help: Mutex<Help>,
    locked: Mutex<Locked>,
    times: Times,
    deadlocks: Counter,
    switches: Counter,
}

impl Hosts {
    pub(super) fn new(options: &Options) -> Self {
        let servers: Vec<_> = match &options.socket {
            Some(socket) => {
                let name = format!("socket {}", socket.display());
                vec![ServerPool::new(0, name, options, None)]
            }
            None => (options.hosts.iter().enumerate())
                .map(|(n, host)| ServerPool::new(n, host.to_string(), options, Some(host)))
                .collect(),
        };
        Self {
            choice: Mutex::new(Choice::new(servers.len())),
            servers,
            help: Mutex::default(),
            locked: Mutex::default(),
            times: Times {
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
                "Times the host went on to another server of the session store's list.",
                &[],
            ),
        }
    }

    /// Counts the statements that a server rolled back in favour of another transaction.
    pub(super) fn deadlocks(&self) -> &Counter {
        &self.deadlocks
    }

    /// Returns the names of all servers, for logs and errors.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        names.join(", ")
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.times.statement
    }

    /// Returns a connection to the server in use, or to the first server that may replace it. Bounded by the acquire
    /// timeout plus the connect timeout.
    pub(super) async fn link(&self) -> Result<Link<'_>, Fault> {
        let deadline = Instant::now() + self.times.acquire + self.times.connect;
        for _ in 0..WALKS_MAX {
            if let Some(link) = self.walk(deadline).await? {
                return Ok(link);
            }
        }
        let detail = "another server came into use each time that a connection was there";
        Err(Fault::new(Class::Unavailable, Progress::NotSent, detail))
    }

    /// Returns a connection, or `None` if another server came into use in the meantime.
    async fn walk(&self, deadline: Instant) -> Result<Option<Link<'_>>, Fault> {
        let (mut walk, in_use) = {
            let mut choice = self.choice();
            (choice.walk(), choice.current())
        };
        let mut faults = Vec::new();
        if walk.is_from_locked() {
            let detail = "changes of three sessions in a row waited for a lock in vain: all rows seem to be locked";
            let fault = Fault::new(Class::LockWait, Progress::Sent, detail);
            faults.push(fault.at(self.servers[in_use].name()));
        }
        for index in walk.order() {
            let server = &self.servers[index];
            let fault = match server.link(self.times, deadline).await {
                Ok(link) => match self.found(index, &walk, &faults) {
                    Found::Serves | Found::Adopted | Found::HelpsOut => return Ok(Some(link)),
                    Found::Moved => return Ok(None),
                    Found::Foreign => self.foreign(index),
                },
                Err(fault) => fault,
            };
            let failure = failure_of(&fault);
            walk.tried(index, failure);
            faults.push(fault);
            let is_single = server.server().is_some_and(|it| !it.is_clustered());
            // The server is too busy but not down. Commits that belong to this server must not go to another single
            // server.
            if failure == Failure::Full && is_single && !walk.is_from_locked() {
                break;
            }
        }
        Err(self.of_all(&faults))
    }

    /// Derives the consequence of a connection to this server. If the server in use failed, this server is in use from
    /// now on.
    fn found(&self, index: usize, walk: &Walk, faults: &[Fault]) -> Found {
        let Some(server) = self.servers[index].server() else {
            // Cannot occur: each connection reads the server's description before it is handed out.
            return Found::Foreign;
        };
        let now = Instant::now();
        let mut choice = self.choice();
        let before = choice.current();
        // A check may have read the description of the server in use, with no request since then.
        if let Some(in_use) = self.servers[before].server() {
            choice.learn(&in_use);
        }
        let found = choice.found(index, &server, walk, now);
        drop(choice);
        let reason = || Fault::of_all(faults).detail;
        match found {
            Found::Adopted => self.switched(before, index, &reason()),
            Found::HelpsOut if self.help().gives(index, now) => {
                self.tell_help(before, index, &reason());
            }
            Found::HelpsOut | Found::Serves | Found::Foreign | Found::Moved => {}
        }
        found
    }

    /// Returns the reason why a server that serves is not used.
    fn foreign(&self, index: usize) -> Fault {
        let server = &self.servers[index];
        let is = server.server().map(|it| it.to_string());
        let wanted = match self.choice().cluster() {
            Some(cluster) => format!("the store uses {cluster}"),
            None => "a cluster's members alone help each other out".to_owned(),
        };
        let detail = format!(
            "it is no member of the store's cluster ({wanted}; this is {}): as the first of the list it is used after \
             `cloakroom store prefer-first`, else after a restart",
            is.as_deref().unwrap_or("unknown")
        );
        Fault::new(Class::HostUnfit, Progress::NotSent, detail).at(server.name())
    }

    /// Completes the change to another server in use.
    fn switched(&self, before: usize, index: usize, reason: &str) {
        self.switches.inc();
        self.servers[before].close_all();
        self.locked().changed();
        self.help().ends();
        self.tell_switch(index, reason);
    }

    /// Returns the reason why no server can be used: the answer of each, and the names of the barred servers.
    fn of_all(&self, faults: &[Fault]) -> Fault {
        let choice = self.choice();
        let barred: Vec<_> = (0..self.servers.len())
            .filter(|index| choice.is_barred(*index) && *index != choice.current())
            .map(|index| self.servers[index].name())
            .collect();
        drop(choice);
        let mut fault = Fault::of_all(faults);
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
    pub(super) fn note_change(&self, id: &SessionId, outcome: Result<(), &Fault>) {
        match outcome {
            Ok(()) => self.locked().changed(),
            Err(fault) => {
                let is_all = self.is_lock_wait(fault) && self.locked().waited(id);
                if is_all {
                    self.choice().suspect_locked();
                }
            }
        }
    }

    /// Returns whether the server in use let a change wait for a lock. A late answer from another server says nothing
    /// about the server in use.
    fn is_lock_wait(&self, fault: &Fault) -> bool {
        let statement = self.times.statement;
        let is_wait = match fault.class {
            Class::LockWait => true,
            // With a statement timeout this short, the server's lock wait error arrives too late.
            Class::TimedOut => {
                fault.progress == Progress::Sent && statement <= lock_wait(statement)
            }
            _ => false,
        };
        is_wait
            && fault.origin.is_some_and(|origin| {
                origin.server == self.choice().current()
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
    pub(super) async fn prefer_first(&self) -> Result<String, Fault> {
        let first = &self.servers[0];
        let deadline = Instant::now() + self.times.acquire + self.times.connect;
        let link = first.link(self.times, deadline).await?;
        drop(link);
        // Each connection reads the server's description before it is handed out.
        if let Some(server) = first.server() {
            let mut choice = self.choice();
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
    pub(super) fn with_remedy(&self, mut error: ConnectError) -> ConnectError {
        let remedy = self.servers.iter().find_map(|server| server.remedy());
        if let Some(remedy) = remedy.filter(|_| error.culprit != Culprit::Reach) {
            error.culprit = Culprit::Account;
            error.detail = error.detail.replace(&format!(": {remedy}"), "");
            error.remedy = remedy;
        }
        error
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        // No code panics in the middle of a change of the choice.
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn help(&self) -> MutexGuard<'_, Help> {
        self.help.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure_of(fault: &Fault) -> Failure {
    match fault.class {
        Class::HostUnfit => Failure::Unfit,
        Class::Unavailable => Failure::Full,
        _ => Failure::Failed,
    }
}

/// Returns a random number in 0..1.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

//! The servers of the list: the one in use ([`Choice`]), and the kind of each.
//!
//! The first server that can be written to is used until it fails; then the next one that can. Members of a cluster come back by
//! themselves once they are healthy, a single server does not.

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

/// How often a request sets out because another server is in use meanwhile.
const WALKS_MAX: usize = 4;

/// All servers of the list. No `Debug`: the driver's types print the password.
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

    /// Statements that a server rolled back in favour of another transaction.
    pub(super) fn deadlocks(&self) -> &Counter {
        &self.deadlocks
    }

    /// The names of all servers, for logs and errors.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.name()).collect();
        names.join(", ")
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.times.statement
    }

    /// A connection to the server in use, or to the first that may take its place; bounded by the acquire and the connect timeout
    /// together.
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

    /// A connection; none where another server is in use meanwhile.
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
            // Too busy, not gone: another single server is no place for what belongs to this one.
            if failure == Failure::Full && is_single && !walk.is_from_locked() {
                break;
            }
        }
        Err(self.of_all(&faults))
    }

    /// What follows from a connection to this server. It is in use from now on where the one in use failed.
    fn found(&self, index: usize, walk: &Walk, faults: &[Fault]) -> Found {
        let Some(server) = self.servers[index].server() else {
            // Each connection tells what the server is before it is given.
            return Found::Foreign;
        };
        let now = Instant::now();
        let mut choice = self.choice();
        let before = choice.current();
        // A look at it may have told, and no request since.
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

    /// The reason why a server that serves is not used.
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

    /// Another server is in use.
    fn switched(&self, before: usize, index: usize, reason: &str) {
        self.switches.inc();
        self.servers[before].close_all();
        self.locked().changed();
        self.help().ends();
        self.tell_switch(index, reason);
    }

    /// The reason why no server can be used: the answer of each, and the names of those that may not be asked.
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

    /// Notes whether a change of this session waited for a lock in vain. When that has happened to several sessions in a row, the
    /// server's rows are all locked, and another server is used where there is one that takes writes.
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

    /// Whether the server in use let a change wait for a lock. Another one's late answer tells nothing of it.
    fn is_lock_wait(&self, fault: &Fault) -> bool {
        let statement = self.times.statement;
        let is_wait = match fault.class {
            Class::LockWait => true,
            // The server's own word would come too late.
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

    /// Uses the first server of the list, and lets all be used again that were left: the operator's word. Its name.
    ///
    /// # Errors
    /// When the first server does not serve; then nothing has changed.
    ///
    /// Cancel safety: dropping it changes nothing.
    pub(super) async fn prefer_first(&self) -> Result<String, Fault> {
        let first = &self.servers[0];
        let deadline = Instant::now() + self.times.acquire + self.times.connect;
        let link = first.link(self.times, deadline).await?;
        drop(link);
        // Each connection tells what the server is before it is given.
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

    /// At start: the SQL for an administrator, where the servers refuse the account a right that it needs.
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
        // Nothing panics half way through a change of it.
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

/// A random number in 0..1.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

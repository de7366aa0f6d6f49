//! The servers of the list: which one is used now, which are known to be out of reach, and how many connections each has.
//!
//! The first host that can be written to is used until it fails; then the next one that can. A host that fails is left
//! alone for a while ([`Circuit`]), all its idle connections with it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::{Conn, Opts, Pool};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{timeout, timeout_at};

use super::circuit::{Admission, Circuit};
use super::error::{Class, Fault, Progress};
use super::link::{self, Answer, Statement, driver_options};
use super::options::Options;
use crate::telemetry::metrics::{Counter, counter};

/// Statements in a row without an answer after which a host counts as gone: one may have waited for something of its own.
const TIMEOUTS_MAX: u32 = 3;

/// All servers of the list. No `Debug`: the driver's types print the password.
pub(super) struct Hosts {
    hosts: Vec<HostState>,
    preferred: AtomicUsize,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    statement_timeout: Duration,
    deadlocks: Counter,
}

struct HostState {
    name: String,
    driver_options: Opts,
    permits: Semaphore,
    timeouts_in_a_row: AtomicU32,
    pool: Mutex<PoolState>,
}

struct PoolState {
    pool: Pool,
    /// Counts pools: what a connection of an older one reports is old news.
    generation: u64,
    circuit: Circuit,
}

/// A connection in hand. Dropping it gives it back, or throws it away when a statement on it did not end.
pub(super) struct Link<'a> {
    // Before the permit: whoever gets that next finds the connection.
    connection: Conn,
    host: &'a HostState,
    generation: u64,
    statement_timeout: Duration,
    _permit: SemaphorePermit<'a>,
}

/// Gives the probe's place back when it is dropped without a result.
struct Probe<'a>(Option<&'a HostState>);

impl Hosts {
    pub(super) fn new(options: &Options) -> Self {
        let hosts = match &options.socket {
            Some(socket) => {
                let name = format!("socket {}", socket.display());
                vec![HostState::new(name, options, driver_options(options, None))]
            }
            None => (options.hosts.iter())
                .map(|h| HostState::new(h.to_string(), options, driver_options(options, Some(h))))
                .collect(),
        };
        Self {
            hosts,
            preferred: AtomicUsize::new(0),
            connect_timeout: options.connect_timeout,
            acquire_timeout: options.acquire_timeout,
            statement_timeout: options.statement_timeout,
            deadlocks: counter(
                "cloakroom_store_deadlocks_total",
                "Statements that the database rolled back in favour of another transaction.",
                &[],
            ),
        }
    }

    /// Statements that a server rolled back in favour of another transaction.
    pub(super) fn deadlocks(&self) -> &Counter {
        &self.deadlocks
    }

    /// The names of all hosts, for logs and errors.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.hosts.iter().map(|h| h.name.as_str()).collect();
        names.join(", ")
    }

    pub(super) fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// A connection to the first host that serves, bounded by the acquire and the connect timeout together.
    pub(super) async fn link(&self) -> Result<Link<'_>, Fault> {
        let deadline = Instant::now() + self.acquire_timeout + self.connect_timeout;
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut faults: Vec<Fault> = Vec::new();
        for offset in 0..self.hosts.len() {
            let index = (preferred + offset) % self.hosts.len();
            let host = &self.hosts[index];
            match host.link(self, deadline).await {
                Ok(link) => {
                    if offset > 0 {
                        self.preferred.store(index, Ordering::Relaxed);
                        tracing::info!(host = host.name, "the session store uses this host now");
                    }
                    return Ok(link);
                }
                // Too busy, not gone: the others hold no other connections for us.
                Err(fault) if fault.class == Class::Unavailable => return Err(fault),
                Err(fault) => faults.push(fault),
            }
        }
        Err(Fault::of_all(&faults))
    }
}

/// A connection, at the second try where the first was cut: one link that breaks is no host that is gone.
async fn connect(pool: &Pool) -> Result<Conn, Fault> {
    let fault = |error: &mysql_async::Error| Fault::from_driver(error, Progress::NotSent);
    match pool.get_conn().await.map_err(|e| fault(&e)) {
        Err(first) if first.class == Class::LinkLost => {
            pool.get_conn().await.map_err(|e| fault(&e))
        }
        outcome => outcome,
    }
}

impl HostState {
    fn new(name: String, options: &Options, driver_options: Opts) -> Self {
        Self {
            name,
            permits: Semaphore::new(options.connection_limit.max(1)),
            timeouts_in_a_row: AtomicU32::new(0),
            pool: Mutex::new(PoolState {
                pool: Pool::new(driver_options.clone()),
                generation: 0,
                circuit: Circuit::default(),
            }),
            driver_options,
        }
    }

    async fn link(&self, hosts: &Hosts, deadline: Instant) -> Result<Link<'_>, Fault> {
        if let Some(fault) = self.lock().circuit.refusal(Instant::now()) {
            return Err(fault);
        }
        // Our own queue in front of the driver's, which cannot tell a wait for a free connection from one for a dead host.
        let permit = timeout(hosts.acquire_timeout, self.permits.acquire()).await;
        let permit = permit.map_err(|_| self.exhausted(hosts.acquire_timeout))?;
        let permit = permit.expect("the semaphore is never closed");
        let (pool, generation, probe) = self.admit()?;
        let connect_deadline = deadline.min(Instant::now() + hosts.connect_timeout);
        let connected = timeout_at(connect_deadline.into(), connect(&pool)).await;
        let fault = match connected {
            Ok(Ok(connection)) => {
                self.connected(probe);
                return Ok(Link {
                    connection,
                    host: self,
                    generation,
                    statement_timeout: hosts.statement_timeout,
                    _permit: permit,
                });
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::timed_out(Progress::NotSent, hosts.connect_timeout),
        };
        let fault = fault.at(&self.name);
        self.give_up(generation, &fault, probe);
        Err(fault)
    }

    fn admit(&self) -> Result<(Pool, u64, Probe<'_>), Fault> {
        let mut state = self.lock();
        let probe = match state.circuit.admit(Instant::now()) {
            Admission::Pass => Probe(None),
            Admission::Probe => Probe(Some(self)),
            Admission::Refused(fault) => return Err(fault),
        };
        Ok((state.pool.clone(), state.generation, probe))
    }

    fn connected(&self, mut probe: Probe<'_>) {
        // Outside of a probe the connection may be an old one, which proves nothing.
        if probe.0.take().is_some() && self.lock().circuit.succeed() {
            tracing::info!(host = self.name, "the session store's host is back");
        }
    }

    /// Opens the circuit and drops all idle connections, unless somebody did since `generation`.
    fn give_up(&self, generation: u64, fault: &Fault, mut probe: Probe<'_>) {
        let mut state = self.lock();
        if state.generation != generation {
            drop(state);
            return;
        }
        probe.0 = None;
        let was_closed = (state.circuit).fail(Instant::now(), fault.clone(), jitter());
        let old_pool = self.renew_pool(&mut state);
        drop(state);
        drop(old_pool);
        if was_closed {
            tracing::warn!(reason = fault.detail, "a host of the session store fails");
        }
    }

    /// The old pool: to be dropped without the lock. Its idle connections close; those in use do when they come back.
    #[must_use]
    fn renew_pool(&self, state: &mut PoolState) -> Pool {
        state.generation += 1;
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        std::mem::replace(&mut state.pool, Pool::new(self.driver_options.clone()))
    }

    /// Draws the conclusions from a statement's end.
    fn note(&self, generation: u64, outcome: &Result<Answer, Fault>) {
        let fault = match outcome {
            Ok(_) => return self.timeouts_in_a_row.store(0, Ordering::Relaxed),
            Err(fault) => fault,
        };
        match fault.class {
            Class::HostUnfit | Class::HostLeaving => self.give_up(generation, fault, Probe(None)),
            Class::TimedOut => {
                let timeouts = self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                if timeouts >= TIMEOUTS_MAX {
                    self.give_up(generation, fault, Probe(None));
                }
            }
            // A connection that had died while it was idle: its siblings have, too. Over TCP the pool notices by itself.
            Class::LinkLost if fault.progress == Progress::NotSent => {
                let mut state = self.lock();
                if state.generation == generation {
                    let old_pool = self.renew_pool(&mut state);
                    drop(state);
                    drop(old_pool);
                }
            }
            Class::LinkLost => {}
            _ => self.timeouts_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    fn exhausted(&self, after: Duration) -> Fault {
        let detail = format!(
            "{}: all connections were in use for {} ms",
            self.name,
            after.as_millis()
        );
        Fault::new(Class::Unavailable, Progress::NotSent, detail)
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // Nothing panics half way through a change of it.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link<'_> {
    /// Runs a statement within the statement timeout.
    pub(super) async fn run(&mut self, statement: &Statement<'_>) -> Result<Answer, Fault> {
        self.run_for(statement, self.statement_timeout).await
    }

    /// Runs a statement within a time of its own.
    pub(super) async fn run_for(
        &mut self,
        statement: &Statement<'_>,
        time_max: Duration,
    ) -> Result<Answer, Fault> {
        let outcome = link::run(&mut self.connection, statement, time_max).await;
        let outcome = outcome.map_err(|fault| fault.at(&self.host.name));
        self.host.note(self.generation, &outcome);
        outcome
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(host) = self.0 {
            host.lock().circuit.abandon_probe();
        }
    }
}

/// A random number in 0..1.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

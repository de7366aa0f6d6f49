//! The connections to one server: how many are allowed, which ones are free, and whether the server is known to be
//! unreachable.
//!
//! A server that refuses one more connection keeps its existing ones. The pool gives the unused slots up and grows
//! again slowly ([`PoolSize`]), while requests wait for an existing connection. A server that fails is not used for a
//! while ([`CircuitBreaker`]), and all its idle connections are dropped.
//!
//! Each slot has a driver pool with room for one connection. Only the driver can detect whether an idle connection is
//! still open, and one driver pool for many connections could neither shrink nor report which slot is empty.

mod open;
mod permit;
mod pooled_connection;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::{Conn, Opts};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::circuit::CircuitBreaker;
use super::connection::{StatementResult, driver_options};
use super::error::{StatementError, StatementErrorClass, StatementProgress};
use super::options::{MysqlOptions, ServerAddress};
use super::pool_size::PoolSize;
use super::server::ServerDescription;
use super::setup::LearnedFacts;
use open::ConnectionAttempt;
use permit::{PoolPermit, PoolSlot};

pub(crate) use pooled_connection::PooledConnection;

/// Number of consecutive unanswered statements after which a server counts as down. A single statement may have timed
/// out for its own reasons.
const TIMEOUTS_MAX: u32 = 3;

/// One server's connections. It has no `Debug`, because the driver's types print the password.
pub(crate) struct ServerPool {
    /// The server's index in the list.
    index: usize,
    name: String,
    driver_options: Opts,
    learned: Arc<LearnedFacts>,
    /// One permit for each slot that is not in use.
    permits: Arc<Semaphore>,
    timeouts_in_a_row: AtomicU32,
    state: Mutex<ServerPoolState>,
}

struct ServerPoolState {
    /// The slots that are not in use: those without a connection at the front, those with one at the back.
    idle: VecDeque<PoolSlot>,
    /// Number of slots with a connection, in use or not.
    open: usize,
    size: PoolSize,
    /// Number of times that all connections were dropped. A report from a connection of an older generation is ignored.
    generation: u64,
    circuit: CircuitBreaker,
    /// The server description that was last logged.
    logged: Option<ServerDescription>,
}

/// The time limits of a pool.
#[derive(Clone, Copy)]
pub(crate) struct PoolTimeouts {
    pub(crate) acquire: Duration,
    pub(crate) connect: Duration,
    pub(crate) statement: Duration,
}

/// Current and maximum number of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolUsage {
    pub(crate) open: usize,
    pub(crate) most: usize,
}

/// A probe in progress. Abandons the probe if it is dropped without a result.
pub(crate) struct ProbeGuard<'a>(Option<&'a ServerPool>);

impl ServerPool {
    /// Creates the pool for this server of the list, or for the socket.
    pub(crate) fn new(
        index: usize,
        name: String,
        options: &MysqlOptions,
        address: Option<&ServerAddress>,
    ) -> Arc<Self> {
        let learned = Arc::new(LearnedFacts::default());
        let driver_options = driver_options(options, address, &learned);
        let most = options.connection_limit.max(1);
        Arc::new(Self {
            index,
            name,
            permits: Arc::new(Semaphore::new(most)),
            timeouts_in_a_row: AtomicU32::new(0),
            state: Mutex::new(ServerPoolState {
                idle: (0..most).map(|_| PoolSlot::new(&driver_options)).collect(),
                open: 0,
                size: PoolSize::new(most),
                generation: 0,
                circuit: CircuitBreaker::default(),
                logged: None,
            }),
            driver_options,
            learned,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the server's description of itself, once a connection has read it.
    pub(crate) fn server(&self) -> Option<ServerDescription> {
        self.learned.server()
    }

    /// Returns the SQL that an administrator must run before the account can be used on this server.
    pub(crate) fn remedy(&self) -> Option<String> {
        self.learned.remedy()
    }

    /// Returns the reason why the server is currently not used.
    pub(crate) fn refusal(&self) -> Option<StatementError> {
        self.state.lock().circuit.refusal(Instant::now())
    }

    pub(crate) fn usage(&self) -> PoolUsage {
        let state = self.state.lock();
        PoolUsage {
            open: state.open,
            most: state.size.now(),
        }
    }

    /// Returns a connection. Bounded by the acquire timeout, the connect timeout and `deadline`.
    ///
    /// # Errors
    /// Returns [`StatementErrorClass::Unavailable`] if all connections that the server gives stayed in use.
    pub(crate) async fn acquire<'a>(
        self: &'a Arc<Self>,
        times: PoolTimeouts,
        deadline: Instant,
    ) -> Result<PooledConnection<'a>, StatementError> {
        let asked_at = Instant::now();
        let acquire_until = deadline.min(asked_at + times.acquire);
        let mut refusal: Option<StatementError> = None;
        loop {
            if let Some(fault) = self.refusal() {
                return Err(fault);
            }
            self.grow();
            let acquiring = Arc::clone(&self.permits).acquire_owned();
            // The pool's own queue in front of the driver's queue. The driver cannot distinguish a wait for a free
            // connection from a wait for a dead server.
            let permit = timeout_at(acquire_until.into(), acquiring).await;
            let permit = permit.map_err(|_| self.exhausted(asked_at, refusal.as_ref()))?;
            let permit = permit.expect("the semaphore is never closed");
            let (permit, probe) = self.admit(permit)?;
            match self.open(permit, probe, times, deadline).await? {
                ConnectionAttempt::Opened(connection, permit) => {
                    return Ok(PooledConnection::new(
                        connection,
                        permit,
                        self,
                        times.statement,
                    ));
                }
                ConnectionAttempt::Elsewhere(fault) => refusal = fault.or(refusal),
            }
            if Instant::now() >= acquire_until {
                return Err(self.exhausted(asked_at, refusal.as_ref()));
            }
        }
    }

    /// Checks the server over a separate connection. Returns the server's description of itself if it serves.
    pub(crate) async fn probe(&self, time_max: Duration) -> Option<ServerDescription> {
        let check = async {
            let connection = Conn::new(self.driver_options.clone()).await.ok()?;
            let server = self.learned.server();
            // The server has answered, so an error while disconnecting does not matter.
            let _ = connection.disconnect().await;
            server
        };
        timeout(time_max, check).await.ok().flatten()
    }

    /// Records that the server gives connections again, so that requests do not have to find out one by one.
    pub(crate) fn is_back(&self) {
        self.state.lock().circuit.connected(Instant::now());
    }

    /// Returns how often all connections were dropped.
    pub(crate) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// Stops using the server for a while because of this fault.
    pub(crate) fn leave(&self, fault: &StatementError) {
        let generation = self.state.lock().generation;
        self.give_up(generation, fault, ProbeGuard(None));
    }

    /// Closes all connections. Those in use close when they are given back.
    pub(crate) fn close_all(&self) {
        let old = self.renew(&mut self.state.lock());
        drop(old);
    }

    /// Adds one slot if all slots are in use and it is time to grow.
    fn grow(&self) {
        if self.permits.available_permits() > 0 {
            return;
        }
        let mut state = self.state.lock();
        if state.size.grow(Instant::now()) {
            state.idle.push_front(PoolSlot::new(&self.driver_options));
            drop(state);
            self.permits.add_permits(1);
        }
    }

    /// Opens the circuit and drops all idle connections, unless that has already happened since `generation`.
    fn give_up(&self, generation: u64, fault: &StatementError, mut probe: ProbeGuard<'_>) {
        let mut state = self.state.lock();
        if state.generation != generation {
            drop(state);
            return;
        }
        probe.0 = None;
        let was_closed = (state.circuit).fail(Instant::now(), fault.clone(), jitter());
        let old = self.renew(&mut state);
        drop(state);
        drop(old);
        if was_closed {
            tracing::warn!(reason = fault.detail, "a host of the session store fails");
        }
    }

    /// Returns the old slots, to be dropped after the lock is released. Their connections close then; those in use
    /// close when they are given back.
    #[must_use]
    fn renew(&self, state: &mut ServerPoolState) -> VecDeque<PoolSlot> {
        state.generation += 1;
        state.open = 0;
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        let missing = state.size.reset();
        let count = state.idle.len() + missing;
        let fresh = (0..count).map(|_| PoolSlot::new(&self.driver_options));
        let old = std::mem::replace(&mut state.idle, fresh.collect());
        self.permits.add_permits(missing);
        old
    }

    /// Updates the server's state from the result of a statement.
    fn note(&self, generation: u64, outcome: &Result<StatementResult, StatementError>) {
        let fault = match outcome {
            Ok(_) => return self.answered(generation),
            Err(fault) => fault,
        };
        match fault.class {
            StatementErrorClass::ServerUnfit | StatementErrorClass::ServerLeaving => {
                self.give_up(generation, fault, ProbeGuard(None))
            }
            StatementErrorClass::TimedOut => {
                let timeouts = self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                if timeouts >= TIMEOUTS_MAX || self.state.lock().circuit.is_probed() {
                    self.give_up(generation, fault, ProbeGuard(None));
                }
            }
            // The connection died while it was idle, and so did the other idle ones. Over TCP the driver detects this
            // itself.
            StatementErrorClass::ConnectionLost if fault.progress == StatementProgress::NotSent => {
                let mut state = self.state.lock();
                if state.generation == generation {
                    let old = self.renew(&mut state);
                    drop(state);
                    drop(old);
                }
            }
            StatementErrorClass::ConnectionLost => {}
            _ => self.timeouts_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    fn answered(&self, generation: u64) {
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        let mut state = self.state.lock();
        // An answer on a connection of an older generation proves nothing about the newer ones.
        let is_back = state.generation == generation && state.circuit.answered(Instant::now());
        drop(state);
        if is_back {
            tracing::info!(host = self.name, "the session store's host is back");
        }
    }

    fn exhausted(&self, asked_at: Instant, refusal: Option<&StatementError>) -> StatementError {
        // The server failed in the meantime. It is not full, and another server may replace it.
        if let Some(fault) = self.refusal() {
            return fault;
        }
        let taken = match self.usage().open {
            1 => "the only connection was".to_owned(),
            open => format!("all {open} connections were"),
        };
        let mut detail = format!(
            "{}: {taken} in use for {} ms",
            self.name,
            asked_at.elapsed().as_millis()
        );
        if let Some(refusal) = refusal {
            detail.push_str(", and one more was refused: ");
            detail.push_str(&refusal.detail);
        }
        StatementError::new(
            StatementErrorClass::Unavailable,
            StatementProgress::NotSent,
            detail,
        )
    }
}

impl Drop for ProbeGuard<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.0 {
            server.state.lock().circuit.abandon_probe();
        }
    }
}

/// Returns a random number in 0..1.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

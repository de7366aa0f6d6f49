//! The connections to one server: how many there may be, which are free, and whether the server is known to be out of reach.
//!
//! A server that refuses one more connection keeps those that it gave: the pool takes the places back and grows again slowly
//! ([`PoolSize`]), and requests wait for a connection that is there. A server that fails is left alone for a while ([`Circuit`]),
//! all its idle connections with it.
//!
//! Each place has a pool of the driver's with room for one connection. Only the driver can tell whether an idle connection is still
//! open, and its pool for many could neither shrink nor say which place has none.

mod link;
mod open;
mod seat;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql_async::{Conn, Opts};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::circuit::Circuit;
use super::error::{Class, Fault, Progress};
use super::hosts::jitter;
use super::link::{Answer, driver_options};
use super::options::{Host, Options};
use super::pool_size::PoolSize;
use super::server::Server;
use super::settle::Learned;
use open::Opening;
use seat::{Seat, Slot};

pub(super) use link::Link;

/// Statements in a row without an answer after which a server counts as gone: one may have waited for something of its own.
const TIMEOUTS_MAX: u32 = 3;

/// One server's connections. No `Debug`: the driver's types print the password.
pub(super) struct ServerPool {
    /// Its place in the list.
    index: usize,
    name: String,
    driver_options: Opts,
    learned: Arc<Learned>,
    /// One for each place that is not taken.
    permits: Arc<Semaphore>,
    timeouts_in_a_row: AtomicU32,
    state: Mutex<State>,
}

struct State {
    /// Places that are not taken: those without a connection in front, those with one behind.
    idle: VecDeque<Slot>,
    /// Places with a connection, free or taken.
    open: usize,
    size: PoolSize,
    /// Counts the times that all connections were dropped: the report of an older one is old news.
    generation: u64,
    circuit: Circuit,
    /// The server as the operator was told of it.
    told: Option<Server>,
}

/// The time limits.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) acquire: Duration,
    pub(super) connect: Duration,
    pub(super) statement: Duration,
}

/// How many connections there are, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) open: usize,
    pub(super) most: usize,
}

/// Gives the probe's place back when it is dropped without a result.
struct Probe<'a>(Option<&'a ServerPool>);

impl ServerPool {
    /// Of this host of the list, or of the socket.
    pub(super) fn new(
        index: usize,
        name: String,
        options: &Options,
        host: Option<&Host>,
    ) -> Arc<Self> {
        let learned = Arc::new(Learned::default());
        let driver_options = driver_options(options, host, &learned);
        let most = options.connection_limit.max(1);
        Arc::new(Self {
            index,
            name,
            permits: Arc::new(Semaphore::new(most)),
            timeouts_in_a_row: AtomicU32::new(0),
            state: Mutex::new(State {
                idle: (0..most).map(|_| Slot::new(&driver_options)).collect(),
                open: 0,
                size: PoolSize::new(most),
                generation: 0,
                circuit: Circuit::default(),
                told: None,
            }),
            driver_options,
            learned,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The server's description of itself, if a connection has told.
    pub(super) fn server(&self) -> Option<Server> {
        self.learned.server()
    }

    /// The SQL that an administrator has to run before the account can be used here.
    pub(super) fn remedy(&self) -> Option<String> {
        self.learned.remedy()
    }

    /// The reason why the server is left alone just now.
    pub(super) fn refusal(&self) -> Option<Fault> {
        self.lock().circuit.refusal(Instant::now())
    }

    pub(super) fn usage(&self) -> Usage {
        let state = self.lock();
        Usage {
            open: state.open,
            most: state.size.now(),
        }
    }

    /// A connection, bounded by the acquire and the connect timeout and by `deadline`.
    ///
    /// # Errors
    /// [`Class::Unavailable`] where all connections that the server gives stayed in use.
    pub(super) async fn link<'a>(
        self: &'a Arc<Self>,
        times: Times,
        deadline: Instant,
    ) -> Result<Link<'a>, Fault> {
        let asked_at = Instant::now();
        let acquire_until = deadline.min(asked_at + times.acquire);
        let mut refusal: Option<Fault> = None;
        loop {
            if let Some(fault) = self.refusal() {
                return Err(fault);
            }
            self.grow();
            let acquiring = Arc::clone(&self.permits).acquire_owned();
            // Our own queue in front of the driver's, which cannot tell a wait for a free connection from one for a dead server.
            let permit = timeout_at(acquire_until.into(), acquiring).await;
            let permit = permit.map_err(|_| self.exhausted(asked_at, refusal.as_ref()))?;
            let permit = permit.expect("the semaphore is never closed");
            let (seat, probe) = self.admit(permit)?;
            match self.open(seat, probe, times, deadline).await? {
                Opening::Opened(connection, seat) => {
                    return Ok(Link::new(connection, seat, self, times.statement));
                }
                Opening::Elsewhere(fault) => refusal = fault.or(refusal),
            }
            if Instant::now() >= acquire_until {
                return Err(self.exhausted(asked_at, refusal.as_ref()));
            }
        }
    }

    /// Looks at the server over a connection of its own, and gives the server's description of itself if it serves.
    pub(super) async fn probe(&self, time_max: Duration) -> Option<Server> {
        let look = async {
            let connection = Conn::new(self.driver_options.clone()).await.ok()?;
            let server = self.learned.server();
            // The server has answered; a goodbye that fails changes nothing.
            let _ = connection.disconnect().await;
            server
        };
        timeout(time_max, look).await.ok().flatten()
    }

    /// It gives connections again: requests need not find out one by one.
    pub(super) fn is_back(&self) {
        self.lock().circuit.connected(Instant::now());
    }

    /// How often all connections were dropped.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Leaves the server alone for a while because of this.
    pub(super) fn leave(&self, fault: &Fault) {
        let generation = self.lock().generation;
        self.give_up(generation, fault, Probe(None));
    }

    /// Closes the connections, those in use as soon as they are given back.
    pub(super) fn close_all(&self) {
        let old = self.renew(&mut self.lock());
        drop(old);
    }

    /// One more place where it is time for that and all others are taken.
    fn grow(&self) {
        if self.permits.available_permits() > 0 {
            return;
        }
        let mut state = self.lock();
        if state.size.grow(Instant::now()) {
            state.idle.push_front(Slot::new(&self.driver_options));
            drop(state);
            self.permits.add_permits(1);
        }
    }

    /// Opens the circuit and drops all idle connections, unless that was done since `generation`.
    fn give_up(&self, generation: u64, fault: &Fault, mut probe: Probe<'_>) {
        let mut state = self.lock();
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

    /// The old places: to be dropped without the lock. Their connections close; those in use do when they come back.
    #[must_use]
    fn renew(&self, state: &mut State) -> VecDeque<Slot> {
        state.generation += 1;
        state.open = 0;
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        let missing = state.size.reset();
        let count = state.idle.len() + missing;
        let fresh = (0..count).map(|_| Slot::new(&self.driver_options));
        let old = std::mem::replace(&mut state.idle, fresh.collect());
        self.permits.add_permits(missing);
        old
    }

    /// Draws the conclusions from a statement's end.
    fn note(&self, generation: u64, outcome: &Result<Answer, Fault>) {
        let fault = match outcome {
            Ok(_) => return self.answered(generation),
            Err(fault) => fault,
        };
        match fault.class {
            Class::HostUnfit | Class::HostLeaving => self.give_up(generation, fault, Probe(None)),
            Class::TimedOut => {
                let timeouts = self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                if timeouts >= TIMEOUTS_MAX || self.lock().circuit.is_probed() {
                    self.give_up(generation, fault, Probe(None));
                }
            }
            // A connection that had died while it was idle: its siblings have, too. Over TCP the driver notices by itself.
            Class::LinkLost if fault.progress == Progress::NotSent => {
                let mut state = self.lock();
                if state.generation == generation {
                    let old = self.renew(&mut state);
                    drop(state);
                    drop(old);
                }
            }
            Class::LinkLost => {}
            _ => self.timeouts_in_a_row.store(0, Ordering::Relaxed),
        }
    }

    fn answered(&self, generation: u64) {
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        let mut state = self.lock();
        // An older connection's answer tells nothing of those that came later.
        let is_back = state.generation == generation && state.circuit.answered(Instant::now());
        drop(state);
        if is_back {
            tracing::info!(host = self.name, "the session store's host is back");
        }
    }

    fn exhausted(&self, asked_at: Instant, refusal: Option<&Fault>) -> Fault {
        // It failed meanwhile: it is not full, and another server may take its place.
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
        Fault::new(Class::Unavailable, Progress::NotSent, detail)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half way through a change of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.0 {
            server.lock().circuit.abandon_probe();
        }
    }
}

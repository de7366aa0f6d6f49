//! A slot for one connection, and the permit to use it until it is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::{Opts, Pool};
use tokio::sync::OwnedSemaphorePermit;

use super::super::circuit::CircuitDecision;
use super::super::error::StatementError;
use super::{ProbeGuard, ServerPool, jitter};

/// A connection's longest lifetime, before jitter. It is below the limits of load balancers and PlanetScale (24 h). The
/// driver's own limit is not used: with it, a request that arrives while an old connection is being closed gets no
/// answer.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(3600);
const CONNECTION_LIFE_JITTER: Duration = Duration::from_secs(600);

/// A slot. Its driver pool has room for one connection.
pub(crate) struct PoolSlot {
    pool: Pool,
    /// Whether the slot has a connection, as far as is known.
    is_open: bool,
    /// When the connection has reached its maximum lifetime.
    ends_at: Instant,
}

/// A slot in use. Dropping it frees the slot, after the connection was given back.
pub(crate) struct PoolPermit {
    server: Arc<ServerPool>,
    /// `None` once the slot was given up.
    slot: Option<PoolSlot>,
    generation: u64,
    /// Whether the driver's pool has a connection that the next request can use. False until one was opened, and while
    /// a statement runs.
    is_sound: bool,
    /// Whether the next statement on this slot is the circuit's probe.
    is_probe: bool,
    // Dropped last, so that the next request with this permit finds the slot free.
    semaphore_permit: Option<OwnedSemaphorePermit>,
}

impl PoolSlot {
    pub(crate) fn new(options: &Opts) -> Self {
        Self {
            pool: Pool::new(options.clone()),
            is_open: false,
            ends_at: Instant::now(),
        }
    }
}

impl ServerPool {
    /// Takes a slot, preferably one with a connection.
    pub(crate) fn admit(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(PoolPermit, ProbeGuard<'_>), StatementError> {
        let mut state = self.state.lock();
        let probe = match state.circuit.admit(Instant::now()) {
            CircuitDecision::Pass => ProbeGuard(None),
            CircuitDecision::Probe => ProbeGuard(Some(&**self)),
            CircuitDecision::Refused(fault) => return Err(fault),
        };
        let slot = state.idle.pop_back();
        let permit = PoolPermit {
            server: Arc::clone(self),
            slot: Some(slot.expect("there is a free slot for each permit")),
            generation: state.generation,
            is_sound: false,
            is_probe: false,
            semaphore_permit: Some(permit),
        };
        Ok((permit, probe))
    }
}

impl PoolPermit {
    pub(crate) fn server(&self) -> &Arc<ServerPool> {
        &self.server
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn pool(&self) -> Pool {
        let slot = self.slot.as_ref();
        slot.expect("it was not given up").pool.clone()
    }

    /// Returns whether other slots have a connection.
    pub(crate) fn has_others(&self) -> bool {
        let state = self.server.state.lock();
        state.generation == self.generation && state.open > self.own()
    }

    /// Records that the slot has a connection. Returns true if it had none before.
    pub(crate) fn fill(&mut self) -> bool {
        self.is_sound = true;
        let Some(slot) = self.slot.as_mut().filter(|slot| !slot.is_open) else {
            return false;
        };
        slot.is_open = true;
        slot.ends_at =
            Instant::now() + CONNECTION_LIFE_MAX + CONNECTION_LIFE_JITTER.mul_f64(jitter());
        let mut state = self.server.state.lock();
        if state.generation == self.generation {
            state.open += 1;
        }
        true
    }

    /// Records whether the connection can be used again.
    pub(crate) fn set_sound(&mut self, is_sound: bool) {
        self.is_sound = is_sound;
    }

    /// Records whether the next statement is the probe. Other requests wait for its result.
    pub(crate) fn set_probe(&mut self, is_probe: bool) {
        self.is_probe = is_probe;
    }

    /// Gives the slot up because the server refused a connection for it, together with all free slots that have none.
    /// Gives nothing up and returns false if no other slot has a connection.
    pub(crate) fn retire(mut self, fault: &StatementError) -> bool {
        let server = Arc::clone(&self.server);
        let own = self.own();
        let mut state = server.state.lock();
        if state.generation != self.generation {
            // All connections were dropped in the meantime, so the request starts over.
            return true;
        }
        if state.open <= own {
            return false;
        }
        state.open -= own;
        let mut given_up: Vec<PoolSlot> = self.slot.take().into_iter().collect();
        if let Some(permit) = self.semaphore_permit.take() {
            permit.forget();
        }
        let empty = state.idle.iter().filter(|slot| !slot.is_open).count();
        let forgotten = server.permits.forget_permits(empty);
        given_up.extend(state.idle.drain(..forgotten));
        let was_whole = state.size.shrink(given_up.len(), Instant::now());
        let connections = state.size.now();
        drop(state);
        drop(given_up);
        if was_whole {
            tracing::warn!(
                reason = fault.detail,
                connections,
                "a host of the session store refuses one more connection: the store continues with the existing ones"
            );
        }
        true
    }

    /// Returns 1 if this slot has a connection, otherwise 0.
    fn own(&self) -> usize {
        usize::from(self.slot.as_ref().is_some_and(|slot| slot.is_open))
    }
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        let own = self.own();
        let Some(slot) = self.slot.take() else {
            return;
        };
        let mut state = self.server.state.lock();
        let is_current = state.generation == self.generation;
        if is_current && self.is_probe {
            state.circuit.abandon_probe();
        }
        // A server that refuses one more connection would not replace an old connection with a new one.
        let is_worn = Instant::now() >= slot.ends_at && state.size.is_whole();
        if is_current && self.is_sound && !is_worn {
            state.idle.push_back(slot);
            return;
        }
        if is_current {
            state.open -= own;
        }
        let fresh = PoolSlot::new(&self.server.driver_options);
        state.idle.push_front(fresh);
        drop(state);
        // Dropping the driver's pool also closes its connection, even one that is only half open.
        drop(slot);
    }
}

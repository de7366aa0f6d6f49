//! The outgoing connections of all guests: their limits, and the idle connections. A connection belongs to the guest
//! that opened it and never serves another guest. This module does not open connections and does not interpret their
//! data.
//!
//! Calls that find no connection wait in fair queues like requests at a concurrency limit ([`FairQueue`]): first for a slot
//! of their guest, then, while they hold it, for a slot of the host. A connection that becomes free goes to the call
//! that would get its slot if the connection were closed, provided that call can use it. Otherwise the connection is
//! closed.
//!
//! The pool of hyper-util's client is not used: it closes an idle connection by time alone. This one bounds connections for each
//! guest and for each host, so an idle connection must close when another call needs its place. The permit is held by the socket,
//! so the count is that of open descriptors. Without turns, calls to one server would let one client keep all connections for
//! itself.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connection::OutboundConnection;
use super::grant::Destination;
use super::resolve::{LookupLimits, Resolve, SystemResolver};
use super::tls::tls_config;
use crate::engine::fair_queue::{FairQueue, NextWaiter, QueueSlot};
use cloakroom_base::limits::{OUTBOUND_IDLE_MAX, OUTBOUND_WAITERS_MAX};
use cloakroom_base::quota::ClientConnection;

/// The properties that two connections must share to be interchangeable. `private` is one of them: after a reload, a
/// name that may no longer have private addresses must not get a connection to one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PoolKey {
    guest: u64,
    destination: Destination,
}

/// The outgoing connections of a host.
pub(crate) struct OutboundPool {
    max: usize,
    /// One slot per open connection. The socket holds the slot, so that it becomes free when the descriptor is closed.
    queue: Arc<FairQueue<ReusableConnection>>,
    /// Locked before a queue when both are locked. It contains no connection that could help a queued call.
    idle: Mutex<IdleConnections>,
    next_id: AtomicU64,
    resolver: Arc<dyn Resolve>,
    lookup_limits: LookupLimits,
}

/// Connections without a request, the oldest first.
#[derive(Default)]
struct IdleConnections(VecDeque<IdleConnection>);

struct IdleConnection {
    id: u64,
    key: PoolKey,
    connection: OutboundConnection,
}

/// A connection that a queued call accepts instead of a slot.
struct ReusableConnection {
    key: PoolKey,
    give: oneshot::Sender<OutboundConnection>,
}

/// The right to one open connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _of_guest: QueueSlot<ReusableConnection>,
    _of_host: QueueSlot<ReusableConnection>,
}

/// The result of waiting in one queue.
enum QueueResult {
    Reused(OutboundConnection),
    Slot(QueueSlot<ReusableConnection>),
}

/// How a request gets its connection.
pub(crate) enum Acquired {
    /// It reuses a connection.
    Reused(OutboundConnection),
    /// It may open a connection.
    Open(ConnectionPermit),
}

/// Error returned when no connection became free in time, or when too many calls wait for one.
#[derive(Debug)]
pub(crate) struct PoolFull;

/// The usage of a host's outgoing connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundUsage {
    /// Open outgoing connections, including idle ones.
    pub open: usize,
    /// Idle connections, which are ready for another request.
    pub idle: usize,
    /// The most connections that may be open.
    pub max: usize,
}

impl OutboundPool {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Self::with_resolver(max, Arc::new(SystemResolver))
    }

    pub(crate) fn with_resolver(max: usize, resolver: Arc<dyn Resolve>) -> Arc<Self> {
        Arc::new(Self {
            max,
            // Each waiter holds a slot of its guest, which limits the number of waiters.
            queue: FairQueue::new(max, usize::MAX),
            idle: Mutex::default(),
            next_id: AtomicU64::new(0),
            resolver,
            lookup_limits: LookupLimits::new(),
        })
    }

    pub(crate) fn usage(&self) -> OutboundUsage {
        let idle = self.idle.lock();
        let ready = idle.0.iter().filter(|idle| idle.connection.is_ready());
        OutboundUsage {
            open: self.max.saturating_sub(self.queue.usage().0),
            idle: ready.count(),
            max: self.max,
        }
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes a connection if it is still idle.
    fn end(&self, id: u64) {
        self.idle.lock().end(|idle| idle.id == id);
    }
}

impl fmt::Debug for OutboundPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutboundPool").field(&self.usage()).finish()
    }
}

/// The connections of each guest, by name. The versions of a guest share them while their limit is the same.
#[derive(Debug)]
pub(crate) struct GuestPools {
    pool: Arc<OutboundPool>,
    guests: Mutex<HashMap<String, Weak<GuestPool>>>,
}

impl GuestPools {
    pub(crate) fn on(pool: Arc<OutboundPool>) -> Self {
        Self {
            pool,
            guests: Mutex::default(),
        }
    }

    /// Returns pools for other guests, which share only the host's total.
    pub(crate) fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.pool))
    }

    pub(crate) fn usage(&self) -> OutboundUsage {
        self.pool.usage()
    }

    /// Returns the connections of the guest `name`, which may have at most `max` of them.
    pub(crate) fn of(&self, name: &str, max: usize) -> Arc<GuestPool> {
        let mut guests = self.guests.lock();
        guests.retain(|_, guest| guest.strong_count() > 0);
        let known = guests.get(name).and_then(Weak::upgrade);
        if let Some(guest) = known.filter(|guest| guest.max == max) {
            return guest;
        }
        let guest = GuestPool::new(&self.pool, max);
        guests.insert(name.to_owned(), Arc::downgrade(&guest));
        guest
    }
}

/// The connections of one guest.
pub(crate) struct GuestPool {
    pool: Arc<OutboundPool>,
    id: u64,
    max: usize,
    queue: Arc<FairQueue<ReusableConnection>>,
    lookup_limits: LookupLimits,
    /// Each guest has its own configuration, so that TLS session tickets are not shared between guests.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl fmt::Debug for GuestPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestPool")
            .field("id", &self.id)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl GuestPool {
    pub(crate) fn new(pool: &Arc<OutboundPool>, max: usize) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::clone(pool),
            id: pool.new_id(),
            max,
            queue: FairQueue::new(max, OUTBOUND_WAITERS_MAX),
            lookup_limits: pool.lookup_limits.beside(),
            tls: OnceLock::new(),
        })
    }

    #[cfg(test)]
    pub(crate) fn with_tls(self: Arc<Self>, config: ClientConfig) -> Arc<Self> {
        self.tls
            .set(Arc::new(config))
            .expect("no connection was opened yet");
        self
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.max.saturating_sub(self.queue.usage().0)
    }

    #[cfg(test)]
    pub(crate) fn usage(&self) -> OutboundUsage {
        self.pool.usage()
    }

    pub(crate) fn resolver(&self) -> &dyn Resolve {
        &*self.pool.resolver
    }

    pub(crate) fn lookup_limits(&self) -> &LookupLimits {
        &self.lookup_limits
    }

    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(self.tls.get_or_init(|| Arc::new(tls_config())))
    }

    fn key(&self, destination: &Destination) -> PoolKey {
        PoolKey {
            guest: self.id,
            destination: destination.clone(),
        }
    }

    /// Returns a connection to a destination, or the right to open one. Calls of different clients are served in
    /// rotation.
    ///
    /// # Errors
    /// Returns [`PoolFull`] if neither is available by `until`, or if too many calls wait.
    ///
    /// Cancel safety: a dropped call leaves the queue. A connection that it was just given is closed.
    pub(crate) async fn way(
        &self,
        source: ClientConnection,
        destination: &Destination,
        until: Instant,
    ) -> Result<Acquired, PoolFull> {
        let key = self.key(destination);
        let way = async {
            let of_guest = match self.turn(&self.queue, source, &key).await? {
                QueueResult::Reused(connection) => return Ok(Acquired::Reused(connection)),
                QueueResult::Slot(slot) => slot,
            };
            Ok(match self.turn(&self.pool.queue, source, &key).await? {
                QueueResult::Reused(connection) => Acquired::Reused(connection),
                QueueResult::Slot(of_host) => Acquired::Open(ConnectionPermit {
                    _of_guest: of_guest,
                    _of_host: of_host,
                }),
            })
        };
        tokio::time::timeout_at(until, way)
            .await
            .unwrap_or(Err(PoolFull))
    }

    /// Waits for a slot of a queue (the guest's or the host's), or for a connection that makes the slot unnecessary.
    async fn turn(
        &self,
        queue: &Arc<FairQueue<ReusableConnection>>,
        source: ClientConnection,
        key: &PoolKey,
    ) -> Result<QueueResult, PoolFull> {
        let (mut waiter, given) = {
            let mut idle = self.pool.idle.lock();
            if let Some(connection) = idle.take(key) {
                return Ok(QueueResult::Reused(connection));
            }
            if let Some(slot) = queue.try_enter() {
                return Ok(QueueResult::Slot(slot));
            }
            // Make room by closing the oldest idle connection: of any guest if the host's limit is reached, else of
            // this guest.
            let is_hosts = Arc::ptr_eq(queue, &self.pool.queue);
            idle.end(|idle| is_hosts || idle.key.guest == self.id);
            let (give, given) = oneshot::channel();
            let key = key.clone();
            let waiter = queue.join(source, ReusableConnection { key, give });
            (waiter.map_err(|_| PoolFull)?, given)
        };
        tokio::select! {
            biased;
            Ok(connection) = given => Ok(QueueResult::Reused(connection)),
            slot = waiter.admitted() => slot.map(QueueResult::Slot).ok_or(PoolFull),
        }
    }

    /// Takes back a connection that can serve again. If the next queued call can use it, that call gets it. If the next
    /// call waits for its slot, the connection is closed. Otherwise it stays idle for a while.
    pub(crate) async fn put(
        self: Arc<Self>,
        destination: &Destination,
        connection: OutboundConnection,
    ) {
        let Some(id) = self.keep(self.key(destination), connection) else {
            return;
        };
        let pool = Arc::downgrade(&self.pool);
        drop(self);
        tokio::time::sleep(OUTBOUND_IDLE_MAX).await;
        if let Some(pool) = pool.upgrade() {
            pool.end(id);
        }
    }

    fn keep(&self, key: PoolKey, mut connection: OutboundConnection) -> Option<u64> {
        let mut idle = self.pool.idle.lock();
        loop {
            match self.next(&key) {
                NextWaiter::Empty => break,
                NextWaiter::Another => return None,
                NextWaiter::Accepts(next) => match next.alternative.give.send(connection) {
                    Ok(()) => return None,
                    // The call was dropped at this moment.
                    Err(unwanted) => connection = unwanted,
                },
            }
        }
        let id = self.pool.new_id();
        idle.0.push_back(IdleConnection {
            id,
            key,
            connection,
        });
        Some(id)
    }

    /// Returns the call that would get the slots of a connection of this guest: the next in the host's queue, or else
    /// in the guest's.
    fn next(&self, key: &PoolKey) -> NextWaiter<ReusableConnection> {
        let is_acceptable = |alternative: &ReusableConnection| alternative.key == *key;
        match self.pool.queue.take_next_if(is_acceptable) {
            NextWaiter::Empty => self.queue.take_next_if(is_acceptable),
            next => next,
        }
    }
}

impl IdleConnections {
    /// Takes the most recently used connection with this key. Drops those that were closed in the meantime.
    fn take(&mut self, key: &PoolKey) -> Option<OutboundConnection> {
        loop {
            let position = self.0.iter().rposition(|idle| idle.key == *key)?;
            let idle = self.0.remove(position)?;
            if idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
    }

    /// Closes the oldest connection that matches, if there is one.
    fn end(&mut self, is_meant: impl Fn(&IdleConnection) -> bool) {
        if let Some(position) = self.0.iter().position(is_meant) {
            self.0.remove(position);
        }
    }
}

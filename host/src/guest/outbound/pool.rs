//! The outgoing connections of all guests: how many there may be, and those that wait for another request. A connection belongs
//! to the guest that opened it and never serves another one. Knows neither how a connection is opened nor what it carries.
//!
//! Calls for which there is none take turns, as requests do at a gate ([`Queue`]): first for a slot of their guest, then, with that,
//! for one of the host. A connection that becomes free goes to the call that would get its slot if it were closed, where that call
//! can use it. Else it is closed.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustls::ClientConfig;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connect::{Connection, tls_config};
use super::grant::Destination;
use super::resolve::{LookupPlaces, Resolve, SystemResolver};
use crate::guest::queue::{Next, Queue, Slot};
use crate::limits::{OUTBOUND_IDLE_MAX, OUTBOUND_WAITERS_MAX};
use crate::quota::Source;

/// What connections must have in common to stand in for one another. `private` is a part of it: after a reload a name that may not
/// be private any more must not get a connection to a private address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    guest: u64,
    destination: Destination,
}

/// The connections of a host.
pub(in crate::guest) struct Pool {
    max: usize,
    /// A slot for each open connection: it is held by the socket, so that it comes back when the descriptor is closed.
    queue: Arc<Queue<Wish>>,
    /// Locked before a queue, where both are. There are none while a call is queued that one of them could help.
    idle: Mutex<Idles>,
    next_id: AtomicU64,
    resolver: Arc<dyn Resolve>,
    places: LookupPlaces,
}

/// Connections without a request, oldest first.
#[derive(Default)]
struct Idles(VecDeque<Idle>);

struct Idle {
    id: u64,
    key: Key,
    connection: Connection,
}

/// What a call in a queue can be given instead of a slot.
struct Wish {
    key: Key,
    give: oneshot::Sender<Connection>,
}

/// The right to one open connection.
#[derive(Debug)]
pub(super) struct Permit {
    _of_guest: Slot<Wish>,
    _of_host: Slot<Wish>,
}

/// What a call gets out of one queue.
enum Turn {
    Kept(Connection),
    Slot(Slot<Wish>),
}

/// How a request gets its connection.
pub(super) enum Way {
    /// One that has served before.
    Kept(Connection),
    /// It may open one.
    Open(Permit),
}

/// There is no free connection and none became free in time, or too many calls wait for one.
#[derive(Debug)]
pub(super) struct Full;

/// How full a host's pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundUsage {
    /// Outgoing connections that are open, those without a request among them.
    pub open: usize,
    /// Those that wait for another request.
    pub idle: usize,
    /// The most that may be open.
    pub max: usize,
}

impl Pool {
    pub(in crate::guest) fn new(max: usize) -> Arc<Self> {
        Self::with_resolver(max, Arc::new(SystemResolver))
    }

    pub(super) fn with_resolver(max: usize, resolver: Arc<dyn Resolve>) -> Arc<Self> {
        Arc::new(Self {
            max,
            // Each waiter holds a slot of its guest: there are no more of them than those.
            queue: Queue::new(max, usize::MAX),
            idle: Mutex::default(),
            next_id: AtomicU64::new(0),
            resolver,
            places: LookupPlaces::new(),
        })
    }

    pub(super) fn usage(&self) -> OutboundUsage {
        let idle = self.idle();
        let ready = idle.0.iter().filter(|idle| idle.connection.is_ready());
        OutboundUsage {
            open: self.max.saturating_sub(self.queue.usage().0),
            idle: ready.count(),
            max: self.max,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idles> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends a connection that is still idle.
    fn end(&self, id: u64) {
        self.idle().end(|idle| idle.id == id);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.usage()).finish()
    }
}

/// The guests' own connections, by name: the versions of a guest share them as long as their bound is the same.
#[derive(Debug)]
pub(in crate::guest) struct GuestPools {
    pool: Arc<Pool>,
    guests: Mutex<HashMap<String, Weak<GuestPool>>>,
}

impl GuestPools {
    pub(in crate::guest) fn on(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            guests: Mutex::default(),
        }
    }

    /// The same host's, for guests that share no more than the host's total.
    pub(in crate::guest) fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.pool))
    }

    pub(in crate::guest) fn usage(&self) -> OutboundUsage {
        self.pool.usage()
    }

    /// The connections of a guest that may have so many.
    pub(in crate::guest) fn of(&self, name: &str, max: usize) -> Arc<GuestPool> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
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
pub(in crate::guest) struct GuestPool {
    pool: Arc<Pool>,
    id: u64,
    max: usize,
    queue: Arc<Queue<Wish>>,
    places: LookupPlaces,
    /// Its own: what a server tells a client to know it by stays with the guest, too.
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
    pub(super) fn new(pool: &Arc<Pool>, max: usize) -> Arc<Self> {
        Arc::new(Self {
            pool: Arc::clone(pool),
            id: pool.new_id(),
            max,
            queue: Queue::new(max, OUTBOUND_WAITERS_MAX),
            places: pool.places.beside(),
            tls: OnceLock::new(),
        })
    }

    #[cfg(test)]
    pub(super) fn with_tls(self: Arc<Self>, config: ClientConfig) -> Arc<Self> {
        self.tls
            .set(Arc::new(config))
            .expect("no connection was opened yet");
        self
    }

    /// How many connections it has open.
    pub(in crate::guest) fn open(&self) -> usize {
        self.max.saturating_sub(self.queue.usage().0)
    }

    #[cfg(test)]
    pub(super) fn usage(&self) -> OutboundUsage {
        self.pool.usage()
    }

    pub(super) fn resolver(&self) -> &dyn Resolve {
        &*self.pool.resolver
    }

    pub(super) fn places(&self) -> &LookupPlaces {
        &self.places
    }

    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(self.tls.get_or_init(|| Arc::new(tls_config())))
    }

    fn key(&self, destination: &Destination) -> Key {
        Key {
            guest: self.id,
            destination: destination.clone(),
        }
    }

    /// A connection to a destination, or the right to open one. Calls of different clients take turns.
    ///
    /// # Errors
    /// [`Full`] where there is neither until then, or too many calls wait.
    ///
    /// Cancel safety: a dropped call leaves its place in the queue; a connection that was just given to it is closed.
    pub(super) async fn way(
        &self,
        source: Source,
        destination: &Destination,
        until: Instant,
    ) -> Result<Way, Full> {
        let key = self.key(destination);
        let way = async {
            let of_guest = match self.turn(&self.queue, source, &key).await? {
                Turn::Kept(connection) => return Ok(Way::Kept(connection)),
                Turn::Slot(slot) => slot,
            };
            Ok(match self.turn(&self.pool.queue, source, &key).await? {
                Turn::Kept(connection) => Way::Kept(connection),
                Turn::Slot(of_host) => Way::Open(Permit {
                    _of_guest: of_guest,
                    _of_host: of_host,
                }),
            })
        };
        tokio::time::timeout_at(until, way)
            .await
            .unwrap_or(Err(Full))
    }

    /// A slot of a queue, the guest's or the host's, or a connection that makes it unnecessary.
    async fn turn(
        &self,
        queue: &Arc<Queue<Wish>>,
        source: Source,
        key: &Key,
    ) -> Result<Turn, Full> {
        let (mut waiter, given) = {
            let mut idle = self.pool.idle();
            if let Some(connection) = idle.take(key) {
                return Ok(Turn::Kept(connection));
            }
            if let Some(slot) = queue.try_enter() {
                return Ok(Turn::Slot(slot));
            }
            // The oldest idle connection that is in the way: of any guest where it is the host's bound that is reached.
            let is_hosts = Arc::ptr_eq(queue, &self.pool.queue);
            idle.end(|idle| is_hosts || idle.key.guest == self.id);
            let (give, given) = oneshot::channel();
            let key = key.clone();
            let waiter = queue.join(source, Wish { key, give });
            (waiter.map_err(|_| Full)?, given)
        };
        tokio::select! {
            biased;
            Ok(connection) = given => Ok(Turn::Kept(connection)),
            slot = waiter.admitted() => slot.map(Turn::Slot).ok_or(Full),
        }
    }

    /// Takes back a connection that can serve again: gives it to the call that has the next turn if that can use it, ends it where its
    /// place is what that one waits for, or else keeps it for a while.
    pub(super) async fn put(self: Arc<Self>, destination: &Destination, connection: Connection) {
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

    fn keep(&self, key: Key, mut connection: Connection) -> Option<u64> {
        let mut idle = self.pool.idle();
        loop {
            match self.next(&key) {
                Next::Nobody => break,
                Next::Another => return None,
                Next::Wishes(next) => match next.wish.give.send(connection) {
                    Ok(()) => return None,
                    // It has given up in this moment.
                    Err(unwanted) => connection = unwanted,
                },
            }
        }
        let id = self.pool.new_id();
        idle.0.push_back(Idle {
            id,
            key,
            connection,
        });
        Some(id)
    }

    /// The call that would get the slots of a connection of this guest: the next one at the host's bound, or else at the guest's.
    fn next(&self, key: &Key) -> Next<Wish> {
        let is_wished = |wish: &Wish| wish.key == *key;
        match self.pool.queue.take_next_if(is_wished) {
            Next::Nobody => self.queue.take_next_if(is_wished),
            next => next,
        }
    }
}

impl Idles {
    /// The connection of this kind that was used last; those that were closed meanwhile go.
    fn take(&mut self, key: &Key) -> Option<Connection> {
        loop {
            let place = self.0.iter().rposition(|idle| idle.key == *key)?;
            let idle = self.0.remove(place)?;
            if idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
    }

    /// Ends the oldest one that is meant, if there is any.
    fn end(&mut self, is_meant: impl Fn(&Idle) -> bool) {
        if let Some(place) = self.0.iter().position(is_meant) {
            self.0.remove(place);
        }
    }
}

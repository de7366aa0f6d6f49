//! The outgoing connections of all guests: how many there may be, and those that wait for another request. A connection belongs
//! to the guest that opened it and never serves another one. Knows neither how a connection is opened nor what it carries.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::connect::{Connection, tls_config};
use super::grant::Destination;
use super::resolve::{LookupPlaces, Resolve, SystemResolver};
use crate::limits::{OUTBOUND_IDLE_MAX, OUTBOUND_WAITERS_MAX};

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
    /// A permit for each open connection: it is held by the socket, so that it comes back when the descriptor is closed.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    next_id: AtomicU64,
    resolver: Arc<dyn Resolve>,
    places: LookupPlaces,
}

#[derive(Default)]
struct State {
    /// Oldest first. There are none while a request waits that one of them could help.
    idle: VecDeque<Idle>,
    waiting: Vec<Waiting>,
}

struct Idle {
    id: u64,
    key: Key,
    connection: Connection,
}

struct Waiting {
    key: Key,
    give: oneshot::Sender<Connection>,
}

/// The right to one open connection.
#[derive(Debug)]
pub(super) struct Permit {
    _of_guest: OwnedSemaphorePermit,
    _of_host: OwnedSemaphorePermit,
}

/// How a request gets its connection.
pub(super) enum Way {
    /// One that has served before.
    Kept(Connection),
    /// It may open one.
    Open(Permit),
}

/// There is no free connection and none became free in time.
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
            permits: Arc::new(Semaphore::new(max)),
            state: Mutex::default(),
            next_id: AtomicU64::new(0),
            resolver,
            places: LookupPlaces::new(),
        })
    }

    pub(super) fn usage(&self) -> OutboundUsage {
        let state = self.state();
        let idle = state.idle.iter().filter(|idle| idle.connection.is_ready());
        OutboundUsage {
            open: self.max.saturating_sub(self.permits.available_permits()),
            idle: idle.count(),
            max: self.max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends a connection that is still idle.
    fn end(&self, id: u64) {
        let mut state = self.state();
        if let Some(place) = state.idle.iter().position(|idle| idle.id == id) {
            state.idle.remove(place);
        }
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
    permits: Arc<Semaphore>,
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
            permits: Arc::new(Semaphore::new(max)),
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
        self.max.saturating_sub(self.permits.available_permits())
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

    /// A connection to a destination, or the right to open one. First come, first served.
    ///
    /// # Errors
    /// [`Full`] where there is neither until then.
    ///
    /// Cancel safety: a dropped call leaves its place in the queue; a connection that was just given to it is closed.
    pub(super) async fn way(&self, destination: &Destination, until: Instant) -> Result<Way, Full> {
        let given = {
            let key = self.key(destination);
            let mut state = self.pool.state();
            if let Some(connection) = state.take(&key) {
                return Ok(Way::Kept(connection));
            }
            if let Some(permit) = self.try_permit() {
                return Ok(Way::Open(permit));
            }
            self.make_room(&mut state);
            state.wait(key)?
        };
        tokio::select! {
            biased;
            Ok(connection) = given => Ok(Way::Kept(connection)),
            permit = self.permit() => Ok(Way::Open(permit)),
            () = tokio::time::sleep_until(until) => Err(Full),
        }
    }

    /// Ends the oldest idle connection that is in the way: of this guest if its own bound is reached, else of any.
    fn make_room(&self, state: &mut State) {
        let is_hosts = self.permits.available_permits() > 0;
        let is_in_the_way = |idle: &Idle| is_hosts || idle.key.guest == self.id;
        if let Some(place) = state.idle.iter().position(is_in_the_way) {
            state.idle.remove(place);
        }
    }

    fn try_permit(&self) -> Option<Permit> {
        let of_guest = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let of_host = Arc::clone(&self.pool.permits).try_acquire_owned().ok()?;
        Some(Permit {
            _of_guest: of_guest,
            _of_host: of_host,
        })
    }

    async fn permit(&self) -> Permit {
        let of_guest = Arc::clone(&self.permits).acquire_owned().await;
        let of_host = Arc::clone(&self.pool.permits).acquire_owned().await;
        Permit {
            _of_guest: of_guest.expect("the semaphore is never closed"),
            _of_host: of_host.expect("the semaphore is never closed"),
        }
    }

    /// Takes back a connection that can serve again: gives it to a request that waits for just this one, ends it where its place
    /// is what another one waits for, or else keeps it for a while.
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
        let mut state = self.pool.state();
        state.waiting.retain(|waiting| !waiting.give.is_closed());
        while let Some(place) = state.waiting.iter().position(|waiting| waiting.key == key) {
            match state.waiting.remove(place).give.send(connection) {
                Ok(()) => return None,
                Err(unwanted) => connection = unwanted,
            }
        }
        let is_hosts_full = self.pool.permits.available_permits() == 0;
        let is_wanted = |waiting: &Waiting| waiting.key.guest == self.id || is_hosts_full;
        if state.waiting.iter().any(is_wanted) {
            return None;
        }
        let id = self.pool.new_id();
        state.idle.push_back(Idle {
            id,
            key,
            connection,
        });
        Some(id)
    }
}

impl State {
    /// The connection of this kind that was used last; those that were closed meanwhile go.
    fn take(&mut self, key: &Key) -> Option<Connection> {
        loop {
            let place = self.idle.iter().rposition(|idle| idle.key == *key)?;
            let idle = self.idle.remove(place)?;
            if idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
    }

    /// A place in the queue of a guest, whose length is bounded.
    fn wait(&mut self, key: Key) -> Result<oneshot::Receiver<Connection>, Full> {
        self.waiting.retain(|waiting| !waiting.give.is_closed());
        let of_guest = |waiting: &&Waiting| waiting.key.guest == key.guest;
        if self.waiting.iter().filter(of_guest).count() >= OUTBOUND_WAITERS_MAX {
            return Err(Full);
        }
        let (give, given) = oneshot::channel();
        self.waiting.push(Waiting { key, give });
        Ok(given)
    }
}

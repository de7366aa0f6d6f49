//! A fair queue for a limited number of slots: requests wait at a concurrency limit, calls for an outgoing connection.
//!
//! A slot that becomes free goes to the peers in rotation, and within a peer to its connections in rotation. A new
//! waiter, and a peer or connection that was just served, goes to the end. So each waiting connection gets a slot
//! before another connection of the same peer gets two. When the queue is full, the peer with the most waiters loses
//! one: the newest waiter of its connection with the most waiters. So a client that sends many requests at once delays
//! itself, but not a visitor with one request on its own connection.
//!
//! A waiter that is evicted from a full queue is answered 503.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use cloakroom_base::quota::{ClientConnection, PeerKey};

/// Slots and their waiters. A waiter may name an alternative (`W`) that it accepts instead of a slot.
pub(crate) struct FairQueue<W = ()> {
    state: Mutex<FairQueueState<W>>,
    waiters_max: usize,
}

/// The right to one slot. When dropped, the slot goes to the next waiter.
pub(crate) struct QueueSlot<W = ()>(Option<Arc<FairQueue<W>>>);

/// A request in the queue. Dropping it removes the request from the queue.
pub(crate) struct QueueWaiter<W = ()> {
    queue: Arc<FairQueue<W>>,
    source: ClientConnection,
    number: Number,
    admission: oneshot::Receiver<QueueSlot<W>>,
}

/// Error returned when the queue is full and, counting the new request, no other peer or connection has more waiters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// The result of asking for the waiter that is next in rotation.
pub(crate) enum NextWaiter<W> {
    /// The queue is empty.
    Empty,
    /// The next waiter wants another alternative, or needs a slot.
    Another,
    /// The next waiter accepts this alternative. It has left the queue.
    Accepts(OfferedWaiter<W>),
}

/// A request that was taken out of the queue to be given its alternative.
pub(crate) struct OfferedWaiter<W> {
    pub(crate) alternative: W,
    /// Kept until the alternative is provided. If it were dropped earlier, the waiter would believe that it was
    /// evicted.
    _admission: oneshot::Sender<QueueSlot<W>>,
}

/// The position of a waiter, a connection or a peer in the rotation. A queue never uses a number twice.
type Number = u64;

struct FairQueueState<W> {
    free: usize,
    waiting: usize,
    peers: HashMap<Option<PeerKey>, PeerWaiters<W>>,
    /// The peers that have waiters. The first one is served next.
    rotation: BTreeMap<Number, Option<PeerKey>>,
    last_number: Number,
}

/// The waiters of one peer. It is never empty while it is in [`FairQueueState::peers`].
struct PeerWaiters<W> {
    position: Number,
    waiting: usize,
    connections: HashMap<u64, ConnectionWaiters<W>>,
    /// The peer's connections that have waiters. The first one is served next.
    rotation: BTreeMap<Number, u64>,
    /// The same connections by load. The last one is the busiest.
    loads: BTreeMap<Load, u64>,
}

/// The waiters of one connection. It is never empty while it is in [`PeerWaiters::connections`].
struct ConnectionWaiters<W> {
    position: Number,
    waiters: BTreeMap<Number, QueueEntry<W>>,
}

/// The number of a connection's waiters, and the newest of them.
type Load = (usize, Number);

/// A waiter as the queue stores it.
struct QueueEntry<W> {
    alternative: W,
    admission: oneshot::Sender<QueueSlot<W>>,
}

impl<W> FairQueue<W> {
    pub(crate) fn new(slots: usize, waiters_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(FairQueueState {
                free: slots,
                waiting: 0,
                peers: HashMap::new(),
                rotation: BTreeMap::new(),
                last_number: 0,
            }),
            waiters_max,
        })
    }

    /// Returns the number of free slots and the number of requests that wait for one.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.free, state.waiting)
    }

    /// Takes a slot if one is free.
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<QueueSlot<W>> {
        let mut state = self.state.lock();
        state.free = state.free.checked_sub(1)?;
        drop(state);
        Some(QueueSlot(Some(Arc::clone(self))))
    }

    /// Adds a request to the queue. If the queue is full, this may evict another request, whose waiter then gets no
    /// slot.
    ///
    /// # Errors
    /// [`QueueFull`]
    pub(crate) fn join(
        self: &Arc<Self>,
        source: ClientConnection,
        alternative: W,
    ) -> Result<QueueWaiter<W>, QueueFull> {
        let mut state = self.state.lock();
        // Dropped after the lock is released, because dropping it wakes the task of the evicted request.
        let mut _evicted = None;
        if state.waiting >= self.waiters_max {
            let victim = state.victim(source).ok_or(QueueFull)?;
            _evicted = state.remove_last(victim);
        }
        let (sender, admission) = oneshot::channel();
        let waiting = QueueEntry {
            alternative,
            admission: sender,
        };
        let number = state.add(source, waiting);
        // A slot may have become free since the caller found none.
        let next = state.take_next_if_free();
        drop(state);
        if let Some(next) = next {
            self.give_slot(Some(next));
        }
        Ok(QueueWaiter {
            queue: Arc::clone(self),
            source,
            number,
            admission,
        })
    }

    /// Takes the next waiter out of the queue if it accepts the alternative on offer. It counts as served and gets no
    /// slot.
    pub(crate) fn take_next_if(&self, is_acceptable: impl FnOnce(&W) -> bool) -> NextWaiter<W> {
        let mut state = self.state.lock();
        let Some(next) = state.next() else {
            return NextWaiter::Empty;
        };
        if !is_acceptable(&next.alternative) {
            return NextWaiter::Another;
        }
        state.take_next().map_or(NextWaiter::Empty, |taken| {
            NextWaiter::Accepts(OfferedWaiter {
                alternative: taken.alternative,
                _admission: taken.admission,
            })
        })
    }

    /// Gives a slot to this waiter, or to the next one that still waits.
    fn give_slot(self: &Arc<Self>, mut next: Option<QueueEntry<W>>) {
        while let Some(waiting) = next {
            let slot = QueueSlot(Some(Arc::clone(self)));
            let Err(mut refused) = waiting.admission.send(slot) else {
                return;
            };
            refused.0 = None;
            next = self.state.lock().take_next();
        }
    }
}

impl<W> FairQueueState<W> {
    /// Returns the peer that loses a waiter to a new request of `source`: the one with the most waiters, counting the
    /// new one.
    fn victim(&self, source: ClientConnection) -> Option<Option<PeerKey>> {
        let own = self.peers.get(&source.peer);
        let own_waiting = own.map_or(0, |own| own.waiting);
        let (largest, waiters) = self.peers.iter().max_by_key(|(_, peer)| peer.waiting)?;
        if waiters.waiting > own_waiting + 1 {
            return Some(*largest);
        }
        let own = own?;
        (own.largest_load() > own.load(source.connection) + 1).then_some(source.peer)
    }

    fn add(&mut self, source: ClientConnection, waiting: QueueEntry<W>) -> Number {
        let number = self.next_number();
        let peer = match self.peers.entry(source.peer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.rotation.insert(number, source.peer);
                new.insert(PeerWaiters::new(number))
            }
        };
        peer.add(source.connection, number, waiting);
        self.waiting += 1;
        number
    }

    /// Removes the newest waiter of a peer's busiest connection.
    fn remove_last(&mut self, key: Option<PeerKey>) -> Option<QueueEntry<W>> {
        let (load, connection) = self.peers.get(&key)?.loads.last_key_value()?;
        let (number, connection) = (load.1, *connection);
        let source = ClientConnection {
            peer: key,
            connection,
        };
        self.remove(source, number)
    }

    /// Removes a waiter, if it is still in the queue.
    fn remove(&mut self, source: ClientConnection, number: Number) -> Option<QueueEntry<W>> {
        let peer = self.peers.get_mut(&source.peer)?;
        let waiting = peer.remove(source.connection, number)?;
        self.waiting -= 1;
        if peer.waiting == 0 {
            self.rotation.remove(&peer.position);
            self.peers.remove(&source.peer);
        }
        Some(waiting)
    }

    /// Returns the waiter that is served next.
    fn next(&self) -> Option<&QueueEntry<W>> {
        let (_, key) = self.rotation.first_key_value()?;
        self.peers.get(key)?.next()
    }

    /// Removes the waiter that is served next. The caller must give it a slot. Without a waiter, the slot becomes free.
    fn take_next(&mut self) -> Option<QueueEntry<W>> {
        let Some((_, key)) = self.rotation.pop_first() else {
            self.free += 1;
            return None;
        };
        let position = self.next_number();
        self.rotation.insert(position, key);
        let peer = self.peers.get_mut(&key)?;
        peer.position = position;
        let (connection, number) = peer.rotate(position)?;
        let source = ClientConnection {
            peer: key,
            connection,
        };
        self.remove(source, number)
    }

    fn next_number(&mut self) -> Number {
        self.last_number += 1;
        self.last_number
    }

    fn take_next_if_free(&mut self) -> Option<QueueEntry<W>> {
        self.free = self.free.checked_sub(1)?;
        self.take_next()
    }
}

impl<W> PeerWaiters<W> {
    fn new(position: Number) -> Self {
        Self {
            position,
            waiting: 0,
            connections: HashMap::new(),
            rotation: BTreeMap::new(),
            loads: BTreeMap::new(),
        }
    }

    /// Returns the number of waiters of the peer's busiest connection.
    fn largest_load(&self) -> usize {
        self.loads.last_key_value().map_or(0, |(load, _)| load.0)
    }

    /// Returns the number of waiters of this connection.
    fn load(&self, connection: u64) -> usize {
        let connection = self.connections.get(&connection);
        connection.map_or(0, |connection| connection.waiters.len())
    }

    fn add(&mut self, key: u64, number: Number, waiting: QueueEntry<W>) {
        let connection = match self.connections.entry(key) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                self.loads.remove(&known.load());
                known
            }
            Entry::Vacant(new) => {
                self.rotation.insert(number, key);
                new.insert(ConnectionWaiters {
                    position: number,
                    waiters: BTreeMap::new(),
                })
            }
        };
        connection.waiters.insert(number, waiting);
        self.loads.insert(connection.load(), key);
        self.waiting += 1;
    }

    fn remove(&mut self, key: u64, number: Number) -> Option<QueueEntry<W>> {
        let connection = self.connections.get_mut(&key)?;
        let before = connection.load();
        let waiting = connection.waiters.remove(&number)?;
        self.waiting -= 1;
        self.loads.remove(&before);
        if connection.waiters.is_empty() {
            self.rotation.remove(&connection.position);
            self.connections.remove(&key);
        } else {
            self.loads.insert(connection.load(), key);
        }
        Some(waiting)
    }

    fn next(&self) -> Option<&QueueEntry<W>> {
        let (_, key) = self.rotation.first_key_value()?;
        let (_, waiting) = self.connections.get(key)?.waiters.first_key_value()?;
        Some(waiting)
    }

    /// Moves the connection that is served next to the end, and returns it with its oldest waiter.
    fn rotate(&mut self, position: Number) -> Option<(u64, Number)> {
        let (_, key) = self.rotation.pop_first()?;
        self.rotation.insert(position, key);
        let connection = self.connections.get_mut(&key)?;
        connection.position = position;
        let (number, _) = connection.waiters.first_key_value()?;
        Some((key, *number))
    }
}

impl<W> ConnectionWaiters<W> {
    fn load(&self) -> Load {
        let newest = self.waiters.last_key_value();
        (self.waiters.len(), newest.map_or(0, |(number, _)| *number))
    }
}

impl<W> QueueWaiter<W> {
    /// Waits for a slot. Returns `None` if the request was evicted or got its alternative. Cancel safe.
    pub(crate) async fn admitted(&mut self) -> Option<QueueSlot<W>> {
        (&mut self.admission).await.ok()
    }
}

impl<W> Drop for QueueWaiter<W> {
    fn drop(&mut self) {
        // The removed entry is dropped after the lock is released.
        let _taken = self.queue.state.lock().remove(self.source, self.number);
    }
}

impl<W> Drop for QueueSlot<W> {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            let next = queue.state.lock().take_next();
            queue.give_slot(next);
        }
    }
}

impl<W> fmt::Debug for FairQueue<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, waiting) = self.usage();
        f.debug_struct("FairQueue")
            .field("free", &free)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for QueueSlot<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueSlot")
    }
}

#[cfg(test)]
mod tests;

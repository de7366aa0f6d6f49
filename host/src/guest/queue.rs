//! Slots, and those that wait for one: requests at a gate, calls for an outgoing connection.
//!
//! A slot that becomes free goes to the peers in turn, and within a peer to its connections in turn. What begins to wait, and what
//! had its turn, goes to the end: each connection that waits gets a slot before another one of its peer gets two. When the queue
//! is full, the peer with the most waiters loses one: the newest waiter of its connection with the most. So a client that sends
//! many requests at once delays itself, and not a visitor with one request on a connection of its own.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::quota::{PeerKey, Source};

/// Slots and their waiters. A waiter may have a wish (`W`), which can be fulfilled instead of giving it a slot.
pub(super) struct Queue<W = ()> {
    state: Mutex<State<W>>,
    waiters_max: usize,
}

/// The right to one slot. It goes to the next waiter when dropped.
pub(super) struct Slot<W = ()>(Option<Arc<Queue<W>>>);

/// A request in the queue. Dropping it takes the request out.
pub(super) struct Waiter<W = ()> {
    queue: Arc<Queue<W>>,
    source: Source,
    number: Number,
    admission: oneshot::Receiver<Slot<W>>,
}

/// The queue is full, and no peer has more waiters than the one that asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The waiter that has the next turn.
pub(super) enum Next<W> {
    /// The queue is empty.
    Nobody,
    /// A waiter with another wish, or one that needs a slot.
    Another,
    /// A waiter with this wish. It has left the queue.
    Wishes(Wishing<W>),
}

/// A request that was taken out of the queue so that its wish is fulfilled.
pub(super) struct Wishing<W> {
    pub(super) wish: W,
    /// Kept until then: the waiter would take its end for an eviction.
    _admission: oneshot::Sender<Slot<W>>,
}

/// The place of a waiter, a connection or a peer in the order of turns. A queue gives each number once.
type Number = u64;

struct State<W> {
    free: usize,
    waiting: usize,
    peers: HashMap<Option<PeerKey>, PeerWaiters<W>>,
    /// The peers that have waiters; the first one has the next turn.
    turns: BTreeMap<Number, Option<PeerKey>>,
    last_number: Number,
}

/// The waiters of one peer; never empty while it is in [`State::peers`].
struct PeerWaiters<W> {
    turn: Number,
    waiting: usize,
    connections: HashMap<u64, Connection<W>>,
    /// Its connections; the first one has the peer's next turn.
    turns: BTreeMap<Number, u64>,
    /// Its connections; the last one is the busiest.
    loads: BTreeMap<Load, u64>,
}

/// The waiters of one connection; never empty while it is in [`PeerWaiters::connections`].
struct Connection<W> {
    turn: Number,
    waiters: BTreeMap<Number, Waiting<W>>,
}

/// How many waiters a connection has, and the newest of them.
type Load = (usize, Number);

/// The queue's end of a waiter.
struct Waiting<W> {
    wish: W,
    admission: oneshot::Sender<Slot<W>>,
}

impl<W> Queue<W> {
    pub(super) fn new(slots: usize, waiters_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: slots,
                waiting: 0,
                peers: HashMap::new(),
                turns: BTreeMap::new(),
                last_number: 0,
            }),
            waiters_max,
        })
    }

    /// Free slots, and requests that wait for one.
    pub(super) fn usage(&self) -> (usize, usize) {
        let state = self.lock();
        (state.free, state.waiting)
    }

    /// A slot, if one is free.
    pub(super) fn try_enter(self: &Arc<Self>) -> Option<Slot<W>> {
        let mut state = self.lock();
        state.free = state.free.checked_sub(1)?;
        drop(state);
        Some(Slot(Some(Arc::clone(self))))
    }

    /// Puts a request into the queue. It may take the place of another one, which then learns that it was evicted.
    ///
    /// # Errors
    /// [`Full`]
    pub(super) fn join(self: &Arc<Self>, source: Source, wish: W) -> Result<Waiter<W>, Full> {
        let mut state = self.lock();
        // Dropped behind the lock: that wakes the task of the evicted request.
        let mut _evicted = None;
        if state.waiting >= self.waiters_max {
            let victim = state.victim(source).ok_or(Full)?;
            _evicted = state.remove_last(victim);
        }
        let (sender, admission) = oneshot::channel();
        let waiting = Waiting {
            wish,
            admission: sender,
        };
        let number = state.add(source, waiting);
        // A slot may have become free since the request was told that there is none.
        let next = state.take_next_if_free();
        drop(state);
        if let Some(next) = next {
            self.hand_over(Some(next));
        }
        Ok(Waiter {
            queue: Arc::clone(self),
            source,
            number,
            admission,
        })
    }

    /// Takes the waiter that has the next turn out of the queue if its wish can be fulfilled. That was its turn; it gets no slot.
    pub(super) fn take_next_if(&self, can_be_fulfilled: impl FnOnce(&W) -> bool) -> Next<W> {
        let mut state = self.lock();
        let Some(next) = state.next() else {
            return Next::Nobody;
        };
        if !can_be_fulfilled(&next.wish) {
            return Next::Another;
        }
        state.take_next().map_or(Next::Nobody, |taken| {
            Next::Wishes(Wishing {
                wish: taken.wish,
                _admission: taken.admission,
            })
        })
    }

    /// Gives a slot to this waiter, or to the next one that still waits.
    fn hand_over(self: &Arc<Self>, mut next: Option<Waiting<W>>) {
        while let Some(waiting) = next {
            let slot = Slot(Some(Arc::clone(self)));
            let Err(mut refused) = waiting.admission.send(slot) else {
                return;
            };
            refused.0 = None;
            next = self.lock().take_next();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // Nothing panics while it holds this lock; a poisoned one would still guard consistent counts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> State<W> {
    /// The peer that loses a waiter to a new request of `source`: the one with the most waiters, the new one included.
    fn victim(&self, source: Source) -> Option<Option<PeerKey>> {
        let own = self.peers.get(&source.peer);
        let own_waiting = own.map_or(0, |own| own.waiting);
        let (largest, waiters) = self.peers.iter().max_by_key(|(_, peer)| peer.waiting)?;
        if waiters.waiting > own_waiting + 1 {
            return Some(*largest);
        }
        let own = own?;
        (own.largest_load() > own.load(source.connection) + 1).then_some(source.peer)
    }

    fn add(&mut self, source: Source, waiting: Waiting<W>) -> Number {
        let number = self.next_number();
        let peer = match self.peers.entry(source.peer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.turns.insert(number, source.peer);
                new.insert(PeerWaiters::new(number))
            }
        };
        peer.add(source.connection, number, waiting);
        self.waiting += 1;
        number
    }

    /// Takes out the newest waiter of a peer's busiest connection.
    fn remove_last(&mut self, key: Option<PeerKey>) -> Option<Waiting<W>> {
        let (load, connection) = self.peers.get(&key)?.loads.last_key_value()?;
        let (number, connection) = (load.1, *connection);
        let source = Source {
            peer: key,
            connection,
        };
        self.remove(source, number)
    }

    /// Takes a waiter out, if it is still there.
    fn remove(&mut self, source: Source, number: Number) -> Option<Waiting<W>> {
        let peer = self.peers.get_mut(&source.peer)?;
        let waiting = peer.remove(source.connection, number)?;
        self.waiting -= 1;
        if peer.waiting == 0 {
            self.turns.remove(&peer.turn);
            self.peers.remove(&source.peer);
        }
        Some(waiting)
    }

    /// The waiter that has the next turn.
    fn next(&self) -> Option<&Waiting<W>> {
        let (_, key) = self.turns.first_key_value()?;
        self.peers.get(key)?.next()
    }

    /// Takes the next waiter out; the caller owes it a slot. Without a waiter the slot is free.
    fn take_next(&mut self) -> Option<Waiting<W>> {
        let Some((_, key)) = self.turns.pop_first() else {
            self.free += 1;
            return None;
        };
        let turn = self.next_number();
        self.turns.insert(turn, key);
        let peer = self.peers.get_mut(&key)?;
        peer.turn = turn;
        let (connection, number) = peer.rotate(turn)?;
        let source = Source {
            peer: key,
            connection,
        };
        self.remove(source, number)
    }

    fn next_number(&mut self) -> Number {
        self.last_number += 1;
        self.last_number
    }

    fn take_next_if_free(&mut self) -> Option<Waiting<W>> {
        self.free = self.free.checked_sub(1)?;
        self.take_next()
    }
}

impl<W> PeerWaiters<W> {
    fn new(turn: Number) -> Self {
        Self {
            turn,
            waiting: 0,
            connections: HashMap::new(),
            turns: BTreeMap::new(),
            loads: BTreeMap::new(),
        }
    }

    /// The waiters of its busiest connection.
    fn largest_load(&self) -> usize {
        self.loads.last_key_value().map_or(0, |(load, _)| load.0)
    }

    /// The waiters of this connection.
    fn load(&self, connection: u64) -> usize {
        let connection = self.connections.get(&connection);
        connection.map_or(0, |connection| connection.waiters.len())
    }

    fn add(&mut self, key: u64, number: Number, waiting: Waiting<W>) {
        let connection = match self.connections.entry(key) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                self.loads.remove(&known.load());
                known
            }
            Entry::Vacant(new) => {
                self.turns.insert(number, key);
                new.insert(Connection {
                    turn: number,
                    waiters: BTreeMap::new(),
                })
            }
        };
        connection.waiters.insert(number, waiting);
        self.loads.insert(connection.load(), key);
        self.waiting += 1;
    }

    fn remove(&mut self, key: u64, number: Number) -> Option<Waiting<W>> {
        let connection = self.connections.get_mut(&key)?;
        let before = connection.load();
        let waiting = connection.waiters.remove(&number)?;
        self.waiting -= 1;
        self.loads.remove(&before);
        if connection.waiters.is_empty() {
            self.turns.remove(&connection.turn);
            self.connections.remove(&key);
        } else {
            self.loads.insert(connection.load(), key);
        }
        Some(waiting)
    }

    fn next(&self) -> Option<&Waiting<W>> {
        let (_, key) = self.turns.first_key_value()?;
        let (_, waiting) = self.connections.get(key)?.waiters.first_key_value()?;
        Some(waiting)
    }

    /// Puts the connection that has the next turn behind the others; returns it and its oldest waiter.
    fn rotate(&mut self, turn: Number) -> Option<(u64, Number)> {
        let (_, key) = self.turns.pop_first()?;
        self.turns.insert(turn, key);
        let connection = self.connections.get_mut(&key)?;
        connection.turn = turn;
        let (number, _) = connection.waiters.first_key_value()?;
        Some((key, *number))
    }
}

impl<W> Connection<W> {
    fn load(&self) -> Load {
        let newest = self.waiters.last_key_value();
        (self.waiters.len(), newest.map_or(0, |(number, _)| *number))
    }
}

impl<W> Waiter<W> {
    /// Waits for a slot; `None` if the request was evicted, or its wish fulfilled. Cancel safe.
    pub(super) async fn admitted(&mut self) -> Option<Slot<W>> {
        (&mut self.admission).await.ok()
    }
}

impl<W> Drop for Waiter<W> {
    fn drop(&mut self) {
        // Its wish is dropped behind the lock.
        let _taken = self.queue.lock().remove(self.source, self.number);
    }
}

impl<W> Drop for Slot<W> {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            let next = queue.lock().take_next();
            queue.hand_over(next);
        }
    }
}

impl<W> fmt::Debug for Queue<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (free, waiting) = self.usage();
        f.debug_struct("Queue")
            .field("free", &free)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for Slot<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests;

//! Slots, and those that wait for one: requests at a gate, calls for an outgoing connection.
//!
//! A slot that becomes free goes to the peers in turn, and within a peer to its connections in turn. When the queue is full,
//! the peer with the most waiters loses one: the newest waiter of its connection with the most. So a client that sends many
//! requests at once delays itself, and not a visitor with one request on a connection of its own.

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
    order: Order,
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

/// The position of a waiter among those of its peer. The n-th waiter of a connection is in a round behind its n-1 others.
type Order = (Round, u64);
type Round = u64;

struct State<W> {
    free: usize,
    waiting: usize,
    peers: HashMap<Option<PeerKey>, PeerWaiters<W>>,
    /// The peers that have waiters; the first one has the next turn.
    turns: BTreeMap<u64, Option<PeerKey>>,
    sequence: u64,
}

/// The waiters of one peer; never empty while it is in [`State::peers`].
struct PeerWaiters<W> {
    turn: u64,
    /// The round of the waiter that was let in last.
    round: Round,
    waiters: BTreeMap<Order, Waiting<W>>,
    connections: HashMap<u64, Connection>,
}

/// The queue's end of a waiter.
struct Waiting<W> {
    source: Source,
    wish: W,
    admission: oneshot::Sender<Slot<W>>,
}

/// The waiters of one connection.
#[derive(Default)]
struct Connection {
    last_round: Round,
    waiting: usize,
}

impl<W> Queue<W> {
    pub(super) fn new(slots: usize, waiters_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: slots,
                waiting: 0,
                peers: HashMap::new(),
                turns: BTreeMap::new(),
                sequence: 0,
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
            source,
            wish,
            admission: sender,
        };
        let order = state.add(waiting);
        // A slot may have become free since the request was told that there is none.
        let next = state.take_next_if_free();
        drop(state);
        if let Some(next) = next {
            self.hand_over(Some(next));
        }
        Ok(Waiter {
            queue: Arc::clone(self),
            source,
            order,
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
    /// The peer that loses its last waiter to a new request of `source`: the one with the most waiters, the new one included.
    fn victim(&self, source: Source) -> Option<Option<PeerKey>> {
        let count = |peer: &PeerWaiters<W>| peer.waiters.len();
        let own = self.peers.get(&source.peer).map_or(0, count);
        let (largest, waiters) = self.peers.iter().max_by_key(|(_, peer)| count(peer))?;
        if count(waiters) > own + 1 {
            return Some(*largest);
        }
        (self.next_round(source) < self.last_round(source.peer)).then_some(source.peer)
    }

    /// The round of a new waiter.
    fn next_round(&self, source: Source) -> Round {
        let Some(peer) = self.peers.get(&source.peer) else {
            return 0;
        };
        let behind_own = peer.connections.get(&source.connection);
        behind_own.map_or(peer.round, |own| peer.round.max(own.last_round + 1))
    }

    fn last_round(&self, peer: Option<PeerKey>) -> Round {
        let last = self
            .peers
            .get(&peer)
            .and_then(|peer| peer.waiters.last_key_value());
        last.map_or(0, |((round, _), _)| *round)
    }

    fn add(&mut self, waiting: Waiting<W>) -> Order {
        let source = waiting.source;
        let round = self.next_round(source);
        self.sequence += 1;
        let order = (round, self.sequence);
        let peer = match self.peers.entry(source.peer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.turns.insert(self.sequence, source.peer);
                new.insert(PeerWaiters {
                    turn: self.sequence,
                    round: 0,
                    waiters: BTreeMap::new(),
                    connections: HashMap::new(),
                })
            }
        };
        let connection = peer.connections.entry(source.connection).or_default();
        connection.last_round = round;
        connection.waiting += 1;
        peer.waiters.insert(order, waiting);
        self.waiting += 1;
        order
    }

    fn remove_last(&mut self, peer: Option<PeerKey>) -> Option<Waiting<W>> {
        let (order, _) = self.peers.get(&peer)?.waiters.last_key_value()?;
        let order = *order;
        self.remove(peer, order)
    }

    /// Takes a waiter out, if it is still there.
    fn remove(&mut self, key: Option<PeerKey>, order: Order) -> Option<Waiting<W>> {
        let peer = self.peers.get_mut(&key)?;
        let waiting = peer.waiters.remove(&order)?;
        self.waiting -= 1;
        if let Entry::Occupied(mut connection) = peer.connections.entry(waiting.source.connection) {
            connection.get_mut().waiting -= 1;
            if connection.get().waiting == 0 {
                connection.remove();
            }
        }
        if peer.waiters.is_empty() {
            self.turns.remove(&peer.turn);
            self.peers.remove(&key);
        }
        Some(waiting)
    }

    /// The waiter that has the next turn.
    fn next(&self) -> Option<&Waiting<W>> {
        let (_, key) = self.turns.first_key_value()?;
        let (_, waiting) = self.peers.get(key)?.waiters.first_key_value()?;
        Some(waiting)
    }

    /// Takes the next waiter out; the caller owes it a slot. Without a waiter the slot is free.
    fn take_next(&mut self) -> Option<Waiting<W>> {
        let Some((_, key)) = self.turns.pop_first() else {
            self.free += 1;
            return None;
        };
        self.sequence += 1;
        let turn = self.sequence;
        self.turns.insert(turn, key);
        let peer = self.peers.get_mut(&key)?;
        peer.turn = turn;
        let order = *peer.waiters.first_key_value()?.0;
        peer.round = order.0;
        self.remove(key, order)
    }

    fn take_next_if_free(&mut self) -> Option<Waiting<W>> {
        self.free = self.free.checked_sub(1)?;
        self.take_next()
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
        let _taken = self.queue.lock().remove(self.source.peer, self.order);
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

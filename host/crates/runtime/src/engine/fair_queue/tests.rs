//! The order in which waiters are served, and the evictions from a full queue.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::*;

fn source(peer: u8, connection: u64) -> ClientConnection {
    ClientConnection {
        peer: Some(PeerKey::of(Ipv4Addr::new(10, 0, 0, peer).into())),
        connection,
    }
}

/// Returns whether a waiter was served (`true`) or evicted (`false`), or `None` while it waits.
fn outcome(waiter: &mut QueueWaiter) -> Option<bool> {
    use oneshot::error::TryRecvError;
    match waiter.admission.try_recv() {
        Ok(slot) => {
            // The slot is not used. The next waiter gets one when the test says so.
            std::mem::forget(slot);
            Some(true)
        }
        Err(TryRecvError::Closed) => Some(false),
        Err(TryRecvError::Empty) => None,
    }
}

/// Serves one more waiter and returns its label.
fn next<T>(queue: &Arc<FairQueue>, waiters: &mut VecDeque<(T, QueueWaiter)>) -> T {
    drop(QueueSlot(Some(Arc::clone(queue))));
    let at = waiters
        .iter_mut()
        .position(|(_, waiter)| outcome(waiter) == Some(true));
    waiters.remove(at.unwrap()).unwrap().0
}

/// Returns the order in which waiters of these sources are served.
fn order(sources: &[ClientConnection]) -> Vec<usize> {
    let queue = FairQueue::new(0, 64);
    let mut waiters: VecDeque<_> = sources
        .iter()
        .map(|source| queue.join(*source, ()).unwrap())
        .enumerate()
        .collect();
    sources.iter().map(|_| next(&queue, &mut waiters)).collect()
}

#[test]
fn one_connection_is_served_first_come_first_served() {
    assert_eq!(order(&[source(1, 1); 4]), [0, 1, 2, 3]);
}

#[test]
fn peers_are_served_round_robin() {
    let (many, one) = (source(1, 1), source(2, 2));
    assert_eq!(order(&[many, many, many, one]), [0, 3, 1, 2]);
}

#[test]
fn connections_of_a_peer_are_served_round_robin() {
    let (many, one) = (source(1, 1), source(1, 2));
    assert_eq!(order(&[many, many, many, one]), [0, 3, 1, 2]);
}

/// The other connections ask again as soon as they are served, on the same connection or on a new one.
#[test]
fn a_connections_second_request_is_not_starved_by_endless_new_requests() {
    for is_kept in [true, false] {
        let queue = FairQueue::new(0, 64);
        let join = |connection| (connection, queue.join(source(1, connection), ()).unwrap());
        let mut waiters: VecDeque<_> = [0, 0, 1, 2, 3].map(join).into();
        let mut newest = 3;
        let mut served = Vec::new();
        for _ in 0..5 {
            let connection = next(&queue, &mut waiters);
            served.push(connection);
            if connection != 0 {
                newest += 1;
                waiters.push_back(join(if is_kept { connection } else { newest }));
            }
        }
        assert_eq!(served, [0, 1, 2, 3, 0], "kept: {is_kept}");
    }
}

/// At most as many connections of a peer are served before a waiting one as were waiting before it, whatever the order
/// of events.
#[test]
fn a_waiting_connection_is_served_within_one_rotation() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let queue = FairQueue::new(0, 64);
        let mut waiters = VecDeque::new();
        // By connection: how many may still be served before it.
        let mut before: HashMap<u64, usize> = HashMap::new();
        for _ in 0..200 {
            let changed = match random.u8(0..4) {
                0..2 if waiters.len() < 64 => {
                    let connection = random.u64(0..6);
                    let waiter = queue.join(source(1, connection), ()).unwrap();
                    waiters.push_back((connection, waiter));
                    let others = before.len();
                    before.entry(connection).or_insert(others);
                    continue;
                }
                2 if !waiters.is_empty() => {
                    let at = random.usize(0..waiters.len());
                    waiters.remove(at).unwrap().0
                }
                3 if !waiters.is_empty() => {
                    let served = next(&queue, &mut waiters);
                    before.remove(&served);
                    for left in before.values_mut() {
                        *left = left.checked_sub(1).unwrap_or_else(|| panic!("seed {seed}"));
                    }
                    before.insert(served, before.len());
                    served
                }
                _ => continue,
            };
            if waiters.iter().all(|(connection, _)| *connection != changed) {
                before.remove(&changed);
            }
        }
    }
}

#[test]
fn a_full_queue_evicts_the_newest_waiter_of_the_busiest_connection() {
    for visitor in [source(2, 9), source(1, 9)] {
        let queue = FairQueue::new(0, 4);
        let mut flood: Vec<_> = (0..4)
            .map(|_| queue.join(source(1, 1), ()).unwrap())
            .collect();
        let mut visitor = queue.join(visitor, ()).unwrap();
        let outcomes: Vec<_> = flood.iter_mut().map(outcome).collect();
        assert_eq!(outcomes, [None, None, None, Some(false)]);
        assert_eq!(outcome(&mut visitor), None);
        assert_eq!(queue.usage(), (0, 4));
        assert_eq!(queue.join(source(1, 1), ()).err(), Some(QueueFull));
    }
}

#[test]
fn the_busiest_connection_is_the_one_with_the_most_waiters_at_this_moment() {
    let queue = FairQueue::new(0, 6);
    let mut waiters: VecDeque<_> = [1, 1, 1, 2, 2, 2]
        .map(|connection| (connection, queue.join(source(1, connection), ()).unwrap()))
        .into();
    assert_eq!(next(&queue, &mut waiters), 1);
    let mut newest = queue.join(source(1, 1), ()).unwrap();
    // Both connections have the same number of waiters. The first loses the newest waiter of all, and then the second
    // has more.
    let visitors = [8, 9].map(|connection| queue.join(source(1, connection), ()).unwrap());
    let outcomes: Vec<_> = waiters
        .iter_mut()
        .map(|(_, waiter)| outcome(waiter))
        .collect();
    assert_eq!(outcome(&mut newest), Some(false));
    assert_eq!(outcomes, [None, None, None, None, Some(false)]);
    assert_eq!(queue.join(source(1, 2), ()).err(), Some(QueueFull));
    drop(visitors);
}

#[test]
fn equal_clients_do_not_evict_each_other() {
    let queue = FairQueue::new(0, 2);
    let _waiters = [source(1, 1), source(2, 2)].map(|source| queue.join(source, ()).unwrap());
    assert_eq!(queue.join(source(3, 3), ()).err(), Some(QueueFull));
    assert_eq!(queue.join(source(1, 4), ()).err(), Some(QueueFull));
}

#[test]
fn a_slot_granted_to_a_dropped_waiter_goes_to_the_next_one() {
    let queue = FairQueue::new(1, 4);
    let slot = queue.try_enter().unwrap();
    let given_up = queue.join(source(1, 1), ()).unwrap();
    let mut second = queue.join(source(1, 1), ()).unwrap();
    drop(slot);
    drop(given_up);
    assert!(matches!(second.admission.try_recv(), Ok(_slot)));
    drop(second);
    assert_eq!(queue.usage(), (1, 0));
}

#[test]
fn take_next_if_takes_only_the_next_waiter_and_uses_up_its_turn() {
    let queue = FairQueue::new(0, 8);
    assert!(matches!(queue.take_next_if(|_| true), NextWaiter::Empty));
    let (many, one) = (source(1, 1), source(2, 2));
    let mut waiters = [(many, 'a'), (many, 'b'), (one, 'c')]
        .map(|(source, alternative)| queue.join(source, alternative).unwrap());
    for alternative in ['b', 'c'] {
        let next = queue.take_next_if(|next| *next == alternative);
        assert!(
            matches!(next, NextWaiter::Another),
            "{alternative} has to wait"
        );
    }
    for alternative in ['a', 'c', 'b'] {
        let NextWaiter::Accepts(taken) = queue.take_next_if(|next| *next == alternative) else {
            panic!("{alternative} has the next turn");
        };
        assert_eq!(taken.alternative, alternative);
    }
    for waiter in &mut waiters {
        let admission = waiter.admission.try_recv();
        assert!(admission.is_err(), "a fulfilled wish takes no slot");
    }
    assert_eq!(queue.usage(), (0, 0));
    drop(waiters);
    assert_eq!(queue.usage(), (0, 0));
}

/// Asserts that all data about the waiters agree.
#[track_caller]
fn assert_consistent(queue: &FairQueue, seed: u64) {
    let state = queue.state.lock();
    assert_eq!(state.rotation.len(), state.peers.len(), "seed {seed}");
    let of_peers = state.peers.values().map(|peer| peer.waiting);
    assert_eq!(of_peers.sum::<usize>(), state.waiting, "seed {seed}");
    for (key, peer) in &state.peers {
        assert_eq!(state.rotation.get(&peer.position), Some(key), "seed {seed}");
        let of_connections = peer.connections.values().map(|one| one.waiters.len());
        assert_eq!(of_connections.sum::<usize>(), peer.waiting, "seed {seed}");
        let count = peer.connections.len();
        let counts = (peer.rotation.len(), peer.loads.len());
        assert_eq!(counts, (count, count), "seed {seed}");
        for (key, connection) in &peer.connections {
            assert!(!connection.waiters.is_empty(), "seed {seed}");
            let at_position = peer.rotation.get(&connection.position);
            let of_load = peer.loads.get(&connection.load());
            assert_eq!(
                (at_position, of_load),
                (Some(key), Some(key)),
                "seed {seed}"
            );
        }
    }
}

/// Slots and waiters are never lost or duplicated, whatever the order of events, and no slot is free while a request
/// waits.
#[test]
fn slots_and_waiters_are_counted_exactly() {
    const SLOTS: usize = 3;
    const WAITERS: usize = 5;
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let queue = FairQueue::new(SLOTS, WAITERS);
        let mut slots = Vec::new();
        let mut waiters: Vec<QueueWaiter> = Vec::new();
        for _ in 0..200 {
            match random.u8(0..7) {
                0..4 => match queue.try_enter() {
                    Some(slot) => slots.push(slot),
                    None => {
                        let source = source(random.u8(0..3), random.u64(0..3));
                        waiters.extend(queue.join(source, ()).ok());
                    }
                },
                4 if !waiters.is_empty() => {
                    drop(waiters.remove(random.usize(0..waiters.len())));
                }
                _ => drop(slots.pop()),
            }
            waiters.retain_mut(|waiter| match waiter.admission.try_recv() {
                Ok(slot) => {
                    slots.push(slot);
                    false
                }
                Err(oneshot::error::TryRecvError::Closed) => false,
                Err(oneshot::error::TryRecvError::Empty) => true,
            });
            let (free, waiting) = queue.usage();
            assert_eq!(free + slots.len(), SLOTS, "seed {seed}");
            assert_eq!(waiting, waiters.len(), "seed {seed}");
            assert!(waiting <= WAITERS, "seed {seed}");
            assert!(free == 0 || waiting == 0, "seed {seed}");
            assert_consistent(&queue, seed);
        }
        drop((slots, waiters));
        assert_eq!(queue.usage(), (SLOTS, 0), "seed {seed}");
        let state = queue.state.lock();
        assert!(state.peers.is_empty() && state.rotation.is_empty());
    }
}

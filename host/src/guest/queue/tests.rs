//! Who is let in next, and who loses the place in a full queue.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::*;

fn source(peer: u8, connection: u64) -> Source {
    Source {
        peer: Some(PeerKey::of(Ipv4Addr::new(10, 0, 0, peer).into())),
        connection,
    }
}

/// Whether a waiter was let in; `None` while it waits.
fn fate(waiter: &mut Waiter) -> Option<bool> {
    use oneshot::error::TryRecvError;
    match waiter.admission.try_recv() {
        Ok(slot) => {
            // The slot is not used: the next one in turn gets it when the test says so.
            std::mem::forget(slot);
            Some(true)
        }
        Err(TryRecvError::Closed) => Some(false),
        Err(TryRecvError::Empty) => None,
    }
}

/// Lets one more in and returns its number.
fn next(queue: &Arc<Queue>, waiters: &mut VecDeque<(usize, Waiter)>) -> usize {
    drop(Slot(Some(Arc::clone(queue))));
    let at = waiters
        .iter_mut()
        .position(|(_, waiter)| fate(waiter) == Some(true));
    waiters.remove(at.unwrap()).unwrap().0
}

/// The order in which waiters of these sources are let in.
fn order(sources: &[Source]) -> Vec<usize> {
    let queue = Queue::new(0, 64);
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
fn peers_take_turns() {
    let (many, one) = (source(1, 1), source(2, 2));
    assert_eq!(order(&[many, many, many, one]), [0, 3, 1, 2]);
}

#[test]
fn connections_of_a_peer_take_turns() {
    let (many, one) = (source(1, 1), source(1, 2));
    assert_eq!(order(&[many, many, many, one]), [0, 3, 1, 2]);
}

#[test]
fn a_full_queue_evicts_the_newest_waiter_of_the_busiest_connection() {
    for visitor in [source(2, 9), source(1, 9)] {
        let queue = Queue::new(0, 4);
        let mut flood: Vec<_> = (0..4)
            .map(|_| queue.join(source(1, 1), ()).unwrap())
            .collect();
        let mut visitor = queue.join(visitor, ()).unwrap();
        let fates: Vec<_> = flood.iter_mut().map(fate).collect();
        assert_eq!(fates, [None, None, None, Some(false)]);
        assert_eq!(fate(&mut visitor), None);
        assert_eq!(queue.usage(), (0, 4));
        assert_eq!(queue.join(source(1, 1), ()).err(), Some(Full));
    }
}

#[test]
fn equal_clients_do_not_evict_each_other() {
    let queue = Queue::new(0, 2);
    let _waiters = [source(1, 1), source(2, 2)].map(|source| queue.join(source, ()).unwrap());
    assert_eq!(queue.join(source(3, 3), ()).err(), Some(Full));
    assert_eq!(queue.join(source(1, 4), ()).err(), Some(Full));
}

#[test]
fn a_slot_outlives_a_waiter_that_left_before_it_took_it() {
    let queue = Queue::new(1, 4);
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
fn a_wish_is_fulfilled_when_its_waiter_has_the_next_turn_and_that_was_the_turn() {
    let queue = Queue::new(0, 8);
    assert!(matches!(queue.take_next_if(|_| true), Next::Nobody));
    let (many, one) = (source(1, 1), source(2, 2));
    let mut waiters = [(many, 'a'), (many, 'b'), (one, 'c')]
        .map(|(source, wish)| queue.join(source, wish).unwrap());
    for wish in ['b', 'c'] {
        let next = queue.take_next_if(|next| *next == wish);
        assert!(matches!(next, Next::Another), "{wish} has to wait");
    }
    for wish in ['a', 'c', 'b'] {
        let Next::Wishes(taken) = queue.take_next_if(|next| *next == wish) else {
            panic!("{wish} has the next turn");
        };
        assert_eq!(taken.wish, wish);
    }
    for waiter in &mut waiters {
        let admission = waiter.admission.try_recv();
        assert!(admission.is_err(), "a fulfilled wish takes no slot");
    }
    assert_eq!(queue.usage(), (0, 0));
    drop(waiters);
    assert_eq!(queue.usage(), (0, 0));
}

/// Neither slots nor waiters are lost or made up, whatever the order of events, and no slot is free while a request waits.
#[test]
fn slots_and_waiters_are_counted_exactly() {
    const SLOTS: usize = 3;
    const WAITERS: usize = 5;
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let queue = Queue::new(SLOTS, WAITERS);
        let mut slots = Vec::new();
        let mut waiters: Vec<Waiter> = Vec::new();
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
        }
        drop((slots, waiters));
        assert_eq!(queue.usage(), (SLOTS, 0), "seed {seed}");
        let state = queue.lock();
        assert!(state.peers.is_empty() && state.turns.is_empty());
    }
}

//! The slow lane: threads of their own, nicer than those that serve, for guests that have computed for long already. So an
//! endless loop takes the processor time that nobody else wants, and a tenth where all of it is wanted.
//!
//! Knows turns and whose they are; what a turn does, it does not know. Guests take turns first, then the requests of each:
//! a hundred loops of one guest slow another one's long computation as one loop would.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::LANE_NICENESS;

/// Something that computes for a little while at a time.
pub(super) trait Turn: Send + Sync {
    /// Takes one turn, on a thread of the lane. Must not panic.
    fn take(self: Arc<Self>);
}

/// See the module. Its threads end when it is dropped.
pub(super) struct Lane(Arc<Queue>);

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl Lane {
    /// Starts as many threads as the machine has processors.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start() -> std::io::Result<Self> {
        let lane = Self(Arc::new(Queue::default()));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 0..threads {
            let queue = Arc::clone(&lane.0);
            std::thread::Builder::new()
                .name(format!("guest-lane-{number}"))
                .spawn(move || {
                    be_nice();
                    while let Some(turn) = queue.next() {
                        turn.take();
                    }
                })?;
        }
        Ok(lane)
    }

    /// Puts a turn behind the other turns of the same guest.
    pub(super) fn push(&self, guest: &Arc<str>, turn: Arc<dyn Turn>) {
        self.0.lock().push(guest, turn);
        self.0.is_filled.notify_one();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.is_filled.notify_all();
    }
}

/// What the calling thread has computed so far.
pub(super) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Linux has a niceness per thread. To be nicer needs no privilege.
fn be_nice() {
    if let Err(error) = rustix::process::nice(LANE_NICENESS) {
        tracing::warn!(%error, "guests that compute for long share the processor with all others");
    }
}

#[derive(Default)]
struct Queue {
    turns: Mutex<Turns>,
    is_filled: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Nothing panics while it holds the lock.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn; `None` when there will be no more.
    fn next(&self) -> Option<Arc<dyn Turn>> {
        let mut turns = self.lock();
        loop {
            if let Some(turn) = turns.pop() {
                return Some(turn);
            }
            if turns.is_closed {
                return None;
            }
            turns = self
                .is_filled
                .wait(turns)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Turns in the order they are due.
#[derive(Default)]
struct Turns {
    /// The guests that have any, each once.
    guests: VecDeque<Arc<str>>,
    of_guest: HashMap<Arc<str>, VecDeque<Arc<dyn Turn>>>,
    is_closed: bool,
}

impl Turns {
    fn push(&mut self, guest: &Arc<str>, turn: Arc<dyn Turn>) {
        let turns = self.of_guest.entry(Arc::clone(guest)).or_default();
        if turns.is_empty() {
            self.guests.push_back(Arc::clone(guest));
        }
        turns.push_back(turn);
    }

    fn pop(&mut self) -> Option<Arc<dyn Turn>> {
        let guest = self.guests.pop_front()?;
        let turns = self.of_guest.get_mut(&guest)?;
        let turn = turns.pop_front();
        if turns.is_empty() {
            self.of_guest.remove(&guest);
        } else {
            self.guests.push_back(guest);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Named(&'static str, mpsc::Sender<(&'static str, i32)>);

    impl Turn for Named {
        fn take(self: Arc<Self>) {
            let niceness = rustix::process::getpriority_process(None).unwrap();
            self.1.send((self.0, niceness)).unwrap();
        }
    }

    #[test]
    fn guests_take_turns_and_then_the_requests_of_each() {
        let (sender, taken) = mpsc::channel();
        let mut turns = Turns::default();
        for (guest, name) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")] {
            turns.push(&guest.into(), Arc::new(Named(name, sender.clone())));
        }
        while let Some(turn) = turns.pop() {
            turn.take();
        }
        drop(sender);
        let order: Vec<_> = taken.iter().map(|(name, _)| name).collect();
        // The last sender went with the last turn.
        assert_eq!(order, ["a1", "b1", "a2", "a3"]);
        assert!(turns.guests.is_empty() && turns.of_guest.is_empty());
    }

    #[test]
    fn the_lanes_threads_are_nicer_than_others() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let (sender, taken) = mpsc::channel();
        let lane = Lane::start().unwrap();
        lane.push(&"a".into(), Arc::new(Named("a", sender)));
        let (_, niceness) = taken.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(niceness, (own + LANE_NICENESS).min(19));
    }
}

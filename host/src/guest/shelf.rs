//! Where instances of one version wait that have served and may serve again: the last one on top, bounded in number and time.
//!
//! A guest that is not reused has no shelf. Knows places and times; which instances may come here, and when, `invoke` knows.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::instance::Instance;
use super::lane::Lane;
use super::request::BodyEnd;

/// See the module. It goes with its version, and what lies on it goes with it.
pub(super) struct Shelf {
    /// Requests that one instance may serve.
    uses_max: u32,
    /// Longest time that an instance lies here.
    idle_max: Duration,
    /// Those of all guests of the engine: its pool has a slot for each besides those of the instances that run.
    places: Arc<Semaphore>,
    lane: Arc<Lane>,
    parked: Mutex<Parked>,
}

#[derive(Default)]
struct Parked {
    /// With the time that each came; the last one is at the back.
    instances: VecDeque<(Instant, Box<Kept>)>,
    /// Its version is seen out.
    is_closed: bool,
    sweeper: Option<Sweeper>,
}

/// An instance that has served a request well, on its way to the shelf or on it. Dropping it drops the instance.
pub(super) struct Kept {
    // In this order: its slot is free before its place is given to another one.
    instance: Instance,
    _place: OwnedSemaphorePermit,
    /// The body of the request that it has served.
    request_body: BodyEnd,
    shelf: Weak<Shelf>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Shelf {
    pub(super) fn new(
        uses_max: u32,
        idle_max: Duration,
        places: Arc<Semaphore>,
        lane: Arc<Lane>,
    ) -> Arc<Self> {
        Arc::new(Self {
            uses_max,
            idle_max,
            places,
            lane,
            parked: Mutex::default(),
        })
    }

    /// Keeps an instance that has served, if it may serve again and there is a place: to be called before it gives its slot
    /// among those that run back. It lies on the shelf only once it is parked.
    pub(super) fn keep(
        self: &Arc<Self>,
        mut instance: Instance,
        request_body: BodyEnd,
    ) -> Option<Box<Kept>> {
        if !instance.retire(self.uses_max) {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Box::new(Kept {
            instance,
            _place: place,
            request_body,
            shelf: Arc::downgrade(self),
        }))
    }

    /// The instance that was parked last. Whoever takes it has a slot among those that run, and gives its place free.
    pub(super) fn take(&self) -> Option<Instance> {
        let (_, kept) = self.lock().instances.pop_back()?;
        Some(kept.instance)
    }

    /// How many lie here.
    pub(super) fn len(&self) -> usize {
        self.lock().instances.len()
    }

    /// Takes none any more, and drops those that lie here.
    pub(super) fn close(&self) {
        let mut parked = self.lock();
        parked.is_closed = true;
        parked.sweeper = None;
        let instances = std::mem::take(&mut parked.instances);
        drop(parked);
        self.drop_aside(instances);
    }

    /// How many more may be kept, over all guests of the engine.
    #[cfg(test)]
    pub(super) fn places_free(&self) -> usize {
        self.places.available_permits()
    }

    fn put(self: &Arc<Self>, kept: Box<Kept>) {
        let mut parked = self.lock();
        if parked.is_closed {
            // Not under the lock: it takes its time.
            drop(parked);
            return drop(kept);
        }
        parked.instances.push_back((Instant::now(), kept));
        if parked.sweeper.as_ref().is_none_or(Sweeper::is_over) {
            parked.sweeper = Some(Sweeper::start(self));
        }
    }

    /// Drops what has lain here for too long; says when to look again, if anything is left.
    fn sweep(&self) -> Option<Instant> {
        let mut parked = self.lock();
        let now = Instant::now();
        let is_due = |(since, _): &(Instant, Box<Kept>)| *since + self.idle_max <= now;
        let due = parked.instances.iter().take_while(|it| is_due(it)).count();
        let idle: VecDeque<_> = parked.instances.drain(..due).collect();
        let next = parked.instances.front().map(|(since, _)| *since);
        if next.is_none() {
            // It ends with this look; whatever comes from here on starts another one.
            parked.sweeper = None;
        }
        drop(parked);
        self.drop_aside(idle);
        Some(next? + self.idle_max)
    }

    fn drop_aside(&self, instances: VecDeque<(Instant, Box<Kept>)>) {
        if !instances.is_empty() {
            self.lane.drop_aside(instances);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parked> {
        // Nothing panics while it holds the lock.
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Puts the instance on its shelf, if its version is there still. To be called once the answer that it has given is
    /// on its way, and its run is over.
    ///
    /// Needs a tokio runtime around it.
    pub(super) fn park(self: Box<Self>) {
        // A guest may hold its request's body still. The client's connection must not wait for that.
        self.request_body.close();
        if let Some(shelf) = self.shelf.upgrade() {
            shelf.put(self);
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.close();
    }
}

/// Looks after a shelf on which something lies. Ends when it is dropped.
struct Sweeper(AbortHandle);

impl Sweeper {
    fn start(shelf: &Arc<Shelf>) -> Self {
        let (shelf, idle_max) = (Arc::downgrade(shelf), shelf.idle_max);
        let task = tokio::spawn(async move {
            let mut next = Instant::now() + idle_max;
            loop {
                tokio::time::sleep_until(next.into()).await;
                match shelf.upgrade().and_then(|shelf| shelf.sweep()) {
                    Some(later) => next = later,
                    None => return,
                }
            }
        });
        Self(task.abort_handle())
    }

    /// Its runtime may have ended before the shelf.
    fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

//! How many instances run at once, and who may wait for one. First come, first served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::World;
use super::error::GuestFailure;
use super::runtime::PoolUsage;

/// The right to one instance slot, given back when dropped.
pub(super) type Permit = OwnedSemaphorePermit;

/// The door to one engine's pool.
#[derive(Debug)]
pub(super) struct Gate {
    slots: Arc<Semaphore>,
    limit: usize,
    waiters: AtomicUsize,
    waiters_max: usize,
    wait_max: Duration,
}

impl Gate {
    pub(super) fn new(instances_max: usize, waiters_max: usize, wait_max: Duration) -> Self {
        let limit = instances_max.clamp(1, 1 << 16);
        Self {
            slots: Arc::new(Semaphore::new(limit)),
            limit,
            waiters: AtomicUsize::new(0),
            waiters_max,
            wait_max,
        }
    }

    /// How full it is, for whoever watches.
    pub(super) fn usage(&self, world: World) -> PoolUsage {
        PoolUsage {
            world,
            in_use: self.limit - self.slots.available_permits(),
            limit: self.limit,
            waiting: self.waiters.load(Ordering::Relaxed),
        }
    }

    /// Waits for a slot, never past `deadline`.
    ///
    /// # Errors
    /// [`GuestFailure::NoInstance`] when too many wait already or the wait took too long.
    ///
    /// Cancel safety: a dropped call leaves its place in the queue.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Permit, GuestFailure> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        let _place =
            Place::take(&self.waiters, self.waiters_max).ok_or(GuestFailure::NoInstance)?;
        let until = deadline.min(Instant::now() + self.wait_max);
        match tokio::time::timeout_at(until.into(), Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(GuestFailure::NoInstance),
            Err(_elapsed) => Err(GuestFailure::NoInstance),
        }
    }
}

/// A place in the queue; counted down also when the waiting request is dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiters: &'a AtomicUsize, waiters_max: usize) -> Option<Self> {
        let place = Self(waiters);
        (waiters.fetch_add(1, Ordering::Relaxed) < waiters_max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_full_house_lets_only_so_many_wait_and_only_so_long() {
        let gate = Gate::new(1, 1, Duration::from_millis(20));
        let inside = gate.enter(soon()).await.unwrap();

        let (first, second) = tokio::join!(gate.enter(soon()), gate.enter(soon()));

        assert!(matches!(
            (first, second),
            (Err(GuestFailure::NoInstance), Err(GuestFailure::NoInstance))
        ));
        drop(inside);
        assert!(gate.enter(soon()).await.is_ok());
        assert_eq!(gate.waiters.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_slot_that_is_given_back_goes_to_who_waited() {
        let gate = Gate::new(1, 1, Duration::from_secs(5));
        let inside = gate.enter(soon()).await.unwrap();
        let (next, ()) = tokio::join!(gate.enter(soon()), async { drop(inside) });
        assert!(next.is_ok());
    }
}

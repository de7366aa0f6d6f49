//! How many instances run at once, and who may wait for one. First come, first served.
//!
//! A request passes two gates: its guest's own, then that of the engine's pool. Who waits at the first holds nothing of the
//! second, so a guest at its limit keeps no other from an instance.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::GuestFailure;
use super::settings::Limits;

/// The right to one instance slot, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _of_pool: OwnedSemaphorePermit,
    _of_guest: OwnedSemaphorePermit,
}

/// Both gates of a guest, in their order.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    guest: Arc<Gate>,
    pool: Arc<Gate>,
}

impl Gates {
    pub(super) fn new(guest: Arc<Gate>, pool: Arc<Gate>) -> Self {
        Self { guest, pool }
    }

    /// Waits for a slot, at each gate as long as it allows and never past `deadline`.
    ///
    /// # Errors
    /// As [`Gate::enter`].
    ///
    /// Cancel safety: a dropped call leaves its place in the queue.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Permit, GuestFailure> {
        let of_guest = self.guest.enter(deadline).await?;
        let of_pool = self.pool.enter(deadline).await?;
        Ok(Permit {
            _of_pool: of_pool,
            _of_guest: of_guest,
        })
    }
}

/// The guests' own gates, by name: the versions of a guest share one as long as their limits are the same.
#[derive(Debug, Default)]
pub(super) struct GuestGates(Mutex<HashMap<String, Weak<Gate>>>);

impl GuestGates {
    /// The gate of a guest with these limits.
    pub(super) fn of(&self, name: &str, limits: &Limits) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        let known = gates.get(name).and_then(Weak::upgrade);
        if let Some(gate) = known.filter(|gate| gate.is_like(limits)) {
            return gate;
        }
        let gate = Arc::new(Gate::new(
            limits.instances_max,
            limits.waiters_max,
            limits.wait_max,
        ));
        gates.insert(name.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

/// One door: so many inside, so many before it, each so long.
#[derive(Debug)]
pub(super) struct Gate {
    inside_max: usize,
    slots: Arc<Semaphore>,
    waiters: AtomicUsize,
    waiters_max: usize,
    wait_max: Duration,
}

impl Gate {
    pub(super) fn new(instances_max: usize, waiters_max: usize, wait_max: Duration) -> Self {
        let slots = Arc::new(Semaphore::new(instances_max.clamp(1, 1 << 16)));
        Self {
            inside_max: instances_max,
            slots,
            waiters: AtomicUsize::new(0),
            waiters_max,
            wait_max,
        }
    }

    /// Waits for a slot, never past `deadline`.
    ///
    /// # Errors
    /// [`GuestFailure::NoInstance`] when too many wait already or the wait took too long.
    ///
    /// Cancel safety: a dropped call leaves its place in the queue.
    pub(super) async fn enter(
        &self,
        deadline: Instant,
    ) -> Result<OwnedSemaphorePermit, GuestFailure> {
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

    fn is_like(&self, limits: &Limits) -> bool {
        self.inside_max == limits.instances_max
            && self.waiters_max == limits.waiters_max
            && self.wait_max == limits.wait_max
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

    #[tokio::test]
    async fn who_comes_first_is_let_in_first() {
        let gate = Arc::new(Gate::new(1, 8, Duration::from_secs(5)));
        let inside = gate.enter(soon()).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |number: usize| {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            async move {
                let _permit = gate.enter(soon()).await.unwrap();
                order.lock().unwrap().push(number);
            }
        };
        tokio::join!(wait(0), wait(1), wait(2), wait(3), async { drop(inside) });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn who_waits_at_its_own_gate_holds_nothing_of_the_pool() {
        let pool = Arc::new(Gate::new(2, 0, Duration::from_secs(5)));
        let own = || Arc::new(Gate::new(1, 8, Duration::from_millis(20)));
        let (greedy, other) = (
            Gates::new(own(), Arc::clone(&pool)),
            Gates::new(own(), Arc::clone(&pool)),
        );
        let _inside = greedy.enter(soon()).await.unwrap();
        let (refused, let_in) = tokio::join!(greedy.enter(soon()), other.enter(soon()));
        assert_eq!(refused.unwrap_err(), GuestFailure::NoInstance);
        assert!(let_in.is_ok());
    }

    #[test]
    fn versions_of_a_guest_share_a_gate_until_its_limits_change() {
        let gates = GuestGates::default();
        let limits = Limits::default();
        let first = gates.of("a", &limits);
        assert!(Arc::ptr_eq(&first, &gates.of("a", &limits)));
        assert!(!Arc::ptr_eq(&first, &gates.of("b", &limits)));
        let fewer = Limits {
            instances_max: 1,
            ..limits
        };
        assert!(!Arc::ptr_eq(&first, &gates.of("a", &fewer)));
    }
}

//! Limits how many instances run at once, and which requests may wait for one. Clients take turns.
//!
//! A request passes two concurrency limits: its guest's own, then that of the engine's pool. A request that waits at the first limit holds
//! no slot of the second one, so a guest at its limit keeps no other guest from an instance.

mod clients;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::error::GuestFailure;
use crate::engine::fair_queue::{FairQueue, QueueSlot};
use crate::settings::GuestLimits;
use clients::WaitingClients;
use cloakroom_base::limits::CLIENT_LOOK_INTERVAL;
use cloakroom_base::quota::{ClientConnection, Reservation};
use parking_lot::Mutex;

pub(crate) use clients::RunClient;

/// A permit for one instance slot, released when dropped.
#[derive(Debug)]
pub(crate) struct InstancePermit {
    _of_pool: QueueSlot,
    _of_guest: QueueSlot,
}

/// Both concurrency limits of a guest, in the order in which they apply.
#[derive(Clone, Debug)]
pub(crate) struct ConcurrencyLimits {
    guest: Arc<ConcurrencyLimit>,
    pool: Arc<ConcurrencyLimit>,
}

impl ConcurrencyLimits {
    pub(crate) fn new(guest: Arc<ConcurrencyLimit>, pool: Arc<ConcurrencyLimit>) -> Self {
        Self { guest, pool }
    }

    /// Returns the usage of the guest's own limit.
    pub(crate) fn usage(&self) -> LimitUsage {
        self.guest.usage()
    }

    /// Waits for a slot, at each limit for at most that limit's maximum wait, and never past `deadline`. While it waits, the reservation
    /// that the request holds for being in flight (`place`) may be revoked.
    ///
    /// # Errors
    /// As [`ConcurrencyLimit::enter`], and also if the reservation was revoked.
    ///
    /// Cancel safety: a dropped call leaves the queue.
    pub(crate) async fn enter(
        &self,
        deadline: Option<Instant>,
        place: Option<&Reservation>,
    ) -> Result<InstancePermit, GuestFailure> {
        if let Some(of_guest) = self.guest.try_enter()
            && let Some(of_pool) = self.pool.try_enter()
        {
            return Ok(InstancePermit {
                _of_pool: of_pool,
                _of_guest: of_guest,
            });
        }
        let Some(place) = place else {
            return self.queue(deadline, ClientConnection::default()).await;
        };
        let queue = self.queue(deadline, place.peer().source());
        let permit = place.queued(queue).await;
        permit.unwrap_or(Err(GuestFailure::NoInstance))
    }

    async fn queue(
        &self,
        deadline: Option<Instant>,
        source: ClientConnection,
    ) -> Result<InstancePermit, GuestFailure> {
        let of_guest = self.guest.enter(deadline, source).await?;
        let of_pool = self.pool.enter(deadline, source).await?;
        Ok(InstancePermit {
            _of_pool: of_pool,
            _of_guest: of_guest,
        })
    }
}

/// The guests' own concurrency limits, by name. The versions of a guest share one as long as their settings are equal.
#[derive(Debug, Default)]
pub(crate) struct GuestConcurrencyLimits(Mutex<HashMap<String, Weak<ConcurrencyLimit>>>);

impl GuestConcurrencyLimits {
    /// Returns the concurrency limit of a guest with these settings.
    pub(crate) fn of(&self, name: &str, limits: &GuestLimits) -> Arc<ConcurrencyLimit> {
        let mut gates = self.0.lock();
        gates.retain(|_, gate| gate.strong_count() > 0);
        let known = gates.get(name).and_then(Weak::upgrade);
        if let Some(gate) = known.filter(|gate| gate.is_like(limits)) {
            return gate;
        }
        let gate = Arc::new(ConcurrencyLimit::new(
            limits.instances_max,
            limits.waiters_max,
            limits.wait_max,
        ));
        gates.insert(name.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

/// The usage of a concurrency limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitUsage {
    /// Instances that run.
    pub inside: usize,
    /// Instances that may run at once.
    pub inside_max: usize,
    /// Runs that wait for a slot.
    pub waiting: usize,
}

/// A limit on the instances that run at once, with a bounded queue and a bounded wait.
#[derive(Debug)]
pub(crate) struct ConcurrencyLimit {
    inside_max: usize,
    waiters_max: usize,
    wait_max: Duration,
    queue: Arc<FairQueue>,
    clients: WaitingClients,
}

impl ConcurrencyLimit {
    pub(crate) fn new(instances_max: usize, waiters_max: usize, wait_max: Duration) -> Self {
        Self {
            inside_max: instances_max,
            waiters_max,
            wait_max,
            queue: FairQueue::new(instances_max.max(1), waiters_max),
            clients: WaitingClients::default(),
        }
    }

    /// Returns the usage of this limit.
    pub(crate) fn usage(&self) -> LimitUsage {
        let (free, waiting) = self.queue.usage();
        LimitUsage {
            inside: self.inside_max.saturating_sub(free),
            inside_max: self.inside_max,
            waiting,
        }
    }

    /// Waits for a slot, never past `deadline`.
    ///
    /// # Errors
    /// [`GuestFailure::NoInstance`] if too many requests wait already, if the wait took too long, or if the request of another client took
    /// the place in the full queue.
    ///
    /// Cancel safety: a dropped call leaves the queue.
    pub(crate) async fn enter(
        &self,
        deadline: Option<Instant>,
        source: ClientConnection,
    ) -> Result<QueueSlot, GuestFailure> {
        if let Some(slot) = self.try_enter() {
            return Ok(slot);
        }
        let full = |_| GuestFailure::NoInstance;
        let mut waiter = self.queue.join(source, ()).map_err(full)?;
        let queue_ends = Instant::now() + self.wait_max;
        let until = deadline.map_or(queue_ends, |deadline| deadline.min(queue_ends));
        loop {
            let (_, queued) = self.queue.usage();
            self.clients.make_room(self.inside_max, queued);
            let look = until.min(Instant::now() + CLIENT_LOOK_INTERVAL);
            match tokio::time::timeout_at(look.into(), waiter.admitted()).await {
                Ok(slot) => return slot.ok_or(GuestFailure::NoInstance),
                Err(_elapsed) if Instant::now() >= until => return Err(GuestFailure::NoInstance),
                Err(_elapsed) => {}
            }
        }
    }

    /// Returns a slot if one is free and no request waits for it.
    fn try_enter(&self) -> Option<QueueSlot> {
        self.queue.try_enter()
    }

    fn is_like(&self, limits: &GuestLimits) -> bool {
        self.inside_max == limits.instances_max
            && self.waiters_max == limits.waiters_max
            && self.wait_max == limits.wait_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(60))
    }

    #[tokio::test]
    async fn a_full_house_lets_only_so_many_wait_and_only_so_long() {
        let gate = ConcurrencyLimit::new(1, 1, Duration::from_millis(20));
        let inside = gate
            .enter(soon(), ClientConnection::default())
            .await
            .unwrap();

        let (first, second) = tokio::join!(
            gate.enter(soon(), ClientConnection::default()),
            gate.enter(soon(), ClientConnection::default())
        );

        assert!(matches!(
            (first, second),
            (Err(GuestFailure::NoInstance), Err(GuestFailure::NoInstance))
        ));
        drop(inside);
        assert!(
            gate.enter(soon(), ClientConnection::default())
                .await
                .is_ok()
        );
        assert_eq!(gate.usage().waiting, 0);
    }

    #[tokio::test]
    async fn a_slot_that_is_given_back_goes_to_who_waited() {
        let gate = ConcurrencyLimit::new(1, 1, Duration::from_secs(5));
        let inside = gate
            .enter(soon(), ClientConnection::default())
            .await
            .unwrap();
        let (next, ()) = tokio::join!(gate.enter(soon(), ClientConnection::default()), async {
            drop(inside)
        });
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn who_comes_first_is_let_in_first() {
        let gate = Arc::new(ConcurrencyLimit::new(1, 8, Duration::from_secs(5)));
        let inside = gate
            .enter(soon(), ClientConnection::default())
            .await
            .unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |number: usize| {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            async move {
                let _permit = gate
                    .enter(soon(), ClientConnection::default())
                    .await
                    .unwrap();
                order.lock().push(number);
            }
        };
        tokio::join!(wait(0), wait(1), wait(2), wait(3), async { drop(inside) });
        assert_eq!(*order.lock(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn who_waits_at_its_own_gate_holds_nothing_of_the_pool() {
        let pool = Arc::new(ConcurrencyLimit::new(2, 0, Duration::from_secs(5)));
        let own = || Arc::new(ConcurrencyLimit::new(1, 8, Duration::from_millis(20)));
        let (greedy, other) = (
            ConcurrencyLimits::new(own(), Arc::clone(&pool)),
            ConcurrencyLimits::new(own(), Arc::clone(&pool)),
        );
        let _inside = greedy.enter(soon(), None).await.unwrap();
        let (refused, let_in) = tokio::join!(greedy.enter(soon(), None), other.enter(soon(), None));
        assert_eq!(refused.unwrap_err(), GuestFailure::NoInstance);
        assert!(let_in.is_ok());
    }

    #[test]
    fn versions_of_a_guest_share_a_gate_until_its_limits_change() {
        let gates = GuestConcurrencyLimits::default();
        let limits = GuestLimits::default();
        let first = gates.of("a", &limits);
        assert!(Arc::ptr_eq(&first, &gates.of("a", &limits)));
        assert!(!Arc::ptr_eq(&first, &gates.of("b", &limits)));
        let fewer = GuestLimits {
            instances_max: 1,
            ..limits
        };
        assert!(!Arc::ptr_eq(&first, &gates.of("a", &fewer)));
    }
}

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
    /// that the request holds for being in flight (`reservation`) may be revoked.
    ///
    /// # Errors
    /// As [`ConcurrencyLimit::enter`], and also if the reservation was revoked.
    ///
    /// Cancel safety: a dropped call leaves the queue.
    pub(crate) async fn enter(
        &self,
        deadline: Option<Instant>,
        reservation: Option<&Reservation>,
    ) -> Result<InstancePermit, GuestFailure> {
        if let Some(of_guest) = self.guest.try_enter()
            && let Some(of_pool) = self.pool.try_enter()
        {
            return Ok(InstancePermit {
                _of_pool: of_pool,
                _of_guest: of_guest,
            });
        }
        let Some(reservation) = reservation else {
            return self.queue(deadline, ClientConnection::default()).await;
        };
        let queue = self.queue(deadline, reservation.peer().source());
        let permit = reservation.queued(queue).await;
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
        let mut by_name = self.0.lock();
        by_name.retain(|_, limit| limit.strong_count() > 0);
        let known = by_name.get(name).and_then(Weak::upgrade);
        if let Some(limit) = known.filter(|limit| limit.is_like(limits)) {
            return limit;
        }
        let limit = Arc::new(ConcurrencyLimit::new(
            limits.instances_max,
            limits.waiters_max,
            limits.wait_max,
        ));
        by_name.insert(name.to_owned(), Arc::downgrade(&limit));
        limit
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
        let queue_until = Instant::now() + self.wait_max;
        let until = deadline.map_or(queue_until, |deadline| deadline.min(queue_until));
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
    async fn a_full_concurrency_limit_bounds_its_waiters_and_their_wait() {
        let limit = ConcurrencyLimit::new(1, 1, Duration::from_millis(20));
        let inside = limit
            .enter(soon(), ClientConnection::default())
            .await
            .unwrap();

        let (first, second) = tokio::join!(
            limit.enter(soon(), ClientConnection::default()),
            limit.enter(soon(), ClientConnection::default())
        );

        assert!(matches!(
            (first, second),
            (Err(GuestFailure::NoInstance), Err(GuestFailure::NoInstance))
        ));
        drop(inside);
        assert!(
            limit
                .enter(soon(), ClientConnection::default())
                .await
                .is_ok()
        );
        assert_eq!(limit.usage().waiting, 0);
    }

    #[tokio::test]
    async fn a_released_slot_goes_to_a_waiting_request() {
        let limit = ConcurrencyLimit::new(1, 1, Duration::from_secs(5));
        let inside = limit
            .enter(soon(), ClientConnection::default())
            .await
            .unwrap();
        let (next, ()) = tokio::join!(limit.enter(soon(), ClientConnection::default()), async {
            drop(inside)
        });
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn waiting_requests_are_admitted_in_order_of_arrival() {
        let limit = Arc::new(ConcurrencyLimit::new(1, 8, Duration::from_secs(5)));
        let inside = limit
            .enter(soon(), ClientConnection::default())
            .await
            .unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |number: usize| {
            let (limit, order) = (Arc::clone(&limit), Arc::clone(&order));
            async move {
                let _permit = limit
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
    async fn a_request_that_waits_at_its_guests_limit_holds_no_slot_of_the_engine() {
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
    fn versions_of_a_guest_share_a_concurrency_limit_until_its_limits_change() {
        let by_name = GuestConcurrencyLimits::default();
        let limits = GuestLimits::default();
        let first = by_name.of("a", &limits);
        assert!(Arc::ptr_eq(&first, &by_name.of("a", &limits)));
        assert!(!Arc::ptr_eq(&first, &by_name.of("b", &limits)));
        let fewer = GuestLimits {
            instances_max: 1,
            ..limits
        };
        assert!(!Arc::ptr_eq(&first, &by_name.of("a", &fewer)));
    }
}

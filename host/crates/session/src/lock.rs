//! Session locks. When requests of one session contend, they proceed one at a time. This module knows sessions only by
//! their ids. It also keeps, for each session, the queue in which waiting requests offer their changes for folding.
//!
//! A session has a lock only while a request holds it or waits for it. While there are no locks, a check costs one atomic load.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fold::FoldQueue;
use crate::record::SessionId;
use cloakroom_base::quota::Reservation;

/// The locks of one manager's sessions.
#[derive(Debug)]
pub(crate) struct SessionLocks {
    waiters_max: usize,
    /// The number of sessions that have a lock. Advisory: a reader that sees a stale value proceeds optimistically, which is always safe.
    contended: AtomicUsize,
    by_id: Mutex<HashMap<SessionId, SessionLock>>,
}

#[derive(Debug)]
struct SessionLock {
    /// One permit, granted in order of arrival.
    semaphore: Arc<Semaphore>,
    /// The number of requests that hold the lock or wait for it.
    users: usize,
    fold_queue: Arc<FoldQueue>,
}

/// The session lock could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockUnavailable;

impl SessionLocks {
    pub(crate) fn new(waiters_max: usize) -> Arc<Self> {
        Arc::new(Self {
            waiters_max,
            contended: AtomicUsize::new(0),
            by_id: Mutex::new(HashMap::new()),
        })
    }

    /// Returns whether a request holds the session lock or waits for it.
    pub(crate) fn is_contended(&self, id: &SessionId) -> bool {
        self.contended.load(Ordering::Relaxed) > 0 && self.by_id.lock().contains_key(id)
    }

    /// Waits for the session lock in order of arrival. While the request waits, its reservation `reservation` may be revoked.
    ///
    /// Cancel safety: a dropped call leaves the queue.
    ///
    /// # Errors
    /// Fails when too many requests wait already, the deadline passes first, or `reservation` was revoked.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        id: &SessionId,
        deadline: Instant,
        reservation: Option<Reservation>,
    ) -> Result<SessionLockGuard, LockUnavailable> {
        self.enter_queue(id)?.wait(deadline, reservation).await
    }

    /// Reserves a position in the session's queue. The order is determined when the position first waits for the lock.
    ///
    /// # Errors
    /// Fails when too many requests wait already.
    pub(crate) fn enter_queue(
        self: &Arc<Self>,
        id: &SessionId,
    ) -> Result<QueuePosition, LockUnavailable> {
        let mut by_id = self.by_id.lock();
        if by_id
            .get(id)
            .is_some_and(|lock| lock.users > self.waiters_max)
        {
            return Err(LockUnavailable);
        }
        let lock = by_id.entry(id.clone()).or_insert_with(|| {
            self.contended.fetch_add(1, Ordering::Relaxed);
            SessionLock {
                semaphore: Arc::new(Semaphore::new(1)),
                users: 0,
                fold_queue: Arc::default(),
            }
        });
        lock.users += 1;
        Ok(QueuePosition {
            locks: Arc::clone(self),
            id: id.clone(),
            semaphore: Arc::clone(&lock.semaphore),
            fold_queue: Arc::clone(&lock.fold_queue),
        })
    }

    #[cfg(test)]
    pub(crate) fn contended(&self) -> usize {
        self.contended.load(Ordering::Relaxed)
    }
}

/// The right to change a session before other requests of this process do. Released when dropped.
#[derive(Debug)]
pub(crate) struct SessionLockGuard {
    // The field order matters: dropping the permit wakes the next request before the position is given up, so the session keeps one lock.
    _permit: OwnedSemaphorePermit,
    position: QueuePosition,
}

impl SessionLockGuard {
    /// Returns the queue of waiting requests whose changes can be folded into a commit, if the lock is the one of session `id`.
    pub(crate) fn fold_queue_of(&self, id: &SessionId) -> Option<&Arc<FoldQueue>> {
        (self.position.id == *id).then_some(&self.position.fold_queue)
    }
}

/// A position in a session's queue. Given up when dropped.
#[derive(Debug)]
pub(crate) struct QueuePosition {
    locks: Arc<SessionLocks>,
    id: SessionId,
    semaphore: Arc<Semaphore>,
    fold_queue: Arc<FoldQueue>,
}

impl QueuePosition {
    /// Returns the queue of waiting requests whose changes can be folded into the holder's commit.
    pub(crate) fn fold_queue(&self) -> &Arc<FoldQueue> {
        &self.fold_queue
    }

    /// Waits for the session lock in order of arrival. While the request waits, its reservation `reservation` may be revoked.
    ///
    /// Cancel safety: a dropped call leaves the queue.
    ///
    /// # Errors
    /// Fails when the deadline passes first, or `reservation` was revoked.
    pub(crate) async fn wait(
        self,
        deadline: Instant,
        reservation: Option<Reservation>,
    ) -> Result<SessionLockGuard, LockUnavailable> {
        let permit = Arc::clone(&self.semaphore).acquire_owned();
        let permit = tokio::time::timeout_at(deadline.into(), permit);
        let permit = match reservation {
            Some(reservation) => reservation
                .queued(permit)
                .await
                .map_err(|_| LockUnavailable)?,
            None => permit.await,
        };
        let permit = permit
            .map_err(|_| LockUnavailable)?
            .map_err(|_| LockUnavailable)?;
        Ok(SessionLockGuard {
            _permit: permit,
            position: self,
        })
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        let mut by_id = self.locks.by_id.lock();
        if let Some(lock) = by_id.get_mut(&self.id) {
            lock.users -= 1;
            if lock.users == 0 {
                by_id.remove(&self.id);
                self.locks.contended.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn the_lock_is_granted_in_order_of_arrival() {
        let locks = SessionLocks::new(8);
        let id = SessionId::generate();
        let held = locks.acquire(&id, soon(), None).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for n in 0..4 {
            let (locks, id, order) = (Arc::clone(&locks), id.clone(), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let _held = locks.acquire(&id, soon(), None).await.unwrap();
                order.lock().push(n);
            }));
            tokio::task::yield_now().await;
        }

        drop(held);
        for task in waiting {
            task.await.unwrap();
        }

        assert_eq!(*order.lock(), [0, 1, 2, 3]);
        assert_eq!(locks.contended(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_the_next_request() {
        let locks = SessionLocks::new(1);
        let id = SessionId::generate();
        let held = locks.acquire(&id, soon(), None).await.unwrap();
        let mut second = Box::pin(locks.acquire(&id, soon(), None));
        assert!(futures_util::poll!(&mut second).is_pending());

        assert_eq!(
            locks.acquire(&id, soon(), None).await.unwrap_err(),
            LockUnavailable
        );

        drop(held);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_ends_at_the_deadline_and_leaves_nothing_behind() {
        let locks = SessionLocks::new(8);
        let id = SessionId::generate();
        let held = locks.acquire(&id, soon(), None).await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(1);
        assert_eq!(
            locks.acquire(&id, deadline, None).await.unwrap_err(),
            LockUnavailable
        );
        assert!(locks.is_contended(&id));
        drop(held);
        assert!(!locks.is_contended(&id));
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_the_queue() {
        let locks = SessionLocks::new(8);
        let id = SessionId::generate();
        let held = locks.acquire(&id, soon(), None).await.unwrap();
        let mut waiting = Box::pin(locks.acquire(&id, soon(), None));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        drop(held);
        assert_eq!(locks.contended(), 0);
    }
}

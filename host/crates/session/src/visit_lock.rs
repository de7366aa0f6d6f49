//! The session lock of a visit: kept from the visit's first conflict to its release, over all its runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fold::FoldQueue;
use crate::lock::{LockUnavailable, SessionLockGuard, SessionLocks};
use crate::outcome::TransactionRefusal;
use crate::record::SessionId;
use crate::settle::jittered;
use cloakroom_base::quota::Reservation;

/// A visit's hold on the session lock, if it has one, and its conflicts so far.
#[derive(Debug, Default)]
pub(crate) struct VisitLock {
    guard: Option<SessionLockGuard>,
    /// Conflicts so far. The first may have been with a request of this process. Once the session lock is held, conflicts
    /// are with other processes.
    conflicts: u32,
}

/// The smallest and the largest wait between tries.
const WAITS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

impl VisitLock {
    pub(crate) fn is_taken(&self) -> bool {
        self.guard.is_some()
    }

    /// Waits for the session lock, unless it is already held.
    ///
    /// # Errors
    /// Fails when the queue is full, the deadline passes, or the reservation `reservation` is revoked.
    pub(crate) async fn acquire(
        &mut self,
        locks: &Arc<SessionLocks>,
        id: &SessionId,
        deadline: Instant,
        reservation: Option<Reservation>,
    ) -> Result<(), LockUnavailable> {
        if self.guard.is_none() {
            self.guard = Some(locks.acquire(id, deadline, reservation).await?);
        }
        Ok(())
    }

    /// Returns the queue of requests that wait for the held lock, if it is the lock of session `id`. A visit whose session
    /// was gone keeps the old session's lock and writes another session.
    pub(crate) fn fold_queue_of(&self, id: &SessionId) -> Option<&Arc<FoldQueue>> {
        self.guard
            .as_ref()
            .and_then(|guard| guard.fold_queue_of(id))
    }

    /// Keeps the lock that was waited for.
    pub(crate) fn hold(&mut self, guard: SessionLockGuard) {
        self.guard = Some(guard);
    }

    /// Counts a commit that came first before the session lock was held.
    pub(crate) fn note_conflict(&mut self) {
        self.conflicts += 1;
    }

    /// Counts a conflict with another process. The first `eager_max` conflicts return at once. Later ones return after a
    /// growing wait with jitter, since two processes that retry in step would disturb each other forever.
    ///
    /// # Errors
    /// Fails when the deadline passes.
    pub(crate) async fn back_off(
        &mut self,
        eager_max: u32,
        deadline: Instant,
    ) -> Result<(), LockUnavailable> {
        self.note_conflict();
        let patient = self.conflicts.saturating_sub(eager_max);
        if patient > 0 {
            let wait = (WAITS.0 * 2u32.saturating_pow(patient.min(16))).min(WAITS.1);
            let until = Instant::now() + jittered(wait);
            tokio::time::sleep_until(until.min(deadline).into()).await;
        }
        if Instant::now() >= deadline {
            return Err(LockUnavailable);
        }
        Ok(())
    }
}

impl From<LockUnavailable> for TransactionRefusal {
    fn from(_: LockUnavailable) -> Self {
        Self::Busy
    }
}

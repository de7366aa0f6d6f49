//! A visit's turn among the requests of its session: kept from its first conflict to its release, over all its runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::quota::Reservation;
use crate::record::SessionId;
use crate::session::fold::Riders;
use crate::session::manager::SessionManager;
use crate::session::settle::jittered;
use crate::session::slot::{NoTurn, SlotGuard};

/// See the module.
#[derive(Debug, Default)]
pub(in crate::session) struct Turn {
    slot: Option<SlotGuard>,
    /// Conflicts met so far. The first may have been with a request of this process; with the slot in hand they are with
    /// others.
    conflicts: u32,
}

/// Waits between tries grow from the first to the second of these.
const WAITS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

impl Turn {
    pub(in crate::session) fn is_taken(&self) -> bool {
        self.slot.is_some()
    }

    /// Waits for the session's slot.
    ///
    /// # Errors
    /// When the queue is full, the deadline passes, or the request lost its `place` among those under way.
    pub(in crate::session) async fn take(
        &mut self,
        manager: &Arc<SessionManager>,
        id: &SessionId,
        deadline: Instant,
        place: Option<Reservation>,
    ) -> Result<(), NoTurn> {
        if self.slot.is_none() {
            self.slot = Some(manager.slots.acquire(id, deadline, place).await?);
        }
        Ok(())
    }

    /// Those who wait for the slot that is in hand, if it is this session's: a visit whose session was gone keeps the old one's
    /// turn and writes another session.
    pub(super) fn riders_of(&self, id: &SessionId) -> Option<&Arc<Riders>> {
        self.slot.as_ref().and_then(|slot| slot.riders_of(id))
    }

    /// Keeps the slot that was waited for.
    pub(super) fn hold(&mut self, slot: SlotGuard) {
        self.slot = Some(slot);
    }

    /// Another commit came first, before the slot was in hand.
    pub(super) fn note_conflict(&mut self) {
        self.conflicts += 1;
    }

    /// Another process came first. The first few times that is answered at once, then after a wait that grows: two processes
    /// that go on in step would disturb each other for ever.
    ///
    /// # Errors
    /// When the deadline passes.
    pub(super) async fn wait_for_others(
        &mut self,
        eager_max: u32,
        deadline: Instant,
    ) -> Result<(), NoTurn> {
        self.note_conflict();
        let patient = self.conflicts.saturating_sub(eager_max);
        if patient > 0 {
            let wait = (WAITS.0 * 2u32.saturating_pow(patient.min(16))).min(WAITS.1);
            let until = Instant::now() + jittered(wait);
            tokio::time::sleep_until(until.min(deadline).into()).await;
        }
        if Instant::now() >= deadline {
            return Err(NoTurn);
        }
        Ok(())
    }
}

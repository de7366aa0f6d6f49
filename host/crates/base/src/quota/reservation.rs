//! A reservation: the amount it holds, what it waits for, and how its owner learns that it was revoked.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;

use super::{QuotaFull, QuotaPeer, QuotaResource, Quotas};

/// The reservation was revoked because another peer needed the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reservation was revoked")]
pub struct Revoked;

/// When a reservation may be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocablePhase {
    /// The host works for it. It is never revoked.
    Working,
    /// It waits for an instance or for its session's lock. It may be revoked for another peer with a smaller usage, or for
    /// another connection of its own peer that has fewer reservations than its connection.
    Queued,
    /// It waits for its client, which sends or takes nothing. It may be revoked for any peer, including its own.
    WaitsForClient,
    /// It may be revoked while the request that it belongs to is queued, see [`Reservation::part_of`]. The request's
    /// reservation is revoked as well.
    AsRequest,
}

/// An amount of one resource. It is returned when the last clone is dropped.
#[derive(Clone)]
pub struct Reservation(pub(crate) Arc<ReservationShared>);

/// The state that the clones of a reservation share.
pub(crate) struct ReservationShared {
    peer: QuotaPeer,
    resource: QuotaResource,
    /// The slot in the peer's table.
    slot: usize,
    /// [`WORKING`], [`REVOKED`], [`AS_REQUEST`], or the start of its wait: milliseconds, a sequence number, and a bit that
    /// is set if it waits in a queue.
    waiting: AtomicU64,
    /// The reservation of the request that it belongs to.
    request: OnceLock<Weak<ReservationShared>>,
    amount: AtomicU64,
    waker: AtomicWaker,
}

const WORKING: u64 = 0;
const AS_REQUEST: u64 = 2;
const REVOKED: u64 = u64::MAX;

/// The number of bits below the milliseconds.
const SEQUENCE_BITS: u32 = 24;

/// Returns whether a reservation with this `waiting` value waits in a queue.
pub(crate) fn is_queued(waiting: u64) -> bool {
    waiting & 1 == 1
}

impl Quotas {
    /// Returns the milliseconds from the start of the quotas to `now`, plus 1, so that the result is never 0.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or_default() + 1
    }

    /// Returns the `waiting` value of a reservation that begins to wait now. Later waits have larger values, within the
    /// limits of the sequence number, which wraps around after millions.
    fn waiting_since_now(&self, is_queued: bool) -> u64 {
        let number = self.sequence.fetch_add(1, Relaxed) << 1 & ((1 << SEQUENCE_BITS) - 1);
        self.millis(Instant::now()) << SEQUENCE_BITS | number | u64::from(is_queued)
    }
}

/// A request for room.
#[derive(Clone, Copy)]
pub(crate) struct RoomRequest<'a> {
    pub(crate) peer: &'a QuotaPeer,
    /// The reservation that is to grow.
    pub(crate) itself: Option<&'a ReservationShared>,
}

impl ReservationShared {
    pub(crate) fn new(
        peer: QuotaPeer,
        resource: QuotaResource,
        amount: u64,
        slot: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            resource,
            slot,
            waiting: AtomicU64::new(WORKING),
            request: OnceLock::new(),
            amount: AtomicU64::new(amount),
            waker: AtomicWaker::new(),
        })
    }

    /// Returns its `waiting` value, if it waits and holds any amount.
    pub(crate) fn waiting(&self) -> Option<u64> {
        if self.amount.load(Relaxed) == 0 {
            return None;
        }
        match self.waiting.load(Relaxed) {
            WORKING | REVOKED => None,
            AS_REQUEST => {
                let waiting = self.leader()?.waiting.load(Relaxed);
                (waiting != REVOKED && is_queued(waiting)).then_some(waiting)
            }
            waiting => Some(waiting),
        }
    }

    /// Returns whether its client has left it untouched since before `before`, in the milliseconds of [`Quotas::millis`].
    pub(crate) fn is_stalled(&self, before: u64) -> bool {
        let is_old = |waiting: u64| !is_queued(waiting) && waiting >> SEQUENCE_BITS <= before;
        self.waiting().is_some_and(is_old)
    }

    fn leader(&self) -> Option<Arc<Self>> {
        self.request.get().and_then(Weak::upgrade)
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.waiting.load(SeqCst) == REVOKED
    }

    /// Returns the number of the connection that it is held for.
    pub(crate) fn connection(&self) -> u64 {
        self.peer.source.connection
    }

    /// Returns the number of the request that it is held for; 0 for none.
    pub(crate) fn request(&self) -> u64 {
        self.peer.request
    }

    /// Revokes it if `waiting` is still its value, and returns the amount that this has freed.
    pub(crate) fn revoke(&self, waiting: u64) -> Option<u64> {
        if self.waiting.load(Relaxed) != AS_REQUEST {
            return self.end(waiting);
        }
        // Either the request is revoked before it leaves its queue, or it keeps this reservation.
        self.leader()?.end(waiting)?;
        Some(self.end(AS_REQUEST).unwrap_or(0))
    }

    fn end(&self, waiting: u64) -> Option<u64> {
        self.waiting
            .compare_exchange(waiting, REVOKED, SeqCst, Relaxed)
            .ok()?;
        let freed = self.give_all_back();
        let total = self.peer.quotas.total(self.resource);
        total.revoked.fetch_add(1, Relaxed);
        self.count_change();
        self.waker.wake();
        Some(freed)
    }

    /// Each unit is returned exactly once, even if several callers compete for it.
    fn give_all_back(&self) -> u64 {
        let amount = self.amount.swap(0, SeqCst);
        self.give_back(amount);
        amount
    }

    fn give_back(&self, amount: u64) {
        let quotas = &self.peer.quotas;
        quotas.give_back(self.resource, &self.peer.usage, amount);
    }

    /// Notes that a search that found nothing before may find something now.
    fn count_change(&self) {
        let total = self.peer.quotas.total(self.resource);
        total.changes.fetch_add(1, Release);
    }
}

impl Drop for ReservationShared {
    fn drop(&mut self) {
        self.peer.usage.entries[self.resource as usize]
            .lock()
            .remove(self.slot);
        self.give_all_back();
        self.count_change();
    }
}

impl Reservation {
    /// Sets what it waits for, if anything. A waiting reservation may be revoked. The one that began to wait first is
    /// revoked first, and each call begins a new wait.
    ///
    /// # Errors
    /// [`Revoked`] if it was revoked before.
    pub fn set_phase(&self, phase: RevocablePhase) -> Result<(), Revoked> {
        let peer = &self.0.peer;
        let waiting = match phase {
            _ if peer.is_exempt() => WORKING,
            RevocablePhase::Working => WORKING,
            RevocablePhase::Queued => peer.quotas.waiting_since_now(true),
            RevocablePhase::WaitsForClient => peer.quotas.waiting_since_now(false),
            RevocablePhase::AsRequest => AS_REQUEST,
        };
        // A search that has found it waiting either revokes it before this change, or notices the change.
        let set = |current| (current != REVOKED).then_some(waiting);
        let set = self.0.waiting.fetch_update(SeqCst, Relaxed, set);
        if waiting != WORKING {
            self.0.count_change();
        }
        set.map(|_before| ()).map_err(|_revoked| Revoked)
    }

    /// Sets the request that it belongs to. Only the first call has an effect.
    pub fn part_of(&self, request: &Self) {
        let _ = self.0.request.set(Arc::downgrade(&request.0));
    }

    /// Reserves more. Neither this reservation nor another one of its request is revoked for that.
    ///
    /// # Errors
    /// [`QuotaFull`], also when it was revoked.
    pub fn grow(&self, more: u64) -> Result<(), QuotaFull> {
        let held = &*self.0;
        let quotas = &held.peer.quotas;
        let room_request = RoomRequest {
            peer: &held.peer,
            itself: Some(held),
        };
        quotas
            .reserve(held.resource, room_request, more)
            .inspect_err(|QuotaFull| quotas.note_refusal(held.resource))?;
        self.grown(more)
    }

    /// Reserves more if there is room. No other reservation is revoked for that.
    ///
    /// # Errors
    /// [`QuotaFull`], also when it was revoked.
    pub fn try_grow(&self, more: u64) -> Result<(), QuotaFull> {
        let held = &*self.0;
        held.peer
            .quotas
            .try_reserve(held.resource, &held.peer, more)?;
        self.grown(more)
    }

    fn grown(&self, more: u64) -> Result<(), QuotaFull> {
        let held = &*self.0;
        held.amount.fetch_add(more, SeqCst);
        // Either this check sees the revocation, or the revocation takes the amount that was just added.
        if self.is_revoked() {
            held.give_all_back();
            return Err(QuotaFull);
        }
        Ok(())
    }

    /// Returns a part of its amount, at most all of it.
    pub fn shrink(&self, less: u64) {
        let take = |amount: u64| Some(amount - less.min(amount));
        let before = self.0.amount.fetch_update(SeqCst, Relaxed, take);
        let before = before.unwrap_or_else(|unchanged| unchanged);
        self.0.give_back(less.min(before));
    }

    /// Moves at most `most` of its amount to another reservation of the same peer and resource. Returns the moved amount.
    pub fn move_to(&self, other: &Self, most: u64) -> u64 {
        let (from, to) = (&*self.0, &*other.0);
        if from.resource != to.resource || !Arc::ptr_eq(&from.peer.usage, &to.peer.usage) {
            return 0;
        }
        let take = |amount: u64| Some(amount - most.min(amount));
        let before = from.amount.fetch_update(SeqCst, Relaxed, take);
        let moved = most.min(before.unwrap_or_else(|unchanged| unchanged));
        let _ = other.grown(moved);
        moved
    }

    /// Returns the amount that it holds; 0 once it was revoked.
    pub fn amount(&self) -> u64 {
        self.0.amount.load(Relaxed)
    }

    /// Returns whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.0.is_revoked()
    }

    /// Returns whether it waits and may therefore be revoked.
    pub fn waits(&self) -> bool {
        self.0.waiting().is_some()
    }

    /// Revokes it. Its owner must cut the work that it was held for. Returns false if it was revoked before.
    pub fn revoke(&self) -> bool {
        let waiting = self.0.waiting.load(Relaxed);
        waiting != REVOKED && (self.0.end(waiting).is_some() || self.revoke())
    }

    /// Ready once it was revoked. Only the task that polled last is woken.
    pub fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.is_revoked() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits until it is revoked. Cancel safe. Only one task may wait at a time.
    pub async fn revoked(&self) {
        poll_fn(|cx| self.poll_revoked(cx)).await;
    }

    /// Waits in phase [`RevocablePhase::Queued`], and continues in [`RevocablePhase::Working`]. Cancel safe: a dropped call leaves it
    /// queued.
    ///
    /// # Errors
    /// [`Revoked`] if it was revoked before or during the wait.
    pub async fn queued<T>(&self, wait: impl Future<Output = T>) -> Result<T, Revoked> {
        self.set_phase(RevocablePhase::Queued)?;
        let waited = tokio::select! {
            biased;
            () = self.revoked() => return Err(Revoked),
            waited = wait => waited,
        };
        self.set_phase(RevocablePhase::Working)?;
        Ok(waited)
    }

    /// Returns the peer that holds it.
    pub fn peer(&self) -> &QuotaPeer {
        &self.0.peer
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("resource", &self.0.resource)
            .field("amount", &self.amount())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReservationShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReservationShared").finish_non_exhaustive()
    }
}

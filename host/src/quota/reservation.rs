//! One reservation: what it holds, what it waits for, and how its owner learns that it was revoked.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::{Full, Peer, Resource, lock};

/// The reservation was revoked: another peer needed the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reservation was revoked")]
pub struct Revoked;

/// When a reservation may be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The host works for it: never.
    Working,
    /// It waits for an instance or its session's turn: for another peer with a smaller usage, or for a connection of its own peer
    /// that has fewer reservations than its own.
    Queued,
    /// It waits for its client, which sends or takes nothing: for any peer, its own included.
    WaitsForClient,
}

/// An amount of one resource, given back when the last clone is dropped.
#[derive(Clone)]
pub struct Reservation(pub(super) Arc<Held>);

/// What the clones of a reservation share.
pub(super) struct Held {
    peer: Peer,
    resource: Resource,
    /// Its place in the peer's table.
    slot: usize,
    /// [`WORKING`], [`REVOKED`], or since when it waits, shifted by one; the lowest bit is set where it waits in a queue.
    waiting: AtomicU64,
    amount: AtomicU64,
    waker: AtomicWaker,
}

const WORKING: u64 = 0;
const REVOKED: u64 = u64::MAX;

/// Whether a reservation that has waited since then waits in a queue.
pub(super) fn is_queued(waiting: u64) -> bool {
    waiting & 1 == 1
}

impl Held {
    pub(super) fn new(peer: Peer, resource: Resource, amount: u64, slot: usize) -> Arc<Self> {
        Arc::new(Self {
            peer,
            resource,
            slot,
            waiting: AtomicU64::new(WORKING),
            amount: AtomicU64::new(amount),
            waker: AtomicWaker::new(),
        })
    }

    /// Since when it waits, if it does.
    pub(super) fn waiting(&self) -> Option<u64> {
        let waiting = self.waiting.load(Relaxed);
        (waiting != WORKING && waiting != REVOKED).then_some(waiting)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.waiting.load(SeqCst) == REVOKED
    }

    /// The connection that it is held for.
    pub(super) fn connection(&self) -> u64 {
        self.peer.source.connection
    }

    /// Revokes it if it still waits as it was found; returns the amount that this has freed.
    pub(super) fn revoke(&self, waiting: u64) -> Option<u64> {
        self.waiting
            .compare_exchange(waiting, REVOKED, SeqCst, Relaxed)
            .ok()?;
        let freed = self.give_all_back();
        let total = self.peer.quotas.total(self.resource);
        total.revoked.fetch_add(1, Relaxed);
        self.waker.wake();
        Some(freed)
    }

    /// Each unit is given back once, whichever of several callers takes it.
    fn give_all_back(&self) -> u64 {
        let amount = self.amount.swap(0, SeqCst);
        self.give_back(amount);
        amount
    }

    fn give_back(&self, amount: u64) {
        let quotas = &self.peer.quotas;
        quotas.give_back(self.resource, &self.peer.usage, amount);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.peer.usage.entries[self.resource as usize]).remove(self.slot);
        self.give_all_back();
    }
}

impl Reservation {
    /// Says what it waits for, if anything. A reservation that waits may be revoked; the one that began to wait first is
    /// revoked first, and each call begins a new wait.
    ///
    /// # Errors
    /// [`Revoked`] if it was revoked before.
    pub fn set_phase(&self, phase: Phase) -> Result<(), Revoked> {
        let peer = &self.0.peer;
        let since = |queued: u64| {
            let next = peer.quotas.sequence.fetch_add(1, Relaxed);
            next << 1 | queued
        };
        let waiting = match phase {
            _ if peer.is_exempt() => WORKING,
            Phase::Working => WORKING,
            Phase::Queued => since(1),
            Phase::WaitsForClient => since(0),
        };
        // A search that has found it waiting revokes it before this, or finds it changed.
        let set = |current| (current != REVOKED).then_some(waiting);
        match self.0.waiting.fetch_update(SeqCst, Relaxed, set) {
            Ok(_) => Ok(()),
            Err(_) => Err(Revoked),
        }
    }

    /// Reserves more.
    ///
    /// # Errors
    /// [`Full`], also when it was revoked.
    pub fn grow(&self, more: u64) -> Result<(), Full> {
        let held = &*self.0;
        let quotas = &held.peer.quotas;
        quotas
            .reserve(held.resource, &held.peer, more)
            .inspect_err(|Full| quotas.note_refusal(held.resource))?;
        self.grown(more)
    }

    /// Reserves more if there is room, for which nothing else is revoked.
    ///
    /// # Errors
    /// [`Full`], also when it was revoked.
    pub fn try_grow(&self, more: u64) -> Result<(), Full> {
        let held = &*self.0;
        held.peer
            .quotas
            .try_reserve(held.resource, &held.peer, more)?;
        self.grown(more)
    }

    fn grown(&self, more: u64) -> Result<(), Full> {
        let held = &*self.0;
        held.amount.fetch_add(more, SeqCst);
        // Either this sees that it was revoked, or the revocation takes what was just added.
        if self.is_revoked() {
            held.give_all_back();
            return Err(Full);
        }
        Ok(())
    }

    /// Gives a part back, at most all of it.
    pub fn shrink(&self, less: u64) {
        let take = |amount: u64| Some(amount - less.min(amount));
        let before = self.0.amount.fetch_update(SeqCst, Relaxed, take);
        let before = before.unwrap_or_else(|unchanged| unchanged);
        self.0.give_back(less.min(before));
    }

    /// How much it holds; 0 once it was revoked.
    pub fn amount(&self) -> u64 {
        self.0.amount.load(Relaxed)
    }

    /// Whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.0.is_revoked()
    }

    /// Whether it waits, so that it may be revoked.
    pub fn waits(&self) -> bool {
        self.0.waiting().is_some()
    }

    /// Revokes it: its owner has to cut what it was held for. False where it was revoked before.
    pub fn revoke(&self) -> bool {
        let waiting = self.0.waiting.load(Relaxed);
        waiting != REVOKED && (self.0.revoke(waiting).is_some() || self.revoke())
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

    /// Returns once it was revoked. Cancel safe; for one task at a time.
    pub async fn revoked(&self) {
        poll_fn(|cx| self.poll_revoked(cx)).await;
    }

    /// Waits in phase [`Phase::Queued`], and goes on in [`Phase::Working`]. Cancel safe: a dropped call leaves it queued.
    ///
    /// # Errors
    /// [`Revoked`], before or while it waits.
    pub async fn queued<T>(&self, wait: impl Future<Output = T>) -> Result<T, Revoked> {
        self.set_phase(Phase::Queued)?;
        let waited = tokio::select! {
            biased;
            () = self.revoked() => return Err(Revoked),
            waited = wait => waited,
        };
        self.set_phase(Phase::Working)?;
        Ok(waited)
    }

    /// The peer that holds it.
    pub fn peer(&self) -> &Peer {
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

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

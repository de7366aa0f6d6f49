//! What an answer holds in memory until its client has taken it, counted in two places: the total of all clients, and the outbox of
//! its HTTP/2 connection.
//!
//! A charge follows bytes wherever they wait: in the body, in the protocol's buffers, in the socket's queue. The bytes that a body
//! hands over carry a part of the charge and give it back when they are dropped, which is when they have left.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use slab::Slab;

use super::{Full, Peer, Phase, Reservation, Resource, lock};
use crate::limits;

/// An answer's body, as far as it holds memory for its client.
pub trait Untaken {
    /// What is charged for it; `None` where it is too little to count.
    fn charge(&self) -> Option<&Charge> {
        None
    }

    /// Whether it waits until what it has handed over has left.
    fn waits_to_leave(&self) -> bool {
        false
    }
}

/// Bodies in memory, of an interface that visitors cannot reach.
impl Untaken for http_body_util::Full<Bytes> {}

/// What fields are charged for, in a head or behind a body: their bytes, and for each what HTTP/2 counts (RFC 9113, section 6.5.2).
pub fn fields_bytes(fields: &HeaderMap) -> u64 {
    let bytes = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().len() + value.len()) as u64 + 32
    };
    fields.iter().map(bytes).sum()
}

/// The answers of one HTTP/2 connection that its client has not taken. Over its bound the answer that has stalled for longest is
/// cut, if it has stalled at all: a client that is merely slow loses none.
#[derive(Debug)]
pub struct Outbox {
    bytes_max: u64,
    /// Bytes that bodies have handed over and that have not left.
    handed: AtomicU64,
    /// Answers of which such bytes are.
    leaving: AtomicU64,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    bytes: u64,
    each: Slab<Answer>,
}

#[derive(Debug)]
struct Answer {
    reservation: Reservation,
    bytes: u64,
    moved_at: Instant,
}

impl Outbox {
    /// An empty one, for so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            handed: AtomicU64::new(0),
            leaving: AtomicU64::new(0),
            answers: Mutex::default(),
        })
    }

    fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(lock(&self.answers).bytes)
    }

    fn add(&self, reservation: &Reservation, now: Instant) -> usize {
        let bytes = reservation.amount();
        let mut answers = lock(&self.answers);
        answers.bytes += bytes;
        let slot = answers.each.insert(Answer {
            reservation: reservation.clone(),
            bytes,
            moved_at: now,
        });
        answers.keep_below(self.bytes_max, slot, now);
        slot
    }

    fn grow(&self, slot: usize, more: u64, now: Instant) {
        let mut answers = lock(&self.answers);
        answers.bytes += more;
        answers.each[slot].bytes += more;
        answers.keep_below(self.bytes_max, slot, now);
    }

    fn shrink(&self, slot: usize, less: u64, now: Instant) {
        let mut answers = lock(&self.answers);
        let answer = &mut answers.each[slot];
        answer.moved_at = now;
        // An answer that was cut is counted no more.
        let less = less.min(answer.bytes);
        answer.bytes -= less;
        answers.bytes -= less;
    }

    fn remove(&self, slot: usize) {
        let mut answers = lock(&self.answers);
        answers.bytes -= answers.each.remove(slot).bytes;
    }
}

impl Answers {
    /// Cuts answers other than that of `slot`, which alone may be larger than the bound.
    fn keep_below(&mut self, bytes_max: u64, slot: usize, now: Instant) {
        while self.bytes > bytes_max {
            let others = self.each.iter_mut();
            let stalled = others.filter(|(number, answer)| {
                *number != slot
                    && answer.bytes > 0
                    && answer.stalled_for(now) >= limits::UNTAKEN_STALL_MIN
            });
            let Some((_, oldest)) = stalled.min_by_key(|(_, answer)| answer.moved_at) else {
                return;
            };
            oldest.reservation.revoke();
            self.bytes -= std::mem::take(&mut oldest.bytes);
        }
    }
}

impl Answer {
    fn stalled_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved_at)
    }
}

/// What one answer holds. Clones are of the same charge, which ends with the last of them and with the bytes handed over.
#[derive(Clone, Debug)]
pub struct Charge(Arc<Charged>);

/// A charge that may have ended.
#[derive(Clone, Debug)]
pub struct WeakCharge(Weak<Charged>);

#[derive(Debug)]
struct Charged {
    bytes: Reservation,
    outbox: Option<(Arc<Outbox>, usize)>,
    /// The part that lies in the body.
    in_body: AtomicU64,
    /// The part that the body has handed over and that has not left.
    handed: AtomicU64,
    /// Wakes the body that waits until all of it has left.
    left: AtomicWaker,
}

impl Charge {
    /// Charges a client for an answer with a body of which `in_body` bytes are in memory. Its head counts with its connection. An
    /// outbox is HTTP/2's: a connection of HTTP/1 has one answer at a time.
    ///
    /// # Errors
    /// [`Full`]
    pub fn new(client: &Peer, in_body: u64, outbox: Option<&Arc<Outbox>>) -> Result<Self, Full> {
        let amount = limits::UNTAKEN_ANSWER_BYTES + in_body;
        let bytes = client.reserve(Resource::ResponseBytes, amount)?;
        let _ = bytes.set_phase(Phase::WaitsForClient);
        let outbox = outbox.map(|outbox| (Arc::clone(outbox), outbox.add(&bytes, Instant::now())));
        Ok(Self(Arc::new(Charged {
            bytes,
            outbox,
            in_body: AtomicU64::new(in_body),
            handed: AtomicU64::new(0),
            left: AtomicWaker::new(),
        })))
    }

    /// Charges for more bytes that the body is about to read ahead of its client.
    ///
    /// # Errors
    /// [`Full`] where other answers would have to be cut for it, or when it was revoked.
    pub fn try_hold(&self, more: u64) -> Result<(), Full> {
        if let Some((outbox, _)) = &self.0.outbox
            && outbox.room() < more
        {
            return Err(Full);
        }
        self.0.bytes.try_grow(more)?;
        self.grown(more);
        self.0.in_body.fetch_add(more, Relaxed);
        Ok(())
    }

    /// Takes bytes out of the body. They are charged for until they are dropped. What `paid` holds of the same answer is moved here.
    ///
    /// # Errors
    /// [`Full`] when the body has not held them yet and there is no room for them, or when the charge was revoked. The answer may
    /// hand them over later, when what it has handed over has left.
    pub fn hand_over(&self, data: Bytes, paid: Option<&Reservation>) -> Result<Bytes, Full> {
        let bytes = data.len() as u64;
        let take = |in_body: u64| Some(in_body.saturating_sub(bytes));
        let held = self.0.in_body.fetch_update(Relaxed, Relaxed, take);
        let held = held.unwrap_or_default().min(bytes);
        let moved = paid.map_or(0, |paid| paid.move_to(&self.0.bytes, bytes - held));
        self.grown(moved);
        let missing = bytes - held - moved;
        if missing > 0 {
            if let Err(full) = self.0.bytes.grow(missing) {
                self.0.in_body.fetch_add(held + moved, Relaxed);
                return Err(full);
            }
            self.grown(missing);
        }
        // The client has taken what came before: others have stalled for longer.
        self.0
            .bytes
            .set_phase(Phase::WaitsForClient)
            .map_err(|_| Full)?;
        let is_first = self.0.handed.fetch_add(bytes, Relaxed) == 0;
        if let Some((outbox, _)) = &self.0.outbox {
            outbox.handed.fetch_add(bytes, Relaxed);
            outbox.leaving.fetch_add(u64::from(is_first), Relaxed);
        }
        let charge = self.clone();
        Ok(Bytes::from_owner(Handed { data, charge }))
    }

    /// Ready when all that was handed over has left.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.left.register(cx.waker());
        match self.0.handed.load(Acquire) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Whether its stream may end before its last bytes have left. A stream that has ended cannot be reset, and its bytes stay in
    /// the protocol's buffers until the client takes them: only so many of a connection may.
    pub fn may_let_go(&self) -> bool {
        self.0.outbox.as_ref().is_none_or(|(outbox, _)| {
            outbox.handed.load(Relaxed) <= limits::UNTAKEN_LET_GO_BYTES_MAX
                && outbox.leaving.load(Relaxed) <= limits::UNTAKEN_LET_GO_ANSWERS_MAX
        })
    }

    /// Whether the answer is one of several at a time on its connection.
    pub fn is_multiplexed(&self) -> bool {
        self.0.outbox.is_some()
    }

    /// Has the answer cut.
    pub fn revoke(&self) {
        self.0.bytes.revoke();
    }

    /// Ready when the answer is to be cut, because others need what it holds. Only the task that polled last is woken.
    pub fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.bytes.poll_revoked(cx)
    }

    /// Returns when [`Charge::poll_revoked`] is ready. Cancel safe; for one task at a time.
    pub async fn revoked(&self) {
        pin!(std::future::poll_fn(|cx| self.poll_revoked(cx))).await;
    }

    /// The charge without keeping it.
    pub fn downgrade(&self) -> WeakCharge {
        WeakCharge(Arc::downgrade(&self.0))
    }

    fn grown(&self, more: u64) {
        if let Some((outbox, slot)) = self.0.outbox.as_ref().filter(|_| more > 0) {
            outbox.grow(*slot, more, Instant::now());
        }
    }
}

impl WeakCharge {
    /// As [`Charge::poll_revoked`]; never ready once the charge has ended.
    pub fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.upgrade() {
            Some(charged) => Charge(charged).poll_revoked(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        if let Some((outbox, slot)) = &self.outbox {
            outbox.remove(*slot);
        }
    }
}

/// Bytes on their way, with their part of the charge.
struct Handed {
    data: Bytes,
    charge: Charge,
}

impl AsRef<[u8]> for Handed {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let (charged, bytes) = (&*self.charge.0, self.data.len() as u64);
        charged.bytes.shrink(bytes);
        let is_last = charged.handed.fetch_sub(bytes, AcqRel) == bytes;
        if let Some((outbox, slot)) = &charged.outbox {
            outbox.handed.fetch_sub(bytes, Relaxed);
            outbox.leaving.fetch_sub(u64::from(is_last), Relaxed);
            outbox.shrink(*slot, bytes, Instant::now());
        }
        if is_last {
            charged.left.wake();
        }
    }
}

#[cfg(test)]
mod tests;

//! The memory that an answer occupies until its client has taken it. It is counted in two places: the total of all clients,
//! and the outbox of its HTTP/2 connection.
//!
//! A charge follows bytes wherever they wait: in the body, in the protocol's buffers, or in the socket's queue. The bytes
//! that a body hands over carry a part of the charge. They return it when they are dropped, which is when they have left.
//!
//! A request ends for the quotas when the rest of its response is in memory; from then on its bytes are charged. On HTTP/2 a
//! stream ends only when its last bytes have left, except for a few streams of a connection: a stream that has ended cannot be
//! reset, and its bytes would stay in h2's buffers. A small body of HTTP/1 is not charged, because a connection has only one.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use parking_lot::Mutex;
use slab::Slab;

use super::{QuotaFull, QuotaPeer, QuotaResource, Reservation, RevocablePhase};
use crate::limits;

/// An answer's body, as far as it holds memory for its client.
pub trait UntakenBody {
    /// Returns the charge for the body; `None` if the body is too small to count.
    fn charge(&self) -> Option<&BodyCharge> {
        None
    }

    /// Returns whether the body waits until the bytes that it has handed over have left.
    fn waits_to_leave(&self) -> bool {
        false
    }
}

/// Bodies in memory. Only an interface that visitors cannot reach uses them.
impl UntakenBody for http_body_util::Full<Bytes> {}

/// Returns the charge for header or trailer fields: their bytes, plus the overhead that HTTP/2 counts for each field (RFC
/// 9113, section 6.5.2).
pub fn fields_bytes(fields: &HeaderMap) -> u64 {
    let bytes = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().len() + value.len()) as u64 + 32
    };
    fields.iter().map(bytes).sum()
}

/// The answers of one HTTP/2 connection that its client has not taken. When they exceed the limit, the answer that has
/// stalled for longest is cut. An answer that has not stalled is not cut, so a client that is merely slow loses none.
#[derive(Debug)]
pub struct ConnectionOutbox {
    bytes_max: u64,
    /// Bytes that bodies have handed over and that have not left.
    handed: AtomicU64,
    /// The number of answers that such bytes belong to.
    leaving: AtomicU64,
    answers: Mutex<OutboxResponses>,
}

#[derive(Debug, Default)]
struct OutboxResponses {
    bytes: u64,
    each: Slab<OutboxResponse>,
}

#[derive(Debug)]
struct OutboxResponse {
    reservation: Reservation,
    bytes: u64,
    moved_at: Instant,
}

impl ConnectionOutbox {
    /// Creates an empty outbox for `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            handed: AtomicU64::new(0),
            leaving: AtomicU64::new(0),
            answers: Mutex::default(),
        })
    }

    fn room(&self) -> u64 {
        self.bytes_max.saturating_sub(self.answers.lock().bytes)
    }

    fn add(&self, reservation: &Reservation, now: Instant) -> usize {
        let bytes = reservation.amount();
        let mut answers = self.answers.lock();
        answers.bytes += bytes;
        let slot = answers.each.insert(OutboxResponse {
            reservation: reservation.clone(),
            bytes,
            moved_at: now,
        });
        answers.keep_below(self.bytes_max, slot, now);
        slot
    }

    fn grow(&self, slot: usize, more: u64, now: Instant) {
        let mut answers = self.answers.lock();
        answers.bytes += more;
        answers.each[slot].bytes += more;
        answers.keep_below(self.bytes_max, slot, now);
    }

    fn shrink(&self, slot: usize, less: u64, now: Instant) {
        let mut answers = self.answers.lock();
        let answer = &mut answers.each[slot];
        answer.moved_at = now;
        // An answer that was cut no longer counts.
        let less = less.min(answer.bytes);
        answer.bytes -= less;
        answers.bytes -= less;
    }

    fn remove(&self, slot: usize) {
        let mut answers = self.answers.lock();
        answers.bytes -= answers.each.remove(slot).bytes;
    }
}

impl OutboxResponses {
    /// Cuts stalled answers other than the one in `slot`. That answer alone may exceed the limit.
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

impl OutboxResponse {
    fn stalled_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved_at)
    }
}

/// The memory that one answer occupies. Clones share the charge, which ends when the last clone and the bytes handed over are dropped.
#[derive(Clone, Debug)]
pub struct BodyCharge(Arc<ChargedBytes>);

/// A charge that may have ended.
#[derive(Clone, Debug)]
pub struct WeakBodyCharge(Weak<ChargedBytes>);

#[derive(Debug)]
struct ChargedBytes {
    bytes: Reservation,
    outbox: Option<(Arc<ConnectionOutbox>, usize)>,
    /// The part that is still in the body.
    in_body: AtomicU64,
    /// The part that the body has handed over and that has not left.
    handed: AtomicU64,
    /// Wakes the body that waits until all of it has left.
    left: AtomicWaker,
}

impl BodyCharge {
    /// Charges a client for an answer with a body of which `in_body` bytes are in memory. The answer's head is counted with
    /// its connection. Only HTTP/2 has an outbox, because an HTTP/1 connection has one answer at a time.
    ///
    /// # Errors
    /// [`QuotaFull`]
    pub fn new(
        client: &QuotaPeer,
        in_body: u64,
        outbox: Option<&Arc<ConnectionOutbox>>,
    ) -> Result<Self, QuotaFull> {
        let amount = limits::UNTAKEN_ANSWER_BYTES + in_body;
        let bytes = client.reserve(QuotaResource::ResponseBytes, amount)?;
        let _ = bytes.set_phase(RevocablePhase::WaitsForClient);
        let outbox = outbox.map(|outbox| (Arc::clone(outbox), outbox.add(&bytes, Instant::now())));
        Ok(Self(Arc::new(ChargedBytes {
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
    /// [`QuotaFull`] if other answers would have to be cut for them, or when the charge was revoked.
    pub fn try_hold(&self, more: u64) -> Result<(), QuotaFull> {
        if let Some((outbox, _)) = &self.0.outbox
            && outbox.room() < more
        {
            return Err(QuotaFull);
        }
        self.0.bytes.try_grow(more)?;
        self.grown(more);
        self.0.in_body.fetch_add(more, Relaxed);
        Ok(())
    }

    /// Takes bytes out of the body. They remain charged until they are dropped. Their amount in `paid`, which belongs to
    /// the same answer, is moved to this charge.
    ///
    /// # Errors
    /// [`QuotaFull`] when the bytes were not charged yet and there is no room for them, or when the charge was revoked. The
    /// answer may hand them over later, when the bytes that it has handed over have left.
    pub fn hand_over(&self, data: Bytes, paid: Option<&Reservation>) -> Result<Bytes, QuotaFull> {
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
        // The client has taken the bytes before, so other answers have stalled for longer.
        self.0
            .bytes
            .set_phase(RevocablePhase::WaitsForClient)
            .map_err(|_| QuotaFull)?;
        let is_first = self.0.handed.fetch_add(bytes, Relaxed) == 0;
        if let Some((outbox, _)) = &self.0.outbox {
            outbox.handed.fetch_add(bytes, Relaxed);
            outbox.leaving.fetch_add(u64::from(is_first), Relaxed);
        }
        let charge = self.clone();
        Ok(Bytes::from_owner(HandedBytes { data, charge }))
    }

    /// Ready when all bytes that were handed over have left.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.left.register(cx.waker());
        match self.0.handed.load(Acquire) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Returns whether the stream may end before its last bytes have left. A stream that has ended cannot be reset, and its
    /// bytes stay in the protocol's buffers until the client takes them. The amount of such bytes is limited for each
    /// connection.
    pub fn may_let_go(&self) -> bool {
        self.0.outbox.as_ref().is_none_or(|(outbox, _)| {
            outbox.handed.load(Relaxed) <= limits::UNTAKEN_LET_GO_BYTES_MAX
                && outbox.leaving.load(Relaxed) <= limits::UNTAKEN_LET_GO_ANSWERS_MAX
        })
    }

    /// Returns whether the answer shares its connection with other answers.
    pub fn is_multiplexed(&self) -> bool {
        self.0.outbox.is_some()
    }

    /// Revokes the charge, which cuts the answer.
    pub fn revoke(&self) {
        self.0.bytes.revoke();
    }

    /// Ready when the answer must be cut because others need its memory. Only the task that polled last is woken.
    pub fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.bytes.poll_revoked(cx)
    }

    /// Waits until [`BodyCharge::poll_revoked`] is ready. Cancel safe. Only one task may wait at a time.
    pub async fn revoked(&self) {
        pin!(std::future::poll_fn(|cx| self.poll_revoked(cx))).await;
    }

    /// Returns a reference that does not keep the charge alive.
    pub fn downgrade(&self) -> WeakBodyCharge {
        WeakBodyCharge(Arc::downgrade(&self.0))
    }

    fn grown(&self, more: u64) {
        if let Some((outbox, slot)) = self.0.outbox.as_ref().filter(|_| more > 0) {
            outbox.grow(*slot, more, Instant::now());
        }
    }
}

impl WeakBodyCharge {
    /// Like [`BodyCharge::poll_revoked`]. Never ready once the charge has ended.
    pub fn poll_revoked(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.upgrade() {
            Some(charged) => BodyCharge(charged).poll_revoked(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for ChargedBytes {
    fn drop(&mut self) {
        if let Some((outbox, slot)) = &self.outbox {
            outbox.remove(*slot);
        }
    }
}

/// Bytes that are on their way to the client, with their part of the charge.
struct HandedBytes {
    data: Bytes,
    charge: BodyCharge,
}

impl AsRef<[u8]> for HandedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for HandedBytes {
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

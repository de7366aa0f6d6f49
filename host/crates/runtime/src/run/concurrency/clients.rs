//! Runs that hold a slot of a concurrency limit and wait for their clients: for the rest of a request body, or for the client to read a
//! response.
//!
//! While other requests queue at the limit, such runs may hold half of its slots. Beyond that, the slowest client loses its run.
//!
//! A client that is cut gets 408, or a reset if the response was released.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

use super::{ConcurrencyLimits, InstancePermit};
use crate::run::error::GuestFailure;
use cloakroom_base::limits::{CLIENT_RATE_FAIR, CLIENT_WAIT_FREE};
use cloakroom_base::quota::{Reservation, RevocablePhase};

/// The runs within one concurrency limit that have waited for their clients.
#[derive(Debug, Default)]
pub(crate) struct WaitingClients(Mutex<ClientWaits>);

#[derive(Debug, Default)]
struct ClientWaits {
    waits: Slab<ClientWait>,
    /// Number of runs that wait now and were not cut.
    waiting: usize,
    /// Number of runs that were cut and have not ended yet.
    leaving: usize,
}

#[derive(Debug)]
struct ClientWait {
    /// Total length of its earlier waits.
    waited: Duration,
    since: Option<Instant>,
    /// Number of bytes that its client has moved.
    bytes: u64,
    is_cut: bool,
    waker: Option<Waker>,
}

impl ClientWait {
    fn waited(&self, now: Instant) -> Duration {
        let this_time = self.since.map(|since| now.saturating_duration_since(since));
        self.waited + this_time.unwrap_or_default()
    }

    /// Returns the client's rate in bytes per second, with a bonus for a wait that has just begun.
    fn rate(&self, now: Instant) -> u64 {
        let millis = u64::try_from(self.waited(now).as_millis()).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(CLIENT_RATE_FAIR);
        bytes.saturating_mul(1000) / millis.saturating_add(1000)
    }
}

impl WaitingClients {
    /// Cuts the slowest clients while `queued` requests wait at the limit, until at most half of its `places` are held by runs that wait
    /// for their clients.
    pub(crate) fn make_room(&self, places: usize, queued: usize) {
        let mut waits = self.0.lock();
        let now = Instant::now();
        while waits.waiting > places / 2 && waits.leaving < queued {
            if !waits.cut_slowest(places, now) {
                return;
            }
        }
    }
}

impl ClientWaits {
    fn cut_slowest(&mut self, places: usize, now: Instant) -> bool {
        // Half of one slot is none. A limit of one slot keeps its run as long as the client is faster than a slow line.
        let rate_max = if places == 1 {
            CLIENT_RATE_FAIR
        } else {
            u64::MAX
        };
        let slowest = self
            .waits
            .iter_mut()
            .map(|(_, wait)| wait)
            .filter(|wait| wait.since.is_some() && !wait.is_cut)
            .filter(|wait| wait.waited(now) >= CLIENT_WAIT_FREE && wait.rate(now) <= rate_max)
            .min_by_key(|wait| wait.rate(now));
        let Some(slowest) = slowest else {
            return false;
        };
        slowest.is_cut = true;
        if let Some(waker) = slowest.waker.take() {
            waker.wake();
        }
        self.waiting -= 1;
        self.leaving += 1;
        true
    }
}

/// The client of one run. Reports to both limits when the run waits for its client, and learns when the run is cut.
pub(crate) struct RunClient {
    limits: ConcurrencyLimits,
    keys: Option<[usize; 2]>,
    /// The reservation that the request holds for being in flight.
    reservation: Option<Reservation>,
    is_waiting: bool,
}

impl RunClient {
    /// Returns the client of the run that holds this permit.
    pub(crate) fn of(
        _permit: &InstancePermit,
        limits: &ConcurrencyLimits,
        reservation: Option<Reservation>,
    ) -> Self {
        Self {
            limits: limits.clone(),
            keys: None,
            reservation,
            is_waiting: false,
        }
    }

    /// Returns the reservation that the request holds for being in flight.
    pub(crate) fn reservation(&self) -> Option<&Reservation> {
        self.reservation.as_ref()
    }

    /// Records that the run waits for its client, which has moved `bytes` bytes in all. Ready when the run must end.
    pub(crate) fn poll_wait(&mut self, bytes: u64, cx: &mut Context<'_>) -> Poll<GuestFailure> {
        if let Some(reservation) = &self.reservation {
            let is_revoked = !self.is_waiting
                && reservation
                    .set_phase(RevocablePhase::WaitsForClient)
                    .is_err();
            if is_revoked || reservation.poll_revoked(cx).is_ready() {
                return Poll::Ready(GuestFailure::ClientTooSlow);
            }
        }
        let now = Instant::now();
        let limits = [&self.limits.guest, &self.limits.pool];
        let keys = *self.keys.get_or_insert_with(|| {
            limits.map(|limit| {
                limit.clients.0.lock().waits.insert(ClientWait {
                    waited: Duration::ZERO,
                    since: None,
                    bytes: 0,
                    is_cut: false,
                    waker: None,
                })
            })
        });
        let mut is_cut = false;
        for (limit, key) in limits.into_iter().zip(keys) {
            let mut waits = limit.clients.0.lock();
            let wait = &mut waits.waits[key];
            wait.bytes = bytes;
            is_cut |= wait.is_cut;
            if !wait
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                wait.waker = Some(cx.waker().clone());
            }
            if wait.since.is_none() && !wait.is_cut {
                wait.since = Some(now);
                waits.waiting += 1;
            }
        }
        self.is_waiting = true;
        if is_cut {
            return Poll::Ready(GuestFailure::ClientTooSlow);
        }
        Poll::Pending
    }

    /// Records that the run does not wait for its client, or no longer does.
    ///
    /// # Errors
    /// [`GuestFailure::ClientTooSlow`] if the run was cut while it waited.
    pub(crate) fn resume(&mut self) -> Result<(), GuestFailure> {
        if !std::mem::take(&mut self.is_waiting) {
            return Ok(());
        }
        let mut is_cut = false;
        if let Some(reservation) = &self.reservation {
            is_cut |= reservation.set_phase(RevocablePhase::Working).is_err();
        }
        let now = Instant::now();
        let limits = [&self.limits.guest, &self.limits.pool];
        for (limit, key) in limits.into_iter().zip(self.keys.into_iter().flatten()) {
            let mut waits = limit.clients.0.lock();
            let wait = &mut waits.waits[key];
            wait.waited = wait.waited(now);
            let waited = wait.since.take().is_some();
            is_cut |= wait.is_cut;
            if waited && !wait.is_cut {
                waits.waiting -= 1;
            }
        }
        if is_cut {
            return Err(GuestFailure::ClientTooSlow);
        }
        Ok(())
    }
}

impl Drop for RunClient {
    fn drop(&mut self) {
        let limits = [&self.limits.guest, &self.limits.pool];
        for (limit, key) in limits.into_iter().zip(self.keys.into_iter().flatten()) {
            let mut waits = limit.clients.0.lock();
            let wait = waits.waits.remove(key);
            if wait.is_cut {
                waits.leaving -= 1;
            } else if wait.since.is_some() {
                waits.waiting -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;

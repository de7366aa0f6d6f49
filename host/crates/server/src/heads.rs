//! Heads and trailers that wait for a blocked socket. They are not part of a body's charge, and hyper buffers them without a
//! limit. The connection is therefore charged for them, and is cut when other clients need that memory.
//!
//! Heads and trailers need no window of the client, so nothing else makes them wait. A guest's head has at most 32 KiB, its
//! trailers 8 KiB.

use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use super::activity::ConnectionActivity;
use cloakroom_base::quota::{QuotaFull, QuotaPeer, QuotaResource, Reservation, RevocablePhase};

/// The charge of one connection for its heads.
#[derive(Debug)]
pub(crate) struct HeadCharges {
    client: QuotaPeer,
    room: Option<Reservation>,
    /// The bytes that the socket had taken when the charge last began to wait.
    written: u64,
}

impl HeadCharges {
    pub(crate) fn new(client: QuotaPeer) -> Self {
        Self {
            client,
            room: None,
            written: 0,
        }
    }

    /// Updates the charge. Must be called after each poll of the connection. `before` is the value of [`ConnectionActivity::heads`] before
    /// that poll: if the socket is not blocked, the poll has written that many bytes. Ready when the connection must be cut.
    pub(crate) fn poll(
        &mut self,
        before: u64,
        activity: &ConnectionActivity,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if !activity.is_blocked.load(Relaxed) {
            activity.heads.fetch_sub(before, Relaxed);
            self.room = None;
            return Poll::Pending;
        }
        let waiting = activity.heads.load(Relaxed);
        // A trusted proxy's connection is not cut because of one of its clients.
        if waiting == 0 || self.client.is_exempt() {
            return Poll::Pending;
        }
        let Ok(room) = self.charge(waiting, activity.written.load(Relaxed)) else {
            return Poll::Ready(());
        };
        room.poll_revoked(cx)
    }

    fn charge(&mut self, waiting: u64, written: u64) -> Result<&Reservation, QuotaFull> {
        let room = match self.room.take() {
            Some(room) => {
                let more = waiting.saturating_sub(room.amount());
                if more > 0 {
                    room.grow(more)?;
                }
                room
            }
            None => {
                self.written = written;
                let room = self.client.reserve(QuotaResource::ResponseBytes, waiting)?;
                room.set_phase(RevocablePhase::WaitsForClient)
                    .map_err(|_| QuotaFull)?;
                room
            }
        };
        // The wait only restarts when the socket has taken as many bytes as were waiting. Otherwise a client could keep the
        // charge by taking a byte now and then.
        if written - self.written >= waiting {
            self.written = written;
            room.set_phase(RevocablePhase::WaitsForClient)
                .map_err(|_| QuotaFull)?;
        }
        Ok(self.room.insert(room))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use http::{HeaderMap, Version};

    use super::*;
    use cloakroom_base::limits::UNTAKEN_HEAD_BYTES;
    use cloakroom_base::quota::{QuotaTotals, Quotas};

    struct Fixture {
        quotas: Arc<Quotas>,
        activity: Arc<ConnectionActivity>,
        heads: HeadCharges,
    }

    impl Fixture {
        fn new(response_bytes: u64) -> Self {
            let quotas = Quotas::new(QuotaTotals {
                response_bytes,
                ..QuotaTotals::default()
            });
            let peer = quotas.peer([127, 0, 0, 1].into());
            let reservation = peer.reserve(QuotaResource::Connections, 1).unwrap();
            Self {
                activity: Arc::new(ConnectionActivity::new(reservation)),
                heads: HeadCharges::new(peer),
                quotas,
            }
        }

        fn answer(&self) {
            let request = self.activity.request(Version::HTTP_2, false);
            request.count_head(&HeaderMap::new());
        }

        /// Returns whether the connection must be cut.
        fn polled(&mut self, before: u64, is_blocked: bool) -> bool {
            self.activity.is_blocked.store(is_blocked, Relaxed);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            self.heads.poll(before, &self.activity, &mut cx).is_ready()
        }

        fn used(&self) -> u64 {
            self.quotas.used(QuotaResource::ResponseBytes)
        }
    }

    #[test]
    fn heads_are_charged_for_while_the_socket_is_blocked() {
        let mut fixture = Fixture::new(1 << 20);
        fixture.answer();
        assert!(!fixture.polled(0, false));
        assert_eq!(fixture.used(), 0);
        assert!(!fixture.polled(UNTAKEN_HEAD_BYTES, true));
        assert_eq!(fixture.used(), UNTAKEN_HEAD_BYTES);
        fixture.answer();
        assert!(!fixture.polled(UNTAKEN_HEAD_BYTES, true));
        assert_eq!(fixture.used(), 2 * UNTAKEN_HEAD_BYTES);
        // A third head is added while the first two are written.
        fixture.answer();
        assert!(!fixture.polled(2 * UNTAKEN_HEAD_BYTES, false));
        assert_eq!(
            (fixture.used(), fixture.activity.heads.load(Relaxed)),
            (0, UNTAKEN_HEAD_BYTES)
        );
    }

    #[test]
    fn revoked_quota_of_unsent_heads_ends_their_connection() {
        let mut fixture = Fixture::new(10 * UNTAKEN_HEAD_BYTES);
        for _ in 0..10 {
            fixture.answer();
        }
        assert!(!fixture.polled(0, true));
        let other = fixture.quotas.peer([127, 0, 0, 2].into());
        let _taken = other.reserve(QuotaResource::ResponseBytes, 1).unwrap();
        assert!(fixture.polled(0, true));
        assert_eq!(fixture.used(), 1);
    }

    #[test]
    fn heads_without_room_end_their_connection_unless_it_is_a_proxys() {
        let mut fixture = Fixture::new(UNTAKEN_HEAD_BYTES);
        fixture.answer();
        fixture.answer();
        let mut of_proxy = HeadCharges::new(fixture.quotas.exempt());
        assert!(fixture.polled(0, true));
        std::mem::swap(&mut fixture.heads, &mut of_proxy);
        assert!(!fixture.polled(0, true));
    }

    #[test]
    fn an_occasional_byte_does_not_restart_the_wait() {
        let mut fixture = Fixture::new(1 << 20);
        fixture.answer();
        assert!(!fixture.polled(0, true));
        fixture
            .activity
            .written
            .fetch_add(UNTAKEN_HEAD_BYTES - 1, Relaxed);
        assert!(!fixture.polled(0, true));
        assert_eq!(fixture.heads.written, 0);
        fixture.activity.written.fetch_add(1, Relaxed);
        assert!(!fixture.polled(0, true));
        assert_eq!(fixture.heads.written, UNTAKEN_HEAD_BYTES);
    }
}

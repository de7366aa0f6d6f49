//! Detects connections whose client has been slow or silent for too long.
//!
//! hyper has one timer for both the head and the idle time between requests. It has no timer for the protocol detection, for
//! HTTP/2 connections without streams, for HTTP/2 heads, or for clients that take no bytes. This module covers all these cases
//! without a timer per request.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::activity::ConnectionActivity;
use cloakroom_base::limits::TRANSFER_BYTES_PER_S_MIN;

/// The action that a connection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Diagnosis {
    /// None.
    Alive,
    /// The connection is not used. Close it after the buffered bytes have left.
    Idle,
    /// The client sends its head or takes its response too slowly. Close the connection immediately.
    Stuck,
}

/// Checks a pulse periodically and records since when it has not changed.
#[derive(Debug)]
pub(crate) struct ActivityWatch {
    header_timeout: Duration,
    idle_timeout: Duration,
    moved_at: Instant,
    requests: u64,
    written: u64,
    /// The number of the head that is arriving, and the time at which it began.
    head: Option<(u64, Instant)>,
}

impl ActivityWatch {
    pub(crate) fn new(header_timeout: Duration, idle_timeout: Duration, now: Instant) -> Self {
        Self {
            header_timeout,
            idle_timeout,
            moved_at: now,
            requests: 0,
            written: 0,
            head: None,
        }
    }

    /// Returns the time between checks, so short that a limit is exceeded by at most a quarter, and by at most a second.
    pub(crate) fn interval(&self) -> Duration {
        let shortest = self.header_timeout.min(self.idle_timeout);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }

    pub(crate) fn look(&mut self, activity: &ConnectionActivity, now: Instant) -> Diagnosis {
        let requests = activity.requests.load(Relaxed);
        if requests == 0 {
            return self.look_for_first_head(activity, now);
        }
        let is_in_flight = activity.in_flight.load(Relaxed) > 0;
        let is_blocked = activity.is_blocked.load(Relaxed);
        self.note_movement(activity, is_in_flight, now);
        if self.is_head_late(activity, is_in_flight, now) {
            return Diagnosis::Stuck;
        }
        if is_in_flight && !is_blocked {
            // The host is slow here, not the client. The request's deadline limits the host.
            self.moved_at = now;
        }
        match now.duration_since(self.moved_at) >= self.idle_timeout {
            false => Diagnosis::Alive,
            true if is_in_flight => Diagnosis::Stuck,
            true => Diagnosis::Idle,
        }
    }

    /// Checks a connection without a request. A client has no reason to connect before it has one. An HTTP/2 client that is not
    /// within a head is closed gracefully, any other client is cut.
    fn look_for_first_head(&self, activity: &ConnectionActivity, now: Instant) -> Diagnosis {
        if now.duration_since(self.moved_at) < self.header_timeout {
            Diagnosis::Alive
        } else if activity.is_multiplexed() && !activity.is_amid_head.load(Relaxed) {
            Diagnosis::Idle
        } else {
            Diagnosis::Stuck
        }
    }

    fn note_movement(&mut self, activity: &ConnectionActivity, is_in_flight: bool, now: Instant) {
        let (requests, written) = (
            activity.requests.load(Relaxed),
            activity.written.load(Relaxed),
        );
        let is_taken = if activity.is_blocked.load(Relaxed) {
            // Single bytes do not count as progress.
            let enough = now.duration_since(self.moved_at).as_secs() * TRANSFER_BYTES_PER_S_MIN;
            written - self.written >= enough.max(1)
        } else {
            // Between requests, an HTTP/2 connection still answers PING frames, which do not count as use.
            written > self.written && is_in_flight
        };
        if requests != self.requests || is_taken {
            (self.requests, self.written, self.moved_at) = (requests, written, now);
        }
    }

    /// Whether the head that is arriving takes too long.
    fn is_head_late(
        &mut self,
        activity: &ConnectionActivity,
        is_in_flight: bool,
        now: Instant,
    ) -> bool {
        let head = if activity.is_multiplexed() {
            let is_amid = activity.is_amid_head.load(Relaxed);
            is_amid.then(|| activity.heads_ended.load(Relaxed))
        } else {
            let has_come =
                activity.reads.load(Relaxed) > activity.reads_when_answered.load(Relaxed);
            (!is_in_flight && has_come).then_some(self.requests)
        };
        self.head = match (head, self.head) {
            (Some(head), Some((same, since))) if head == same => Some((head, since)),
            (head, _) => head.map(|head| (head, now)),
        };
        self.head
            .is_some_and(|(_, since)| now.duration_since(since) >= self.header_timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use cloakroom_base::quota::{QuotaResource, QuotaTotals, Quotas};

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(75);

    struct Fixture {
        activity: Arc<ConnectionActivity>,
        watch: ActivityWatch,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let start = Instant::now();
            let quotas = Quotas::new(QuotaTotals::default());
            let peer = quotas.peer([127, 0, 0, 1].into());
            let reservation = peer.reserve(QuotaResource::Connections, 1).unwrap();
            Self {
                activity: Arc::new(ConnectionActivity::new(reservation)),
                watch: ActivityWatch::new(HEADER, IDLE, start),
                start,
            }
        }

        fn at(&mut self, seconds: u64) -> Diagnosis {
            self.watch
                .look(&self.activity, self.start + Duration::from_secs(seconds))
        }

        fn read(&self) {
            self.activity.reads.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_silent_connection_is_cut_after_the_header_timeout() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.at(9), Diagnosis::Alive);
        assert_eq!(fixture.at(10), Diagnosis::Stuck);
    }

    #[test]
    fn an_http2_connection_without_a_request_ends_after_the_header_timeout() {
        let mut fixture = Fixture::new();
        fixture.activity.is_multiplexed.store(true, Relaxed);
        for second in 1..10 {
            fixture.read();
            fixture.activity.heads_ended.fetch_add(1, Relaxed);
            fixture.activity.written.fetch_add(17, Relaxed);
            assert_eq!(fixture.at(second), Diagnosis::Alive);
        }
        assert_eq!(fixture.at(10), Diagnosis::Idle);
        fixture.activity.is_amid_head.store(true, Relaxed);
        assert_eq!(fixture.at(10), Diagnosis::Stuck);
    }

    #[test]
    fn a_later_head_of_http2_that_dribbles_in_is_cut_beside_other_requests() {
        for is_alone in [true, false] {
            let mut fixture = Fixture::new();
            let request = fixture.activity.request(http::Version::HTTP_2, false);
            let _in_flight = (!is_alone).then_some(request);
            assert_eq!(fixture.at(1), Diagnosis::Alive);
            fixture.activity.is_amid_head.store(true, Relaxed);
            assert_eq!(fixture.at(5), Diagnosis::Alive);
            fixture.activity.heads_ended.fetch_add(1, Relaxed);
            for second in 6..16 {
                fixture.activity.written.fetch_add(17, Relaxed);
                assert_eq!(
                    fixture.at(second),
                    Diagnosis::Alive,
                    "it is another head since 6"
                );
            }
            assert_eq!(fixture.at(16), Diagnosis::Stuck);
        }
    }

    #[test]
    fn pings_do_not_keep_an_idle_connection() {
        let mut fixture = Fixture::new();
        drop(fixture.activity.request(http::Version::HTTP_2, false));
        for second in 1..76 {
            fixture.read();
            fixture.activity.written.fetch_add(17, Relaxed);
            assert_eq!(fixture.at(second), Diagnosis::Alive);
        }
        assert_eq!(fixture.at(76), Diagnosis::Idle);
    }

    #[test]
    fn a_head_that_dribbles_in_is_cut_however_many_bytes_come() {
        let mut fixture = Fixture::new();
        for second in 1..10 {
            fixture.read();
            assert_eq!(fixture.at(second), Diagnosis::Alive);
        }
        fixture.read();
        assert_eq!(fixture.at(10), Diagnosis::Stuck);
    }

    #[test]
    fn a_second_head_that_dribbles_in_is_cut_as_well() {
        let mut fixture = Fixture::new();
        fixture.read();
        drop(fixture.activity.request(http::Version::HTTP_11, false));
        assert_eq!(fixture.at(1), Diagnosis::Alive);
        assert_eq!(fixture.at(30), Diagnosis::Alive);
        fixture.read();
        assert_eq!(fixture.at(31), Diagnosis::Alive);
        assert_eq!(fixture.at(41), Diagnosis::Stuck);
    }

    #[test]
    fn http2_frames_between_requests_do_not_count_as_a_head() {
        let mut fixture = Fixture::new();
        fixture.read();
        drop(fixture.activity.request(http::Version::HTTP_2, false));
        assert_eq!(fixture.at(1), Diagnosis::Alive);
        fixture.read();
        assert_eq!(fixture.at(2), Diagnosis::Alive);
        assert_eq!(fixture.at(20), Diagnosis::Alive);
        assert_eq!(fixture.at(76), Diagnosis::Idle);
    }

    #[test]
    fn a_slow_guest_is_not_the_clients_fault() {
        let mut fixture = Fixture::new();
        fixture.read();
        let request = fixture.activity.request(http::Version::HTTP_11, false);
        assert_eq!(fixture.at(1), Diagnosis::Alive);
        assert_eq!(fixture.at(500), Diagnosis::Alive);
        drop(request);
        assert_eq!(fixture.at(501), Diagnosis::Alive);
        assert_eq!(fixture.at(575), Diagnosis::Idle);
    }

    #[test]
    fn a_client_that_takes_no_bytes_is_cut() {
        let mut fixture = Fixture::new();
        let _request = fixture.activity.request(http::Version::HTTP_11, false);
        assert_eq!(fixture.at(1), Diagnosis::Alive);
        fixture.activity.is_blocked.store(true, Relaxed);
        assert_eq!(fixture.at(75), Diagnosis::Alive);
        assert_eq!(fixture.at(76), Diagnosis::Stuck);
    }

    #[test]
    fn a_client_that_takes_bytes_one_by_one_is_cut() {
        let mut fixture = Fixture::new();
        let _request = fixture.activity.request(http::Version::HTTP_11, false);
        assert_eq!(fixture.at(1), Diagnosis::Alive);
        fixture.activity.is_blocked.store(true, Relaxed);
        for second in 2..76 {
            fixture.activity.written.fetch_add(1, Relaxed);
            assert_eq!(fixture.at(second), Diagnosis::Alive);
        }
        fixture.activity.written.fetch_add(1, Relaxed);
        assert_eq!(fixture.at(76), Diagnosis::Stuck);
    }

    #[test]
    fn a_client_that_takes_bytes_at_the_minimum_rate_is_never_cut() {
        let mut fixture = Fixture::new();
        let _request = fixture.activity.request(http::Version::HTTP_11, false);
        assert_eq!(fixture.at(1), Diagnosis::Alive);
        fixture.activity.is_blocked.store(true, Relaxed);
        for second in 2..500 {
            fixture
                .activity
                .written
                .fetch_add(TRANSFER_BYTES_PER_S_MIN, Relaxed);
            assert_eq!(fixture.at(second), Diagnosis::Alive);
        }
    }
}

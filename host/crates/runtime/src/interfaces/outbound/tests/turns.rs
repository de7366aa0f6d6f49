//! The order in which calls get connections: a client with many calls delays itself, but not a visitor with one.

use parking_lot::Mutex;

use super::super::OutboundClient;
use super::*;
use crate::interfaces::accounting::RequestAccounting;
use cloakroom_base::limits::{OUTBOUND_WAIT_MAX, OUTBOUND_WAITERS_MAX};
use cloakroom_base::quota::PeerKey;

/// The client with this number, which has one connection.
fn client(number: u8) -> ClientConnection {
    ClientConnection {
        peer: Some(PeerKey::of([10, 0, 0, number].into())),
        connection: u64::from(number),
    }
}

const FLOOD: u8 = 1;
const VISITOR: u8 = 2;

/// The clients whose calls were answered, in order.
#[derive(Default)]
struct Answered(Mutex<Vec<u8>>);

impl Answered {
    /// Makes one call for a client. Returns whether it was answered.
    async fn call(&self, number: u8, guest: &Arc<GuestPool>, port: u16) -> bool {
        let (guest, method) = (Arc::clone(guest), Method::GET);
        let (destination, request) = (destination(port), request(method));
        let tally = MemoryTally::new(1 << 20);
        match exchange(
            guest,
            client(number),
            destination,
            &tally,
            request,
            PATIENCE,
        )
        .await
        {
            Ok((answer, _ended)) => {
                self.0.lock().push(number);
                assert_eq!(text(answer).await.unwrap(), "ok");
                true
            }
            Err(ExchangeError::Full) => false,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Makes calls of the flooding client.
    async fn calls(&self, count: usize, guest: &Arc<GuestPool>, port: u16) -> usize {
        let calls = (0..count).map(|_| self.call(FLOOD, guest, port));
        let answered = futures_util::future::join_all(calls).await;
        answered.into_iter().filter(|answered| *answered).count()
    }

    /// Asserts that at most one call of the flooding client was answered before the visitor's.
    #[track_caller]
    fn assert_visitor_was_soon(&self) {
        let order = self.0.lock();
        let place = order.iter().position(|number| *number == VISITOR);
        assert!(place.is_some_and(|place| place <= 1), "{order:?}");
    }
}

/// Makes a call of the flooding client that holds its connection. Returns it with its server.
async fn holder(guest: &Arc<GuestPool>) -> (Response<WasiBody>, Server) {
    let server = Server::start(&[STALLS]).await;
    let tally = MemoryTally::new(1 << 20);
    let held = exchange(
        Arc::clone(guest),
        client(FLOOD),
        destination(server.port),
        &tally,
        request(Method::GET),
        PATIENCE,
    );
    (held.await.unwrap().0, server)
}

#[tokio::test]
async fn a_visitors_call_is_not_starved_by_queued_calls_of_one_client() {
    let server = Server::start(&[OK; 30]).await;
    let guest = GuestPool::new(&pool(8), 1);
    let (held, _silent) = holder(&guest).await;
    let answered = Answered::default();
    let (flood, visitor, ()) = tokio::join!(
        answered.calls(20, &guest, server.port),
        answered.call(VISITOR, &guest, server.port),
        async { drop(held) },
    );
    assert_eq!((flood, visitor), (20, true));
    answered.assert_visitor_was_soon();
    assert_eq!((server.connections(), server.requests()), (1, 21));
}

#[tokio::test]
async fn a_visitors_call_to_another_server_is_not_starved_by_queued_calls() {
    let (server, other) = (
        Server::start(&[OK; 30]).await,
        Server::start(&[OK; 30]).await,
    );
    let guest = GuestPool::new(&pool(8), 1);
    let (held, _silent) = holder(&guest).await;
    let answered = Answered::default();
    let (flood, visitor, ()) = tokio::join!(
        answered.calls(20, &guest, server.port),
        answered.call(VISITOR, &guest, other.port),
        async { drop(held) },
    );
    assert_eq!((flood, visitor), (20, true));
    answered.assert_visitor_was_soon();
    assert_eq!((server.requests(), other.requests()), (20, 1));
}

#[tokio::test]
async fn at_the_hosts_limit_a_call_of_another_guest_is_not_starved() {
    let server = Server::start(&[OK; 30]).await;
    let pool = pool(1);
    let (busy, quiet) = (GuestPool::new(&pool, 4), GuestPool::new(&pool, 4));
    let (held, _silent) = holder(&busy).await;
    let answered = Answered::default();
    let (flood, visitor, ()) = tokio::join!(
        answered.calls(20, &busy, server.port),
        answered.call(VISITOR, &quiet, server.port),
        async { drop(held) },
    );
    assert_eq!((flood, visitor), (20, true));
    answered.assert_visitor_was_soon();
    eventually("at rest", || pool.usage().open <= 1).await;
}

#[tokio::test]
async fn a_full_queue_evicts_a_call_of_its_busiest_client_for_a_visitors_call() {
    const CALLS: usize = OUTBOUND_WAITERS_MAX + 10;
    let server = Server::start(&[OK; CALLS]).await;
    let guest = GuestPool::new(&pool(8), 1);
    let (held, _silent) = holder(&guest).await;
    let answered = Answered::default();
    let (flood, visitor, ()) = tokio::join!(
        answered.calls(CALLS, &guest, server.port),
        answered.call(VISITOR, &guest, server.port),
        async { drop(held) },
    );
    assert_eq!((flood, visitor), (OUTBOUND_WAITERS_MAX - 1, true));
    answered.assert_visitor_was_soon();
}

#[test]
fn a_call_waits_for_a_connection_for_its_own_timeout_up_to_a_maximum() {
    let timeout_max = Duration::from_secs(9);
    let outbound = OutboundClient {
        hosts: Arc::new([]),
        accounting: RequestAccounting::none(),
        tally: MemoryTally::new(1 << 20),
        pool: guest(),
        calls_max: 1,
        timeout_max,
    };
    let wait = |connect_timeout: Option<Duration>| {
        let options = wasmtime_wasi_http::RequestOptions {
            connect_timeout,
            ..Default::default()
        };
        outbound.bounded(Some(options)).wait
    };
    assert_eq!(wait(None), OUTBOUND_WAIT_MAX);
    assert_eq!(outbound.bounded(None).wait, OUTBOUND_WAIT_MAX);
    for (asked, waits) in [(1, 1), (5, 5), (60, 9)] {
        let asked = Duration::from_secs(asked);
        assert_eq!(wait(Some(asked)), Duration::from_secs(waits));
    }
}

//! The limits on connections, of one guest and of all, and which connections are closed when a limit is reached.

use super::*;

fn is_full(outcome: &Result<Response<WasiBody>, ExchangeError>) -> bool {
    matches!(outcome, Err(ExchangeError::Full))
}

#[tokio::test]
async fn a_guest_at_its_connection_limit_does_not_affect_other_guests() {
    let server = Server::start(&[STALLS]).await;
    let pool = pool(8);
    let (hoarder, other) = (GuestPool::new(&pool, 3), GuestPool::new(&pool, 3));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(send(&hoarder, server.port).await.unwrap());
    }
    for _ in 0..3 {
        let refused = send_with(&hoarder, destination(server.port), Method::GET, IMPATIENT).await;
        assert!(is_full(&refused), "{refused:?}");
    }
    assert!(send(&other, server.port).await.is_ok());
    assert_eq!((hoarder.open(), server.connections()), (3, 4));
    drop(held);
    assert!(send(&hoarder, server.port).await.is_ok());
}

#[tokio::test]
async fn all_guests_together_stay_within_the_hosts_connection_limit() {
    let server = Server::start(&[STALLS]).await;
    let pool = pool(3);
    let guests = [(); 4].map(|()| GuestPool::new(&pool, 3));
    let mut held = Vec::new();
    for guest in &guests[..3] {
        held.push(send(guest, server.port).await.unwrap());
    }
    let refused = send_with(&guests[3], destination(server.port), Method::GET, IMPATIENT).await;
    assert!(is_full(&refused), "{refused:?}");
    assert_eq!((pool.usage().open, server.connections()), (3, 3));
    held.pop();
    assert!(send(&guests[3], server.port).await.is_ok());
}

#[tokio::test]
async fn at_the_hosts_limit_an_idle_connection_of_another_guest_is_closed() {
    let server = Server::start(&[OK; 9]).await;
    let pool = pool(2);
    let guests = [(); 6].map(|()| GuestPool::new(&pool, 2));
    for guest in &guests {
        assert_eq!(
            text(send(guest, server.port).await.unwrap()).await.unwrap(),
            "ok"
        );
        eventually("idle", || pool.usage().idle > 0 && guest.open() == 1).await;
        assert!(pool.usage().open <= 2);
    }
    assert_eq!(server.connections(), 6);
}

#[tokio::test]
async fn at_the_guests_limit_an_idle_connection_to_another_server_is_closed() {
    let servers = [Server::start(&[OK; 9]).await, Server::start(&[OK; 9]).await];
    let guest = GuestPool::new(&pool(8), 1);
    for server in servers.iter().cycle().take(6) {
        assert_eq!(
            text(send(&guest, server.port).await.unwrap())
                .await
                .unwrap(),
            "ok"
        );
    }
}

#[tokio::test]
async fn a_call_that_waits_gets_the_connection_that_becomes_free() {
    let server = Server::start(&[OK; 20]).await;
    let guest = GuestPool::new(&pool(8), 1);
    let calls = (0..20).map(|_| async {
        let answer = send(&guest, server.port).await.unwrap();
        text(answer).await.unwrap()
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers, ["ok"; 20]);
    assert_eq!((server.connections(), server.requests()), (1, 20));
}

#[tokio::test]
async fn calls_to_several_servers_share_the_guests_connection_limit() {
    let servers = [
        Server::start(&[OK; 9]).await,
        Server::start(&[OK; 9]).await,
        Server::start(&[OK; 9]).await,
    ];
    let guest = GuestPool::new(&pool(8), 2);
    let calls = (0..24).map(|number| {
        let port = servers[number % 3].port;
        let guest = &guest;
        async move { text(send(guest, port).await.unwrap()).await.unwrap() }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers, ["ok"; 24]);
    assert!(guest.open() <= 2);
}

#[tokio::test]
async fn a_call_that_stopped_waiting_holds_no_place_in_the_queue() {
    let server = Server::start(&[OK; 9]).await;
    let silent = Server::start(&[SILENT]).await;
    let guest = GuestPool::new(&pool(8), 1);
    let holder = send(&guest, silent.port);
    let others = async {
        eventually("sent", || silent.requests() == 1).await;
        for _ in 0..2 * cloakroom_base::limits::OUTBOUND_WAITERS_MAX {
            let waits = send_with(&guest, destination(server.port), Method::GET, PATIENCE);
            assert!(tokio::time::timeout(Duration::ZERO, waits).await.is_err());
        }
    };
    tokio::select! {
        _ = holder => panic!("it is not answered"),
        () = others => {}
    }
    // The call that held the connection was dropped as well.
    assert_eq!(
        text(send(&guest, server.port).await.unwrap())
            .await
            .unwrap(),
        "ok"
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_a_while() {
    let server = Server::start(&[OK; 9]).await;
    let guest = guest();
    text(send(&guest, server.port).await.unwrap())
        .await
        .unwrap();
    eventually("closed", || guest.open() == 0).await;
}

/// The head of this response takes most of a memory limit of 2 KiB.
const LONG_HEAD: &str = concat!(
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nlong: ",
    "________________________________________________________________________________________________________________",
    "\r\n\r\n"
);

#[tokio::test]
async fn heads_of_answers_count_against_the_memory_of_their_instance_while_they_are_there() {
    let server = Server::start(&[LONG_HEAD; 9]).await;
    let (guest, tally) = (guest(), MemoryTally::new(2 << 10));
    let call = || {
        let (guest, source) = (Arc::clone(&guest), ClientConnection::default());
        let to = destination(server.port);
        exchange(guest, source, to, &tally, request(Method::GET), PATIENCE)
    };
    let (held, _) = call().await.unwrap();
    let (second, _) = call().await.unwrap();
    let refused = call().await;
    let Err(ExchangeError::Failed(Error::InternalError(Some(reason)))) = refused else {
        panic!("{:?}", refused.map(|_| ()));
    };
    assert!(reason.contains("would exceed its limit"), "{reason}");
    assert!(tally.has_refused());
    drop((held, second));
    assert!(!tally.is_half_used());
    assert!(call().await.is_ok());
}

//! Which reservations are revoked for which peers, at simulated times, and which searches the memory of a failed search avoids.

use std::net::IpAddr;
use std::time::Duration;

use super::super::{QuotaFull, QuotaPeer, QuotaTotals, Reservation, RevocablePhase};
use super::*;

const R: QuotaResource = QuotaResource::ResponseBytes;
const LONG: Duration = Duration::from_secs(10);

fn quotas(max: u64) -> Arc<Quotas> {
    Quotas::new(QuotaTotals {
        connections: max,
        requests: max,
        request_bytes: max,
        response_bytes: max,
    })
}

fn peer(quotas: &Arc<Quotas>, last: u8) -> QuotaPeer {
    quotas.peer(IpAddr::from([127, 0, 0, last]))
}

fn waiting(peer: &QuotaPeer, resource: QuotaResource, amount: u64) -> Reservation {
    let held = peer.reserve(resource, amount).unwrap();
    held.set_phase(RevocablePhase::WaitsForClient).unwrap();
    held
}

/// Makes room as if it were requested `later`.
fn make_room(peer: &QuotaPeer, resource: QuotaResource, amount: u64, later: Duration) -> bool {
    let room_request = RoomRequest { peer, itself: None };
    let quotas = peer.quotas();
    quotas.make_room(resource, room_request, amount, Instant::now() + later)
}

#[test]
fn stalled_bytes_are_revoked_for_a_client_that_holds_more() {
    for (resource, gives_way) in [
        (QuotaResource::ResponseBytes, true),
        (QuotaResource::RequestBytes, true),
        (QuotaResource::Requests, false),
        (QuotaResource::Connections, false),
    ] {
        let quotas = quotas(100);
        let stalled: Vec<_> = (1..=4)
            .map(|n| waiting(&peer(&quotas, n), resource, 15))
            .collect();
        let visitor = peer(&quotas, 100).of_one_request();
        let own = waiting(&visitor, resource, 40);
        assert!(!make_room(&visitor, resource, 1, Duration::ZERO));

        assert_eq!(make_room(&visitor, resource, 1, LONG), gives_way);

        let revoked: Vec<_> = stalled.iter().map(Reservation::is_revoked).collect();
        assert_eq!(revoked, [gives_way, false, false, false], "{resource:?}");
        assert!(!own.is_revoked());
    }
}

#[test]
fn the_reservation_stalled_longest_is_revoked_first_of_any_peer() {
    let quotas = quotas(100);
    let (large, small) = (peer(&quotas, 1), peer(&quotas, 2));
    let of_small = waiting(&small, R, 10);
    let of_large = waiting(&large, R, 90);
    assert!(make_room(&peer(&quotas, 3), R, 1, LONG));
    assert!(of_small.is_revoked() && !of_large.is_revoked());
}

#[test]
fn queued_bytes_do_not_stall() {
    let quotas = quotas(100);
    let held = peer(&quotas, 1).reserve(R, 100).unwrap();
    held.set_phase(RevocablePhase::Queued).unwrap();
    let room_request = peer(&quotas, 2);
    let _own = room_request.reserve(R, 0);
    assert!(
        !make_room(&room_request, R, 101, LONG),
        "it wants more than the other holds"
    );
    assert!(make_room(&room_request, R, 50, LONG));
    assert!(held.is_revoked());
}

#[test]
fn a_request_never_revokes_its_own_reservations() {
    let quotas = quotas(100);
    let client = peer(&quotas, 1);
    let (one, other) = (client.clone().of_one_request(), client.of_one_request());
    let (first, second) = (waiting(&one, R, 50), waiting(&one, R, 50));
    assert!(!make_room(&one, R, 20, LONG));
    assert_eq!(second.grow(20), Err(QuotaFull));
    assert!(
        make_room(&other, R, 20, LONG),
        "another request of the same client"
    );
    assert!(first.is_revoked() && !second.is_revoked());
}

#[test]
fn a_reservation_never_gives_way_to_itself() {
    let quotas = quotas(100);
    let held = waiting(&peer(&quotas, 1), R, 90);
    assert_eq!(held.grow(11), Err(QuotaFull));
    assert!(!held.is_revoked());
    held.grow(10).unwrap();
}

#[test]
fn a_part_of_a_request_gives_way_with_the_queued_request() {
    let (bytes, requests) = (QuotaResource::RequestBytes, QuotaResource::Requests);
    let quotas = quotas(100);
    let (flood, visitor) = (peer(&quotas, 1), peer(&quotas, 2));
    let reservations: Vec<_> = (0..2)
        .map(|_| flood.reserve(requests, 1).unwrap())
        .collect();
    let bodies: Vec<_> = (0..2).map(|_| flood.reserve(bytes, 50).unwrap()).collect();
    for (body, reservation) in bodies.iter().zip(&reservations) {
        body.part_of(reservation);
        body.set_phase(RevocablePhase::AsRequest).unwrap();
    }
    assert!(!make_room(&visitor, bytes, 10, LONG), "both are worked for");
    reservations[0]
        .set_phase(RevocablePhase::WaitsForClient)
        .unwrap();
    assert!(
        !make_room(&visitor, bytes, 10, LONG),
        "a run that waits has its body"
    );
    reservations[0].set_phase(RevocablePhase::Queued).unwrap();

    assert!(make_room(&visitor, bytes, 10, LONG));

    assert!(reservations[0].is_revoked() && bodies[0].is_revoked());
    assert!(!reservations[1].is_revoked() && !bodies[1].is_revoked());
    assert_eq!((quotas.used(bytes), quotas.used(requests)), (50, 1));
    // A request that has left the queue keeps both reservations.
    reservations[1].set_phase(RevocablePhase::Queued).unwrap();
    let found = bodies[1].0.waiting().unwrap();
    reservations[1].set_phase(RevocablePhase::Working).unwrap();
    assert_eq!(bodies[1].0.revoke(found), None);
    assert!(bodies[1].revoke(), "its owner may end it by itself");
    assert!(!reservations[1].is_revoked());
}

#[test]
fn a_failed_search_is_remembered_until_a_reservation_changes() {
    let requests = QuotaResource::Requests;
    let quotas = quotas(4);
    let flood = peer(&quotas, 1);
    let held: Vec<_> = (0..4)
        .map(|_| flood.reserve(requests, 1).unwrap())
        .collect();
    let room_request = RoomRequest {
        peer: &flood,
        itself: None,
    };
    let mut nothing_to_revoke = NothingToRevoke::default();
    let now = Instant::now();
    assert!(!quotas.find_room(requests, room_request, 1, now, &mut nothing_to_revoke));
    let holds = |nothing_to_revoke: &NothingToRevoke,
                 source: ClientConnection,
                 wanted: u64,
                 later: Duration| {
        let changes = quotas.total(requests).changes.load(Relaxed);
        nothing_to_revoke.is_fresh(changes, now + later)
            && nothing_to_revoke.holds_for(source, wanted)
    };
    assert!(holds(&nothing_to_revoke, flood.source, 5, Duration::ZERO));
    assert!(!holds(
        &nothing_to_revoke,
        flood.source,
        5,
        limits::NOTHING_TO_REVOKE_TIME
    ));
    let stranger = peer(&quotas, 2);
    assert!(
        !holds(&nothing_to_revoke, stranger.source, 1, Duration::ZERO),
        "it was not looked for"
    );

    held[0].set_phase(RevocablePhase::Queued).unwrap();
    assert!(!holds(&nothing_to_revoke, flood.source, 5, Duration::ZERO));
    assert!(!quotas.find_room(requests, room_request, 1, now, &mut nothing_to_revoke));
    assert!(holds(&nothing_to_revoke, flood.source, 5, Duration::ZERO));
    assert!(
        !holds(&nothing_to_revoke, flood.source, 4, Duration::ZERO),
        "others hold that much"
    );
    // A connection of the same address that has fewer reservations takes the reservation of a queued one.
    let other = peer(&quotas, 1);
    assert!(!holds(&nothing_to_revoke, other.source, 5, Duration::ZERO));
    assert!(quotas.find_room(
        requests,
        RoomRequest {
            peer: &other,
            itself: None
        },
        1,
        now,
        &mut nothing_to_revoke
    ));
    assert!(held[0].is_revoked());
}

/// The memory of an earlier search never claims that a search would find nothing when it would find something.
#[test]
fn a_remembered_failed_search_agrees_with_a_new_search() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let quotas = quotas(1000);
        let peers: Vec<_> = (0..6).map(|n| peer(&quotas, n / 2)).collect();
        let held: Vec<_> = (0..20)
            .map(|_| {
                let held = peers[random.usize(..6)]
                    .reserve(R, random.u64(1..9))
                    .unwrap();
                let phases = [
                    RevocablePhase::Working,
                    RevocablePhase::Working,
                    RevocablePhase::Queued,
                    RevocablePhase::WaitsForClient,
                ];
                held.set_phase(phases[random.usize(..4)]).unwrap();
                held
            })
            .collect();
        let (mut nothing_to_revoke, now) = (NothingToRevoke::default(), Instant::now());
        for _ in 0..20 {
            let peer = &peers[random.usize(..6)];
            let room_request = RoomRequest { peer, itself: None };
            let amount = random.u64(1..30);
            let wanted = room_request.wanted(R, amount);
            let changes = quotas.total(R).changes.load(Relaxed);
            let is_remembered = nothing_to_revoke.is_fresh(changes, now)
                && nothing_to_revoke.holds_for(peer.source, wanted);
            let found = quotas.make_room(R, room_request, amount, now);
            assert!(!(is_remembered && found), "seed {seed}");
            if !found {
                assert!(!quotas.find_room(R, room_request, amount, now, &mut nothing_to_revoke));
                assert!(
                    nothing_to_revoke.holds_for(peer.source, wanted),
                    "seed {seed}"
                );
            }
        }
        drop(held);
    }
}

/// The server lets a client without a connection wait ahead of all others: see `server::reserve_connection`.
#[test]
fn if_a_client_without_reservations_finds_no_room_no_client_does() {
    let connections = QuotaResource::Connections;
    let mut nothing_to_revoke = 0;
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let quotas = quotas(6);
        let peers: Vec<_> = (0..4).map(|n| peer(&quotas, n / 2)).collect();
        let held: Vec<_> = (0..6)
            .map(|_| {
                let held = peers[random.usize(..4)].reserve(connections, 1).unwrap();
                let phase = match random.u8(..8) {
                    0 => RevocablePhase::Queued,
                    1 => RevocablePhase::WaitsForClient,
                    _ => RevocablePhase::Working,
                };
                held.set_phase(phase).unwrap();
                held
            })
            .collect();
        if !make_room(&peer(&quotas, 100), connections, 1, Duration::ZERO) {
            nothing_to_revoke += 1;
            let proxy = quotas.exempt();
            for other in peers.iter().chain([&proxy]) {
                let found = make_room(other, connections, 1, Duration::ZERO);
                assert!(!found, "seed {seed}");
            }
        }
        drop(held);
    }
    assert!(nothing_to_revoke > 0);
}

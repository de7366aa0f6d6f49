//! Totals, peers and reservations, one call at a time and at random.

use super::*;

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

const R: QuotaResource = QuotaResource::Requests;

#[test]
fn a_peer_is_an_address_or_a_64_bit_network() {
    let key = |text: &str| PeerKey::of(text.parse().unwrap());
    assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:2"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
}

#[test]
fn one_peer_may_reserve_the_whole_quota_and_release_it() {
    let quotas = quotas(3);
    let one = peer(&quotas, 1);
    let held: Vec<_> = (0..3).map(|_| one.reserve(R, 1).unwrap()).collect();
    assert_eq!(one.reserve(R, 1).unwrap_err(), QuotaFull);
    assert_eq!((quotas.used(R), quotas.refused(R)), (3, 1));
    drop(held);
    assert_eq!(quotas.used(R), 0);
    assert!(one.reserve(R, 3).is_ok());
    assert_eq!(
        one.reserve(R, 4).unwrap_err(),
        QuotaFull,
        "more than there is"
    );
}

#[test]
fn the_oldest_wait_of_the_largest_peer_is_revoked() {
    let quotas = quotas(4);
    let (large, small, new) = (peer(&quotas, 1), peer(&quotas, 2), peer(&quotas, 3));
    let of_small = small.reserve(R, 1).unwrap();
    of_small.set_phase(RevocablePhase::WaitsForClient).unwrap();
    let of_large: Vec<_> = (0..3).map(|_| large.reserve(R, 1).unwrap()).collect();
    of_large[1]
        .set_phase(RevocablePhase::WaitsForClient)
        .unwrap();
    of_large[0]
        .set_phase(RevocablePhase::WaitsForClient)
        .unwrap();

    let taken = new.reserve(R, 1).unwrap();

    let revoked: Vec<_> = of_large.iter().map(Reservation::is_revoked).collect();
    assert_eq!(revoked, [false, true, false]);
    assert!(!of_small.is_revoked());
    assert_eq!((quotas.used(R), quotas.revoked(R)), (4, 1));
    assert_eq!(of_large[1].set_phase(RevocablePhase::Working), Err(Revoked));
    assert_eq!(of_large[1].grow(1), Err(QuotaFull));
    drop((of_large, of_small, taken));
    assert_eq!(
        quotas.used(R),
        0,
        "a revoked reservation gives nothing back twice"
    );
}

#[test]
fn a_peer_revokes_its_own_stalled_but_not_its_own_queued_reservations() {
    let quotas = quotas(2);
    let one = peer(&quotas, 1);
    let (stalled, queued) = (one.reserve(R, 1).unwrap(), one.reserve(R, 1).unwrap());
    queued.set_phase(RevocablePhase::Queued).unwrap();
    assert_eq!(one.reserve(R, 1).unwrap_err(), QuotaFull);
    stalled.set_phase(RevocablePhase::WaitsForClient).unwrap();
    assert!(one.reserve(R, 1).is_ok());
    assert!(stalled.is_revoked() && !queued.is_revoked());
}

#[test]
fn a_queued_request_gives_way_to_a_smaller_peer_only() {
    let quotas = quotas(3);
    let (large, small) = (peer(&quotas, 1), peer(&quotas, 2));
    let of_large: Vec<_> = (0..3).map(|_| large.reserve(R, 1).unwrap()).collect();
    for reservation in &of_large {
        reservation.set_phase(RevocablePhase::Queued).unwrap();
    }
    let first = small.reserve(R, 1).unwrap();
    first.set_phase(RevocablePhase::Queued).unwrap();
    assert!(of_large[0].is_revoked());
    assert_eq!(
        large.reserve(R, 1).unwrap_err(),
        QuotaFull,
        "it holds more than the other"
    );
    assert!(!first.is_revoked());
}

#[test]
fn a_queued_request_gives_way_to_a_connection_of_its_address_that_has_fewer() {
    let quotas = quotas(3);
    let (flood, visitor) = (peer(&quotas, 1), peer(&quotas, 1));
    let queued: Vec<_> = (0..3).map(|_| flood.reserve(R, 1).unwrap()).collect();
    for reservation in &queued {
        reservation.set_phase(RevocablePhase::Queued).unwrap();
    }
    let first = visitor.reserve(R, 1).unwrap();
    first.set_phase(RevocablePhase::Queued).unwrap();
    let revoked: Vec<_> = queued.iter().map(Reservation::is_revoked).collect();
    assert_eq!(revoked, [true, false, false]);
    assert_eq!(
        visitor.reserve(R, 1).unwrap_err(),
        QuotaFull,
        "both have two then"
    );
    assert_eq!(flood.reserve(R, 1).unwrap_err(), QuotaFull);
    assert!(!first.is_revoked());
}

#[test]
fn a_reservation_in_the_working_phase_is_never_revoked() {
    let quotas = quotas(2);
    let (large, small) = (peer(&quotas, 1), peer(&quotas, 2));
    let held: Vec<_> = (0..2).map(|_| large.reserve(R, 1).unwrap()).collect();
    held[0].set_phase(RevocablePhase::WaitsForClient).unwrap();
    held[0].set_phase(RevocablePhase::Working).unwrap();
    assert_eq!(small.reserve(R, 1).unwrap_err(), QuotaFull);
    assert!(held.iter().all(|reservation| !reservation.is_revoked()));
}

#[test]
fn among_equal_peers_the_oldest_waiting_reservation_is_revoked() {
    let quotas = quotas(8);
    let held: Vec<_> = (0..8)
        .map(|last| peer(&quotas, last).reserve(R, 1).unwrap())
        .collect();
    for number in [3, 0, 1, 2, 4, 5, 6, 7] {
        held[number]
            .set_phase(RevocablePhase::WaitsForClient)
            .unwrap();
    }
    let _new = peer(&quotas, 100).reserve(R, 1).unwrap();
    let revoked: Vec<_> = held.iter().map(Reservation::is_revoked).collect();
    assert_eq!(revoked.iter().filter(|is| **is).count(), 1);
    assert!(revoked[3]);
}

#[test]
fn an_exempt_peer_is_never_revoked_and_may_revoke_any_other() {
    let quotas = quotas(2);
    let (proxy, one) = (quotas.exempt(), peer(&quotas, 1));
    let of_proxy = proxy.reserve(R, 1).unwrap();
    of_proxy.set_phase(RevocablePhase::WaitsForClient).unwrap();
    let of_one = one.reserve(R, 1).unwrap();
    of_one.set_phase(RevocablePhase::WaitsForClient).unwrap();
    let second = proxy.reserve(R, 1).unwrap();
    assert!(of_one.is_revoked() && !of_proxy.is_revoked());
    assert_eq!(one.reserve(R, 1).unwrap_err(), QuotaFull);
    drop(second);
}

#[test]
fn a_peer_is_forgotten_with_its_last_reservation() {
    let quotas = quotas(4);
    let held = {
        let one = peer(&quotas, 1);
        let same = peer(&quotas, 1);
        assert_eq!(quotas.peers(), 1);
        (one.reserve(R, 1).unwrap(), same.reserve(R, 1).unwrap())
    };
    assert_eq!(quotas.peers(), 1);
    drop(held);
    assert_eq!(quotas.peers(), 0);
}

#[test]
fn clones_hold_one_amount_until_the_last_of_them_ends() {
    let quotas = quotas(2);
    let first = peer(&quotas, 1).reserve(R, 2).unwrap();
    let second = first.clone();
    drop(first);
    assert_eq!((quotas.used(R), second.amount()), (2, 2));
    drop(second);
    assert_eq!((quotas.used(R), quotas.peers()), (0, 0));
}

#[test]
fn an_owner_may_revoke_its_own_reservation() {
    let quotas = quotas(1);
    let held = peer(&quotas, 1).reserve(R, 1).unwrap();
    assert!(held.revoke() && !held.revoke());
    assert_eq!((quotas.used(R), quotas.revoked(R)), (0, 1));
    assert_eq!(held.set_phase(RevocablePhase::Queued), Err(Revoked));
}

#[tokio::test]
async fn the_owner_of_a_revoked_reservation_is_notified() {
    let quotas = quotas(1);
    let held = peer(&quotas, 1).reserve(R, 1).unwrap();
    held.set_phase(RevocablePhase::WaitsForClient).unwrap();
    let revoked = tokio::spawn(async move { held.revoked().await });
    tokio::task::yield_now().await;
    let _taken = peer(&quotas, 2).reserve(R, 1).unwrap();
    revoked.await.unwrap();
}

/// Random reservations, waits and returns: the sum never exceeds the total, and is 0 at the end.
#[test]
fn quotas_are_never_exceeded_under_random_operations() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let quotas = quotas(40);
        let mut held: Vec<Reservation> = Vec::new();
        for _ in 0..2_000 {
            match random.u8(..6) {
                0..=2 => {
                    let amount = random.u64(1..6);
                    let before = quotas.used(R);
                    match peer(&quotas, random.u8(..5)).reserve(R, amount) {
                        Ok(reservation) => held.push(reservation),
                        Err(QuotaFull) => {
                            assert!(before + amount > 40, "refused while there was room")
                        }
                    }
                }
                3 if !held.is_empty() => {
                    held.swap_remove(random.usize(..held.len()));
                }
                4 if !held.is_empty() => {
                    let phase = [
                        RevocablePhase::Working,
                        RevocablePhase::Queued,
                        RevocablePhase::WaitsForClient,
                    ][random.usize(..3)];
                    let _ = held[random.usize(..held.len())].set_phase(phase);
                }
                _ if !held.is_empty() => {
                    let one = &held[random.usize(..held.len())];
                    if random.bool() {
                        let _ = one.grow(random.u64(1..4));
                    } else {
                        one.shrink(random.u64(1..4));
                    }
                }
                _ => {}
            }
            let sum: u64 = held.iter().map(Reservation::amount).sum();
            assert_eq!(sum, quotas.used(R), "seed {seed}");
            assert!(sum <= 40, "seed {seed}");
        }
        drop(held);
        assert_eq!((quotas.used(R), quotas.peers()), (0, 0), "seed {seed}");
    }
}

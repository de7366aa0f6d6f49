//! Charges of answers and the outboxes of connections.

use std::net::IpAddr;

use futures_util::FutureExt as _;

use super::super::{QuotaTotals, Quotas};
use super::*;

const R: QuotaResource = QuotaResource::ResponseBytes;
const EACH: u64 = limits::UNTAKEN_ANSWER_BYTES;

fn quotas(response_bytes: u64) -> Arc<Quotas> {
    Quotas::new(QuotaTotals {
        response_bytes,
        ..QuotaTotals::default()
    })
}

fn client(quotas: &Arc<Quotas>) -> QuotaPeer {
    quotas.peer(IpAddr::from([127, 0, 0, 1]))
}

fn piece(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

fn is_revoked(charge: &BodyCharge) -> bool {
    charge.revoked().now_or_never().is_some()
}

#[test]
fn bytes_are_charged_for_until_they_are_dropped() {
    let quotas = quotas(1 << 20);
    let charge = BodyCharge::new(&client(&quotas), 1100, None).unwrap();
    assert_eq!(quotas.used(R), EACH + 1100);

    let handed = charge.hand_over(piece(1100), None).unwrap();
    assert_eq!((quotas.used(R), &handed[..2]), (EACH + 1100, &[7, 7][..]));
    let part = handed.slice(..10);
    drop((handed, charge));
    assert_eq!(quotas.used(R), EACH + 1100, "a part keeps the whole");
    drop(part);

    assert_eq!(quotas.used(R), 0);
}

#[test]
fn bytes_not_held_before_are_charged_when_they_are_handed_over() {
    let quotas = quotas(EACH + 1000);
    let charge = BodyCharge::new(&client(&quotas), 100, None).unwrap();
    charge.try_hold(100).unwrap();
    let handed = charge.hand_over(piece(500), None).unwrap();
    assert_eq!(quotas.used(R), EACH + 500);
    assert_eq!(charge.try_hold(501), Err(QuotaFull));
    assert!(
        !is_revoked(&charge),
        "nothing is cut for what is read ahead"
    );
    assert_eq!(charge.hand_over(piece(501), None), Err(QuotaFull));
    assert!(
        !is_revoked(&charge),
        "an answer makes no room for itself by its own end"
    );
    drop(handed);
    assert!(
        charge.hand_over(piece(501), None).is_ok(),
        "there is room again"
    );
    drop(charge);
    assert_eq!(quotas.used(R), 0);
}

#[test]
fn bytes_read_ahead_are_charged_once_and_keep_their_reservation() {
    let quotas = quotas(EACH + 1000);
    let client = client(&quotas).of_one_request();
    let read_ahead = client.reserve(R, 900).unwrap();
    let charge = BodyCharge::new(&client, 100, None).unwrap();
    let handed = charge.hand_over(piece(600), Some(&read_ahead)).unwrap();
    assert_eq!((quotas.used(R), read_ahead.amount()), (EACH + 1000, 400));
    assert_eq!(
        charge.hand_over(piece(401), Some(&read_ahead)),
        Err(QuotaFull)
    );
    assert_eq!(read_ahead.amount(), 0, "the charge holds it now");
    assert!(!is_revoked(&charge));
    drop(handed);
    let rest = charge.hand_over(piece(401), Some(&read_ahead)).unwrap();
    assert_eq!(quotas.used(R), EACH + 401);
    drop((charge, rest));
    assert_eq!(quotas.used(R), 0);
}

#[test]
fn fields_are_charged_for_with_their_bookkeeping() {
    let mut fields = HeaderMap::new();
    fields.append("x-a", "123".parse().unwrap());
    fields.append("x-a", "1".parse().unwrap());
    assert_eq!(fields_bytes(&fields), 2 * 35 + 4);
}

#[test]
fn a_charge_reports_when_all_bytes_of_its_body_have_left() {
    let charge = BodyCharge::new(&client(&quotas(1 << 20)), 0, None).unwrap();
    let left = || {
        std::future::poll_fn(|cx| charge.poll_left(cx))
            .now_or_never()
            .is_some()
    };
    assert!(left());
    let (first, second) = (
        charge.hand_over(piece(1), None),
        charge.hand_over(piece(1), None),
    );
    drop(first);
    assert!(!left());
    drop(second);
    assert!(left());
}

#[test]
fn an_outbox_over_its_limit_revokes_the_response_stalled_longest() {
    let (quotas, outbox) = (quotas(1 << 20), ConnectionOutbox::new(3 * EACH));
    let new = || BodyCharge::new(&client(&quotas), 0, Some(&outbox)).unwrap();
    let charges = [new(), new(), new()];
    let fresh = new();
    assert!(
        charges.iter().all(|charge| !is_revoked(charge)),
        "none has stalled yet"
    );
    {
        let mut answers = outbox.answers.lock();
        let long_ago = Instant::now() - limits::UNTAKEN_STALL_MIN;
        answers.each[0].moved_at = long_ago;
        answers.each[1].moved_at = long_ago - Duration::from_secs(1);
    }

    let last = new();

    let revoked: Vec<_> = charges.iter().map(is_revoked).collect();
    assert_eq!(revoked, [true, true, false]);
    assert_eq!(outbox.answers.lock().bytes, 3 * EACH);
    assert_eq!(quotas.used(R), 3 * EACH);
    drop((charges, fresh, last));
    let answers = outbox.answers.lock();
    assert_eq!(
        (answers.bytes, answers.each.len(), quotas.used(R)),
        (0, 0, 0)
    );
}

#[test]
fn a_single_response_may_exceed_the_limit_of_its_outbox() {
    let (quotas, outbox) = (quotas(1 << 20), ConnectionOutbox::new(EACH));
    let charge = BodyCharge::new(&client(&quotas), 1000, Some(&outbox)).unwrap();
    let _handed = charge.hand_over(piece(2000), None).unwrap();
    assert_eq!(charge.try_hold(1), Err(QuotaFull));
    assert!(!is_revoked(&charge));
}

#[test]
fn only_a_few_bytes_of_a_connection_may_outlive_their_streams() {
    let (quotas, outbox) = (quotas(1 << 20), ConnectionOutbox::new(1 << 20));
    let new = || BodyCharge::new(&client(&quotas), 0, Some(&outbox)).unwrap();
    let (one, other) = (new(), new());
    let first = one
        .hand_over(piece(limits::UNTAKEN_LET_GO_BYTES_MAX as usize), None)
        .unwrap();
    assert!(one.may_let_go());
    let second = other.hand_over(piece(1), None).unwrap();
    assert!(!other.may_let_go() && !one.may_let_go());
    drop(first);
    assert!(other.may_let_go());
    drop(second);
    let each = || {
        let charge = new();
        (charge.hand_over(piece(1), None).unwrap(), charge)
    };
    let most = limits::UNTAKEN_LET_GO_ANSWERS_MAX as usize;
    let mut answers: Vec<_> = (0..=most).map(|_| each()).collect();
    assert!(!one.may_let_go(), "so many answers");
    answers.pop();
    assert!(one.may_let_go());
    let of_http1 = BodyCharge::new(&client(&quotas), 0, None).unwrap();
    let _large = of_http1.hand_over(piece(1 << 18), None).unwrap();
    assert!(of_http1.may_let_go(), "its connection is closed instead");
}

/// Random answers, pieces and ends, with revocations: no byte is charged twice, and no charge is left behind.
#[test]
fn charges_add_up_under_random_operations() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (quotas, outbox) = (quotas(20 * EACH), ConnectionOutbox::new(8 * EACH));
        let (mut charges, mut pieces): (Vec<BodyCharge>, Vec<Bytes>) = Default::default();
        for _ in 0..1_000 {
            match random.u8(..5) {
                0 => {
                    let peer = quotas.peer(IpAddr::from([127, 0, 0, random.u8(..4)]));
                    let outbox = random.bool().then_some(&outbox);
                    charges.extend(BodyCharge::new(&peer, random.u64(..EACH), outbox));
                }
                1 if !charges.is_empty() => {
                    let charge = &charges[random.usize(..charges.len())];
                    pieces.extend(charge.hand_over(piece(random.usize(..EACH as usize)), None));
                }
                2 if !charges.is_empty() => {
                    let _ = charges[random.usize(..charges.len())].try_hold(random.u64(..EACH));
                }
                3 if !pieces.is_empty() => drop(pieces.swap_remove(random.usize(..pieces.len()))),
                _ if !charges.is_empty() => {
                    drop(charges.swap_remove(random.usize(..charges.len())))
                }
                _ => {}
            }
            assert!(quotas.used(R) <= 20 * EACH, "seed {seed}");
        }
        drop((charges, pieces));
        let answers = outbox.answers.lock();
        assert_eq!((answers.bytes, answers.each.len()), (0, 0), "seed {seed}");
        assert_eq!(
            (quotas.used(R), outbox.handed.load(Relaxed)),
            (0, 0),
            "seed {seed}"
        );
    }
}

//! Tests when a version has failed too often, and how many clients that takes.

use super::*;

const THRESHOLDS: FailureThresholds = FailureThresholds {
    window: Duration::from_secs(60),
    requests_min: 4,
    clients_min: 3,
    errors_max: 0.5,
    traps_max: 0.25,
    deadline_misses_max: 0.25,
};

fn is_tripped(health: &VersionHealth) -> bool {
    health.has_tripped.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_high_failure_rate_trips_only_after_a_minimum_of_requests() {
    let health = VersionHealth::new(Some(THRESHOLDS));
    health.note(RequestOutcome::Trapped, None);
    health.note(RequestOutcome::Trapped, None);
    health.note(RequestOutcome::Served, None);
    assert!(!is_tripped(&health), "three requests are too few");

    health.note(RequestOutcome::Trapped, None);

    health.tripped().await;
    let tally = health.window_counts();
    assert_eq!((tally.requests, tally.traps), (4, 3));
}

#[test]
fn a_share_at_its_threshold_is_allowed() {
    let health = VersionHealth::new(Some(THRESHOLDS));
    for _ in 0..3 {
        health.note(RequestOutcome::Served, None);
    }
    health.note(RequestOutcome::Late, None);
    assert!(!is_tripped(&health), "one of four is a quarter");
    health.note(RequestOutcome::Late, None);
    assert!(is_tripped(&health));
}

#[test]
fn each_kind_has_its_threshold() {
    for (outcome, allowed) in [
        (RequestOutcome::Errored, 4),
        (RequestOutcome::Trapped, 1),
        (RequestOutcome::Late, 1),
    ] {
        let health = VersionHealth::new(Some(THRESHOLDS));
        for _ in 0..4 {
            health.note(RequestOutcome::Served, None);
        }
        for _ in 0..allowed {
            health.note(outcome, None);
        }
        assert!(!is_tripped(&health), "{outcome:?}");
        health.note(outcome, None);
        assert!(is_tripped(&health), "{outcome:?}");
    }
}

#[test]
fn outcomes_older_than_the_window_are_dropped() {
    let health = VersionHealth::new(Some(FailureThresholds {
        window: Duration::from_millis(20),
        ..THRESHOLDS
    }));
    for _ in 0..3 {
        health.note(RequestOutcome::Trapped, None);
    }
    std::thread::sleep(Duration::from_millis(40));
    health.note(RequestOutcome::Trapped, None);
    assert_eq!(health.window_counts().requests, 1);
    assert!(!is_tripped(&health));
}

#[test]
fn without_thresholds_nothing_trips() {
    let health = VersionHealth::new(None);
    for _ in 0..100 {
        health.note(RequestOutcome::Trapped, None);
    }
    assert!(!is_tripped(&health));
    assert_eq!(health.window_counts().traps, 100);
}

fn client(number: u8) -> Option<PeerKey> {
    Some(PeerKey::of([127, 0, 0, number].into()))
}

fn health(clients_min: usize) -> VersionHealth {
    VersionHealth::new(Some(FailureThresholds {
        clients_min,
        ..THRESHOLDS
    }))
}

/// Returns whether a version trips over `failures`, each from a different client, after good requests from `good` clients.
fn trips(clients_min: usize, good: u8, failures: &[u8]) -> bool {
    let health = health(clients_min);
    for number in 0..good {
        health.note(RequestOutcome::Served, client(number));
    }
    for number in failures {
        health.note(RequestOutcome::Errored, client(*number));
    }
    is_tripped(&health)
}

#[test]
fn failures_must_come_from_as_many_clients_as_good_requests_do() {
    assert!(!trips(3, 5, &[7; 40]), "one client fails");
    assert!(!trips(3, 3, &[7, 8].repeat(20)), "two clients fail");
    assert!(trips(3, 3, &[7, 8, 9].repeat(20)), "three clients fail");
    assert!(
        trips(3, 2, &[7; 40]),
        "two clients are too few to compare with"
    );
    assert!(trips(3, 0, &[7; 40]), "all come through one proxy");
    assert!(
        trips(1, 5, &[7; 40]),
        "one client is enough if so configured"
    );
    assert!(trips(CLIENTS_MAX, 20, &(0..200).collect::<Vec<_>>()));
}

#[test]
fn each_kind_of_failure_needs_its_own_clients() {
    let health = health(3);
    for number in 0..3 {
        health.note(RequestOutcome::Served, client(number));
        health.note(RequestOutcome::Trapped, client(number));
    }
    assert!(
        is_tripped(&health),
        "three of six trapped, for three clients"
    );
    let health = super::tests::health(3);
    for number in 0..3 {
        health.note(RequestOutcome::Served, client(number));
    }
    health.note(RequestOutcome::Late, client(7));
    health.note(RequestOutcome::Late, client(8));
    for _ in 0..8 {
        health.note(RequestOutcome::Trapped, client(7));
    }
    assert!(!is_tripped(&health), "no kind has three clients");
}

#[test]
fn an_ipv6_network_is_one_client() {
    let health = health(2);
    let address = |last: &str| Some(PeerKey::of(format!("2001:db8::{last}").parse().unwrap()));
    for number in 0..2 {
        health.note(RequestOutcome::Served, client(number));
    }
    for last in ["1", "2", "3", "4", "5", "6"] {
        health.note(RequestOutcome::Errored, address(last));
    }
    assert_eq!(health.clients(RequestOutcome::Errored), 1);
    assert!(!is_tripped(&health));
}

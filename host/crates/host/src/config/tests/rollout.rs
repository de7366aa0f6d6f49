//! Tests of `probe`, `drain`, `canary` and `rollback` of a guest.

use super::*;
use cloakroom_runtime::{Rollback, Rollout};

/// Returns a guest with these lines in its table, and a route to it.
fn guest(lines: &str) -> String {
    format!(
        "[[route]]\npath = \"/{{*rest}}\"\nguest = \"a\"\n[guest.a]\ncomponent = \"a.wasm\"\n{lines}"
    )
}

fn rollout(lines: &str) -> Rollout {
    Read::of(&guest(lines)).config().guests[0].rollout.clone()
}

#[test]
fn every_rollout_key_is_read() {
    let rollout = rollout(
        "probe = \"/health?deep=1\"\ndrain = \"5s\"\n\
         canary = { share = \"2.5%\", duration = \"1m\" }\n\
         rollback = { probation = \"1h\", window = \"30s\", requests = 7, traps = \"1%\", errors = \"100%\", \
         deadline_misses = \"3 %\" }",
    );
    assert_eq!(rollout.probe.as_deref(), Some("/health?deep=1"));
    assert_eq!(rollout.drain_max, Duration::from_secs(5));
    let canary = rollout.canary.unwrap();
    assert_eq!(
        (canary.share, canary.duration),
        (0.025, Duration::from_secs(60))
    );
    let Rollback {
        probation,
        thresholds,
    } = rollout.rollback.unwrap();
    assert_eq!(probation, Duration::from_secs(3600));
    assert_eq!(
        (thresholds.window, thresholds.requests_min),
        (Duration::from_secs(30), 7)
    );
    assert_eq!(
        (
            thresholds.traps_max,
            thresholds.errors_max,
            thresholds.deadline_misses_max
        ),
        (0.01, 1.0, 0.03)
    );
}

#[test]
fn a_rollback_can_be_refused_and_a_canary_is_asked_for_by_its_share() {
    assert_eq!(rollout("rollback = { enabled = false }").rollback, None);
    assert_eq!(rollout("canary = { duration = \"1m\" }").canary, None);
    assert_eq!(rollout(""), Rollout::default());
}

#[test]
fn wrong_values_are_named_with_a_remedy() {
    for (lines, expected) in [
        (
            "canary = { share = 10 }",
            "guest.a.canary.share: expected a percentage, found an integer",
        ),
        (
            "canary = { share = \"0%\" }",
            "guest.a.canary.share: \"0%\" is not a percentage above 0%",
        ),
        (
            "rollback = { traps = \"101%\" }",
            "guest.a.rollback.traps: \"101%\" is not a percentage",
        ),
        (
            "rollback = { window = \"2h\" }",
            "guest.a.rollback.window: 2h is not a valid window",
        ),
        (
            "probe = \"health\"",
            "guest.a.probe: \"health\" is not a valid path",
        ),
    ] {
        let faults = Read::of(&guest(lines)).faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(expected), "{faults:?}");
        assert!(faults[0].contains("write "), "{faults:?}");
    }
}

//! Every way in which a guest can fail, in both worlds: the resulting error, and that the next request succeeds.

use super::*;
use crate::FaultParty;

const FAULTS: [&str; 2] = ["fixture-faults", "fixture-faults-service"];

#[tokio::test]
async fn a_panic_is_a_trap_and_the_next_request_is_served() {
    for name in FAULTS {
        let guest = guest(name);
        for _ in 0..3 {
            let failure = get(&guest, "/trap").await.unwrap_err();
            assert!(
                matches!(failure, GuestFailure::Trap { .. }),
                "{name}: {failure:?}"
            );
            assert_eq!(failure.fault(), FaultParty::Guest);
            assert_eq!(text(&guest, "/").await, "hello\n", "{name}");
        }
    }
}

#[tokio::test]
async fn unreachable_and_a_stack_overflow_are_traps() {
    let guest = guest("fixture-faults");
    for target in ["/unreachable", "/stack"] {
        let failure = get(&guest, target).await.unwrap_err();
        assert!(
            matches!(failure, GuestFailure::Trap { .. }),
            "{target}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn an_exit_instead_of_a_response_is_a_distinct_failure() {
    let guest = guest("fixture-faults");
    let failure = get(&guest, "/exit").await.unwrap_err();
    assert!(matches!(failure, GuestFailure::Exit { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_missing_response_and_an_error_code_are_distinct_failures() {
    let guest = guest("fixture-faults");
    assert_eq!(
        get(&guest, "/no-response").await.unwrap_err(),
        GuestFailure::NoResponse
    );
    for name in FAULTS {
        let failure = get(&super::guest(name), "/error-code").await.unwrap_err();
        assert!(
            matches!(failure, GuestFailure::ErrorCode { .. }),
            "{name}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn an_endless_loop_ends_at_the_deadline() {
    for name in FAULTS {
        let guest = limited(name, |limits| limits.deadline = Duration::from_millis(200));
        let started = Instant::now();
        let failure = get(&guest, "/spin").await.unwrap_err();
        let took = started.elapsed();
        assert_eq!(failure, GuestFailure::Deadline, "{name}");
        assert!(took >= Duration::from_millis(200), "{name}: {took:?}");
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        assert_eq!(text(&guest, "/").await, "hello\n", "{name}");
    }
}

#[tokio::test]
async fn endless_loops_do_not_starve_other_guests() {
    let spinning = limited("fixture-faults", |limits| {
        limits.deadline = Duration::from_secs(1)
    });
    let guest = guest("fixture-hello");
    let spin = || get(&spinning, "/spin");
    let others = async {
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(text(&guest, "/").await, "hello\n");
            longest = longest.max(started.elapsed());
        }
        longest
    };
    // All of them run on one thread.
    let (first, second, longest) = tokio::join!(spin(), spin(), others);
    assert_eq!(
        (first.unwrap_err(), second.unwrap_err()),
        (GuestFailure::Deadline, GuestFailure::Deadline)
    );
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}

#[tokio::test]
async fn a_sleep_longer_than_the_deadline_ends_at_it() {
    for name in FAULTS {
        let guest = limited(name, |limits| limits.deadline = Duration::from_millis(100));
        assert_eq!(
            get(&guest, "/sleep?5000").await.unwrap_err(),
            GuestFailure::Deadline,
            "{name}"
        );
        assert_eq!(text(&guest, "/sleep?1").await, "slept\n", "{name}");
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_and_named() {
    for name in FAULTS {
        let guest = limited(name, |limits| limits.memory_bytes_max = 16 << 20);
        let failure = get(&guest, "/grow").await.unwrap_err();
        assert_eq!(
            failure,
            GuestFailure::MemoryRefused {
                memory_bytes_max: 16 << 20
            },
            "{name}"
        );
        assert_eq!(text(&guest, "/").await, "hello\n", "{name}");
    }
    let guest = limited("fixture-faults", |limits| {
        limits.memory_bytes_max = 16 << 20
    });
    let answer = text(&guest, "/grow-politely").await;
    assert!(answer.ends_with("MiB then refused\n"), "{answer}");
}

#[tokio::test]
async fn a_task_that_nothing_can_wake_fails_at_once_or_at_the_deadline() {
    let guest = limited("fixture-faults-service", |limits| {
        limits.deadline = Duration::from_millis(300)
    });
    let failure = get(&guest, "/never").await.unwrap_err();
    assert!(
        matches!(failure, GuestFailure::Trap { .. } | GuestFailure::Deadline),
        "{failure:?}"
    );
}

#[tokio::test]
async fn every_request_has_a_fresh_instance() {
    for name in FAULTS {
        let guest = guest(name);
        for _ in 0..3 {
            assert_eq!(text(&guest, "/instance").await, "0\n", "{name}");
        }
    }
}

#[tokio::test]
async fn a_guest_sees_only_the_environment_that_it_was_given() {
    let mut settings = settings("fixture-faults");
    settings.environment = vec![("GREETING".to_owned(), "hi".to_owned())];
    let seen = text(&load(settings), "/env").await;
    assert!(seen.contains(r#"env: [("GREETING", "hi")]"#), "{seen}");
    assert!(
        seen.contains("args: []") && seen.contains("dir: Err") && seen.contains("socket: Err"),
        "{seen}"
    );
    assert!(seen.contains("listen: Err"), "{seen}");
}

//! The limits of a request: bodies, headers, instances, and output.

use super::*;
use cloakroom_base::deadline::Deadline;
use cloakroom_session::ReplayPolicy;

#[tokio::test]
async fn a_request_body_comes_back_whole() {
    let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = guest(name);
        let mut invocation = invocation(&guest, Method::POST, "/echo", sent.clone());
        for _ in 0..2 {
            let echoed = body(run(&mut invocation).await.unwrap()).await.unwrap();
            assert!(
                echoed == sent,
                "{name}: {} of {} bytes",
                echoed.len(),
                sent.len()
            );
            assert_eq!(invocation.replay(), ReplayPolicy::Possible, "{name}");
        }
    }
}

#[tokio::test]
async fn a_request_body_beyond_its_limit_is_always_the_clients_fault() {
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = limited(name, |limits| limits.request_body_bytes_max = 10_000);
        let mut invocation = invocation(&guest, Method::POST, "/echo", vec![b'x'; 10_001]);
        let failure = run(&mut invocation).await.unwrap_err();
        assert_eq!(
            failure,
            GuestFailure::RequestBodyTooLarge { bytes_max: 10_000 },
            "{name}"
        );
        // A guest that does not read the body is not affected.
        let unread = super::invocation(&guest, Method::POST, "/", vec![b'x'; 10_001]);
        assert!(run(&mut { unread }).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_replay_limit_prevents_a_rerun() {
    let guest = limited("fixture-faults", |limits| limits.replay_bytes_max = 1000);
    let mut invocation = invocation(&guest, Method::POST, "/echo", vec![b'x'; 1001]);
    assert_eq!(invocation.replay(), ReplayPolicy::Possible);
    assert_eq!(
        body(run(&mut invocation).await.unwrap())
            .await
            .unwrap()
            .len(),
        1001
    );
    assert_eq!(invocation.replay(), ReplayPolicy::BodyGone);
}

#[tokio::test]
async fn a_response_body_beyond_its_limit_is_refused_before_its_release_and_cut_after() {
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = limited(name, |limits| limits.response_body_bytes_max = Some(10_000));
        let failure = get(&guest, "/huge?1").await.unwrap_err();
        assert_eq!(
            failure,
            GuestFailure::ResponseTooLarge { bytes_max: 10_000 },
            "{name}"
        );
        let guest = limited(name, |limits| {
            limits.response_body_bytes_max = Some(200_000)
        });
        let released = get(&guest, "/huge?1").await.unwrap();
        assert_eq!(
            body(released).await.unwrap_err(),
            GuestFailure::ResponseTooLarge { bytes_max: 200_000 },
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_huge_body_streams_through() {
    for name in ["fixture-faults", "fixture-faults-service"] {
        let released = get(&guest(name), "/huge?32").await.unwrap();
        assert!(!released.body.is_complete());
        assert_eq!(body(released).await.unwrap().len(), 32 << 20, "{name}");
    }
}

#[tokio::test]
async fn excessive_response_headers_are_refused_and_the_host_continues() {
    let guest = guest("fixture-faults");
    let answer = get(&guest, "/header-bytes?1000").await.unwrap();
    assert_eq!(answer.head.headers["x-long"].len(), 1000);
    for target in ["/many-headers?100000", "/header-bytes?1000000"] {
        match get(&guest, target).await {
            Ok(released) => assert!(released.head.headers.len() < 10_000, "{target}"),
            Err(failure) => assert!(
                matches!(
                    failure,
                    GuestFailure::Trap { .. } | GuestFailure::ResponseHeadTooLarge { .. }
                ),
                "{target}: {failure:?}"
            ),
        }
        assert_eq!(text(&guest, "/").await, "hello\n", "{target}");
    }
}

#[tokio::test]
async fn the_limit_of_running_instances_is_not_exceeded() {
    let options = RuntimeOptions {
        instances_max: 1,
        instance_waiters_max: 1,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(&options).unwrap();
    let guest = Arc::new(runtime.load(settings("fixture-faults")).unwrap());
    let sleep = || async { get(&guest, "/sleep?100").await.map(|_| ()) };
    let outcomes: [_; 3] = tokio::join!(sleep(), sleep(), sleep()).into();
    let refused = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(GuestFailure::NoInstance))
        .count();
    assert_eq!(refused, 1, "{outcomes:?}");
    assert_eq!(
        outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
        2,
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_guests_own_number_of_instances_holds_and_an_endless_loop_gives_its_slot_back() {
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = limited(name, |limits| {
            limits.instances_max = 1;
            limits.waiters_max = 1;
            limits.deadline = Duration::from_millis(300);
        });
        let mut patient = request(&guest, Method::GET, "/", "");
        patient.deadline = Deadline::after(Duration::from_secs(10));
        let mut patient = Invocation::new(Arc::clone(&guest), patient);
        let (first, second, third) =
            tokio::join!(get(&guest, "/spin"), run(&mut patient), get(&guest, "/"));
        assert_eq!(first.unwrap_err(), GuestFailure::Deadline, "{name}");
        assert!(second.is_ok(), "{name}: who waited gets the loop's slot");
        assert_eq!(
            third.unwrap_err(),
            GuestFailure::NoInstance,
            "{name}: no room to wait"
        );
        assert_eq!(text(&guest, "/").await, "hello\n", "{name}");
    }
}

#[tokio::test]
async fn processor_time_ends_a_run_long_before_its_deadline() {
    for name in ["fixture-faults", "fixture-faults-service"] {
        let cpu_time = Duration::from_millis(50);
        let guest = limited(name, |limits| {
            limits.cpu_time = Some(cpu_time);
            limits.deadline = Duration::from_secs(60);
        });
        let failure = get(&guest, "/spin").await.unwrap_err();
        assert_eq!(failure, GuestFailure::CpuTime { cpu_time }, "{name}");
    }
}

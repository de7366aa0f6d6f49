//! The release point: buffered and streamed responses, and that a response which breaks off never ends cleanly.

use http_body::Body;

use super::*;

const FAULTS: [&str; 2] = ["fixture-faults", "fixture-faults-service"];

#[tokio::test]
async fn a_short_response_is_complete_at_its_release() {
    for name in ["fixture-hello", "fixture-faults", "fixture-faults-service"] {
        let released = get(&guest(name), "/").await.unwrap();
        assert_eq!(released.head.status, 200, "{name}");
        assert!(released.body.is_complete(), "{name}");
        assert_eq!(released.body.size_hint().exact(), Some(6), "{name}");
        assert_eq!(body(released).await.unwrap(), "hello\n", "{name}");
    }
}

#[tokio::test]
async fn a_trap_before_the_release_leaks_no_head_or_body_bytes() {
    let guest = guest("fixture-faults");
    for target in ["/trap-after-head", "/half-body"] {
        let failure = get(&guest, target).await.unwrap_err();
        assert!(
            matches!(failure, GuestFailure::Trap { .. }),
            "{target}: {failure:?}"
        );
    }
    let failure = get(&super::guest("fixture-faults-service"), "/half-body")
        .await
        .unwrap_err();
    assert!(matches!(failure, GuestFailure::Trap { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_trap_after_the_release_cuts_the_body() {
    for name in FAULTS {
        let released = get(&guest(name), "/half-large").await.unwrap();
        assert!(!released.body.is_complete(), "{name}");
        let failure = body(released).await.unwrap_err();
        assert!(
            matches!(failure, GuestFailure::Trap { .. }),
            "{name}: {failure:?}"
        );
    }
}

#[tokio::test]
async fn an_endless_loop_after_the_release_is_cut_at_the_deadline() {
    let guest = limited("fixture-faults", |limits| {
        limits.deadline = Duration::from_millis(200)
    });
    let released = get(&guest, "/half-large-spin").await.unwrap();
    let started = Instant::now();
    assert_eq!(body(released).await.unwrap_err(), GuestFailure::Stalled);
    assert!(
        started.elapsed() < Duration::from_millis(800),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_released_body_may_outlast_the_deadline_while_bytes_flow() {
    let guest = limited("fixture-faults", |limits| {
        limits.deadline = Duration::from_millis(100)
    });
    let mut released = get(&guest, "/huge?1").await.unwrap();
    let mut bytes = 0;
    while let Some(frame) = released.body.frame().await {
        bytes += frame.unwrap().into_data().unwrap().len();
        // A slow reader is not the guest's fault.
        if bytes < 200_000 {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    assert_eq!(bytes, 1 << 20);
}

#[tokio::test]
async fn a_guest_that_is_dropped_gives_its_slot_back() {
    let options = RuntimeOptions {
        instances_max: 1,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(&options).unwrap();
    for name in FAULTS {
        let guest = Arc::new(runtime.load(settings(name)).unwrap());
        for _ in 0..3 {
            drop(get(&guest, "/half-large").await.unwrap());
        }
        assert_eq!(text(&guest, "/").await, "hello\n", "{name}");
    }
}

#[tokio::test]
async fn an_event_stream_is_released_with_its_first_bytes() {
    for name in FAULTS {
        let released = get(&guest(name), "/sse").await.unwrap();
        assert_eq!(
            released.head.headers["content-type"], "text/event-stream",
            "{name}"
        );
        assert!(!released.body.is_complete(), "{name}");
        let events = body(released).await.unwrap();
        assert!(
            events.starts_with(b"data: first\n\ndata: "),
            "{name}: {events:?}"
        );
    }
}

#[tokio::test]
async fn a_guest_configured_to_stream_is_released_with_its_first_bytes() {
    let mut settings = settings("fixture-faults");
    settings.stream = StreamPolicy::Streamed;
    let released = get(&load(settings), "/late-write").await.unwrap();
    assert!(!released.body.is_complete());
}

#[tokio::test]
async fn a_head_response_may_have_a_content_length_without_a_body() {
    let guest = guest("fixture-hello");
    let released = run(&mut invocation(&guest, Method::HEAD, "/", ""))
        .await
        .unwrap();
    assert_eq!(body(released).await.unwrap(), "");
}

#[tokio::test]
async fn a_released_body_that_falls_silent_is_cut() {
    for name in ["fixture-session", "fixture-session-service"] {
        let guest = limited(name, |limits| {
            limits.stream_silence_max = Duration::from_millis(100)
        });
        let mut invocation =
            invocation(&guest, Method::POST, "/", "head\nbody 100000\nsleep 60000");
        let released = run(&mut invocation).await.unwrap();
        let started = Instant::now();
        assert_eq!(
            body(released).await.unwrap_err(),
            GuestFailure::Stalled,
            "{name}"
        );
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[tokio::test]
async fn a_body_unlike_its_content_length_never_ends_cleanly() {
    for name in ["fixture-session", "fixture-session-service"] {
        for length in ["5", "500"] {
            let script = format!("header content-length {length}\nhead\nbody 50");
            let mut invocation = invocation(&guest(name), Method::POST, "/", script);
            let outcome = run(&mut invocation).await;
            assert!(outcome.is_err(), "{name} {length}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_request_for_the_head_alone_is_answered_and_its_body_dropped() {
    for name in FAULTS {
        let guest = guest(name);
        let mut invocation = invocation(&guest, Method::HEAD, "/huge?1", "");
        let released = run(&mut invocation).await.unwrap();
        assert!(released.body.is_complete(), "{name}");
        assert_eq!(body(released).await.unwrap(), "", "{name}");
    }
}

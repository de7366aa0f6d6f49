//! The largest arguments that a guest may pass to the host, and the result of exceeding them by one. Arguments within
//! the limits keep a call short.

use std::future::poll_fn;
use std::pin::pin;

use super::*;

/// A request to `fixture-faults`, and its response or the reason of the trap.
type Case = (&'static str, Result<&'static str, &'static str>);

const CASES: [Case; 10] = [
    // wasi:random: 64 KiB.
    ("/random?65536", Ok("held 65536\n")),
    (
        "/random?65537",
        Err("requested len 65537 exceeds limit 65536"),
    ),
    // poll: as many handles as the memory limit allows.
    ("/poll?4000", Ok("held 4000\n")),
    ("/poll?32768", Err("handle limit exceeded")),
    // session.set works for any size of the value up to the limit of one call. The key has three bytes.
    ("/big-value?60000", Ok("")),
    ("/big-value?524285", Ok("")),
    (
        "/big-value?524286",
        Err("one call may pass 524288 bytes to the host"),
    ),
    // The head of a response: 32 KiB.
    ("/header-bytes?32000", Ok("one long header\n")),
    // Resources: 4,096 of them. A pollable of a clock takes two.
    ("/hoard-pollables?2000", Ok("held 2000\n")),
    ("/hoard-pollables?2048", Err("as many resources")),
];

/// Runs a future. Also returns the longest time that one poll held the thread.
async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut longest = Duration::ZERO;
    let output = poll_fn(|cx| {
        let begun = Instant::now();
        let polled = future.as_mut().poll(cx);
        longest = longest.max(begun.elapsed());
        polled
    });
    (output.await, longest)
}

#[tokio::test]
async fn every_host_call_has_a_maximum_argument_size() {
    let guest = guest("fixture-faults");
    for (target, expected) in CASES {
        let (answer, longest) = timed(get(&guest, target)).await;
        // Not asserted, because it depends on the machine. On an idle machine, none of these is above 5 ms.
        eprintln!("{target}: held its thread for {longest:?} at most");
        let answer = match answer {
            Ok(released) => {
                let bytes = body(released).await.unwrap();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(GuestFailure::Trap { reason }) => Err(reason),
            Err(other) => panic!("{target}: {other}"),
        };
        let is_expected = match (&answer, expected) {
            (Ok(text), Ok(start)) => text.starts_with(start),
            (Err(reason), Err(part)) => reason.contains(part),
            _ => false,
        };
        assert!(is_expected, "{target}: {answer:?}");
        assert_eq!(text(&guest, "/").await, "hello\n", "{target}");
    }
}

#[tokio::test]
async fn resources_kept_by_the_host_count_against_the_memory_limit() {
    let memory_bytes_max = 4 << 20;
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = limited(name, |limits| limits.memory_bytes_max = memory_bytes_max);
        for kind in [
            "fields",
            "entries",
            "clones",
            "request-headers",
            "response-headers",
            "lists",
            "bodies",
            "responses",
            "methods",
        ] {
            let few = format!("/hoard-{kind}?2");
            assert_eq!(text(&guest, &few).await, "held 2\n", "{name}");
            let many = get(&guest, &format!("/hoard-{kind}?250")).await.map(drop);
            let refused = GuestFailure::MemoryRefused { memory_bytes_max };
            assert_eq!(many, Err(refused), "{name}: {kind}");
        }
    }
}

#[tokio::test]
async fn headers_of_the_request_that_is_served_count_for_each_handle() {
    let memory_bytes_max = 4 << 20;
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = limited(name, |limits| limits.memory_bytes_max = memory_bytes_max);
        let hold = async |count: usize| {
            let target = format!("/hoard-own-headers?{count}");
            let mut asked = request(&guest, Method::GET, &target, "");
            let large = "x".repeat(30_000).parse().unwrap();
            asked.head.headers.insert("x-large", large);
            let mut invocation = Invocation::new(Arc::clone(&guest), asked);
            run(&mut invocation).await.map(drop)
        };
        assert_eq!(hold(2).await, Ok(()), "{name}");
        let refused = GuestFailure::MemoryRefused { memory_bytes_max };
        assert_eq!(hold(250).await, Err(refused), "{name}");
    }
}

#[tokio::test]
async fn dropped_resources_no_longer_count_against_the_memory_limit() {
    for name in ["fixture-faults", "fixture-faults-service"] {
        let guest = limited(name, |limits| limits.memory_bytes_max = 4 << 20);
        assert_eq!(text(&guest, "/drop-fields?200").await, "held 0\n", "{name}");
    }
}

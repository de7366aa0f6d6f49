//! Reuse of instances: which instances are reused, how often, and that no state of a request reaches the next one
//! except state that the guest itself keeps.

use super::output::Events;
use super::session::Visitor;
use super::*;
use cloakroom_session::ReplayPolicy;

const FAULTS: [&str; 2] = ["fixture-faults", "fixture-faults-service"];
const SCRIPTED: [&str; 2] = ["fixture-session", "fixture-session-service"];

fn reused(name: &str, reuse: u32) -> Arc<Guest> {
    reused_with(name, reuse, |_| {})
}

fn reused_with(name: &str, reuse: u32, change: impl FnOnce(&mut GuestLimits)) -> Arc<Guest> {
    let mut settings = settings(name);
    settings.reuse = reuse;
    change(&mut settings.limits);
    load(settings)
}

/// Sends a request and reads its response to the end.
pub(crate) async fn visit(guest: &Arc<Guest>, target: &str) -> String {
    let (_, body) = get(guest, target).await.unwrap().leave();
    let body = body.collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Returns the number of requests that the instance had served before this one.
pub(crate) async fn served(guest: &Arc<Guest>) -> u32 {
    visit(guest, "/instance").await.trim_end().parse().unwrap()
}

#[tokio::test]
async fn an_instance_is_replaced_after_the_configured_number_of_requests() {
    for name in FAULTS {
        let guest = reused(name, 3);
        for expected in [0, 1, 2, 0, 1, 2, 0] {
            assert_eq!(served(&guest).await, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn by_default_no_instance_is_reused() {
    for name in FAULTS {
        let guest = guest(name);
        for _ in 0..3 {
            assert_eq!(served(&guest).await, 0, "{name}");
        }
        assert_eq!(guest.idle_count(), None);
    }
}

#[tokio::test]
async fn concurrent_requests_never_share_an_instance() {
    for name in FAULTS {
        let guest = reused(name, 100);
        for _ in 0..2 {
            let visits = (0..8).map(|_| visit(&guest, "/sleep?300"));
            let answers = futures_util::future::join_all(visits).await;
            assert_eq!(answers, ["slept\n"; 8], "{name}");
            assert_eq!(guest.idle_count(), Some(8), "{name}");
        }
    }
}

#[tokio::test]
async fn a_failed_run_ends_its_instance() {
    for name in FAULTS {
        let guest = reused_with(name, 100, |limits| {
            limits.deadline = Duration::from_millis(300);
            limits.memory_bytes_max = 16 << 20;
        });
        for target in ["/trap", "/spin", "/grow", "/error-code", "/sleep?5000"] {
            assert_eq!(served(&guest).await, 0, "{name}{target}");
            assert!(get(&guest, target).await.is_err(), "{name}{target}");
            assert_eq!(guest.idle_count(), Some(0), "{name}{target}");
        }
    }
}

#[tokio::test]
async fn refused_memory_ends_an_instance_even_if_its_guest_continues() {
    let guest = reused_with("fixture-faults", 100, |limits| {
        limits.memory_bytes_max = 16 << 20;
    });
    let answer = visit(&guest, "/grow-politely").await;
    assert!(answer.ends_with("MiB then refused\n"), "{answer}");
    assert_eq!(guest.idle_count(), Some(0));
}

#[tokio::test]
async fn a_body_that_its_guest_forgets_to_end_ends_with_the_instance() {
    let guest = reused("fixture-faults", 100);
    assert_eq!(visit(&guest, "/leak-body").await, "leaked\n");
    assert_eq!(guest.idle_count(), Some(0));
}

#[tokio::test]
async fn a_request_body_leaked_by_its_guest_is_released_after_the_run() {
    let guest = reused("fixture-faults", 100);
    let held = Arc::new(());
    let witness = Arc::clone(&held);
    let frames = futures_util::stream::poll_fn(move |_| {
        let _held = &witness;
        std::task::Poll::<Option<Result<http_body::Frame<Bytes>, std::io::Error>>>::Pending
    });
    let mut request = request(&guest, Method::POST, "/leak-request", "");
    request.body = ReplayBody::new(http_body_util::StreamBody::new(frames), 1000, 1000);
    let mut invocation = Invocation::new(Arc::clone(&guest), request);
    let answer = run(&mut invocation).await.unwrap();
    drop(invocation);
    assert_eq!(Arc::strong_count(&held), 2, "the instance has it");

    assert_eq!(body_of(answer).await, "leaked\n");

    assert_eq!((guest.idle_count(), Arc::strong_count(&held)), (Some(1), 1));
}

#[tokio::test]
async fn an_instance_that_leaks_resources_is_soon_ended() {
    let guest = reused("fixture-faults", 100);
    for parked in [1, 1, 0] {
        assert_eq!(visit(&guest, "/leak-fields?100").await, "leaked\n");
        assert_eq!(guest.idle_count(), Some(parked));
    }
}

#[tokio::test]
async fn an_instance_that_frees_its_resources_does_not_grow_over_requests() {
    for name in ["counter", "counter-service"] {
        let guest = reused(name, 1000);
        let mut visitor = Visitor::new();
        let mut held = Vec::new();
        for _ in 0..2 {
            for _ in 0..250 {
                body_of(visitor.answer(&guest, "/", "").await).await;
            }
            let mut instance = guest.idle_instances().unwrap().take().unwrap();
            held.push(instance.store.data_mut().resources_held());
        }
        assert!(held[0] == held[1] && held[0] < 8, "{name}: {held:?}");
    }
}

#[tokio::test]
async fn a_guest_that_answers_with_5xx_is_not_kept() {
    for name in SCRIPTED {
        let guest = reused(name, 100);
        for (script, parked) in [("status 404", 1), ("status 500", 0)] {
            let mut invocation = invocation(&guest, Method::POST, "/", script);
            run(&mut invocation).await.unwrap().leave();
            assert_eq!(guest.idle_count(), Some(parked), "{name}: {script}");
        }
    }
}

#[tokio::test]
async fn a_response_dropped_before_it_is_sent_ends_its_instance() {
    for name in FAULTS {
        let guest = reused(name, 100);
        drop(get(&guest, "/instance").await.unwrap());
        assert_eq!(guest.idle_count(), Some(0), "{name}");
        assert_eq!(served(&guest).await, 0, "{name}");
        assert_eq!(served(&guest).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_stream_gives_its_instance_back_at_its_end_alone() {
    for name in FAULTS {
        let guest = reused(name, 100);
        let (_, body) = get(&guest, "/huge?1").await.unwrap().leave();
        assert_eq!(guest.idle_count(), Some(0), "{name}: it streams");
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 1 << 20);
        assert_eq!(guest.idle_count(), Some(1), "{name}");
        // An instance whose body is not read to its end is not kept.
        drop(get(&guest, "/huge?1").await.unwrap().leave());
        assert_eq!(guest.idle_count(), Some(0), "{name}");
        let (_, body) = get(&guest, "/half-large").await.unwrap().leave();
        assert!(body.collect().await.is_err(), "{name}");
        assert_eq!(guest.idle_count(), Some(0), "{name}");
    }
}

#[tokio::test]
async fn an_instance_that_ran_in_the_background_pool_is_reused_too() {
    for name in FAULTS {
        let guest = reused(name, 100);
        for _ in 0..8 {
            guest.slow_history().record_slow();
        }
        for expected in [0, 1, 2] {
            assert_eq!(served(&guest).await, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn each_visitor_reaches_its_own_session_in_the_same_instance() {
    for name in ["counter", "counter-service"] {
        let guest = reused(name, 100);
        let (mut anna, mut bela) = (Visitor::new(), Visitor::new());
        for count in 1..=5 {
            for visitor in [&mut anna, &mut bela] {
                let (_, body) = visitor.answer(&guest, "/", "").await.leave();
                let text = body.collect().await.unwrap().to_bytes();
                assert_eq!(text, format!("{count}번 접속"), "{name}");
                assert_eq!(guest.idle_count(), Some(1), "{name}: one serves both");
            }
        }
    }
}

#[tokio::test]
async fn a_run_that_conflicts_leaves_no_instance_behind() {
    for name in SCRIPTED {
        // The other guest has its own instances.
        let (guest, other) = (reused(name, 100), super::guest(name));
        let mut visitor = Visitor::new();
        visitor.text(&other, "/", "set a 1").await;
        let mut same = visitor.same();
        let slow = "use\nget a\nsleep 200\nincrement a 1";
        let (answer, _) = tokio::join!(visitor.answer(&guest, "/", slow), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            same.text(&other, "/", "set a 10").await
        });
        let body = body_of(answer).await;
        assert_eq!(body, "1\n10\nok\n11\n", "{name}: run again, in a fresh one");
        assert_eq!(guest.idle_count(), Some(1), "{name}");
        let answer = visitor.answer(&guest, "/", "use").await;
        assert_eq!(body_of(answer).await, "2\n", "{name}");
    }
}

pub(crate) async fn body_of(released: ReleasedResponse) -> String {
    let (_, body) = released.leave();
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_session_that_was_released_is_out_of_reach_for_the_next_request() {
    for name in SCRIPTED {
        let guest = reused(name, 100);
        let mut visitor = Visitor::new();
        body_of(visitor.answer(&guest, "/", "set secret 42").await).await;
        let mut invocation = invocation(&guest, Method::POST, "/", "use\nget secret");
        let answer = invocation.run_without_session().await.unwrap();
        let text = body_of(answer).await;
        assert!(text.starts_with("1\nerror denied"), "{name}: {text}");
    }
}

#[tokio::test]
async fn each_line_of_the_log_has_its_own_requests_id() {
    for name in SCRIPTED {
        let guest = reused(name, 100);
        let (events, _guard) = Events::capture();
        for id in ["one", "two"] {
            let mut request = request(&guest, Method::POST, "/", format!("log of {id}\nuse"));
            request.request_id = id.into();
            let mut invocation = Invocation::new(Arc::clone(&guest), request);
            let answer = invocation.run(Session::none(), 3).await.unwrap();
            body_of(answer).await;
            let expected = format!("{name} {id} 3 stdout of {id} ");
            assert_eq!(events.take(), [expected], "{name}");
        }
        assert_eq!(guest.idle_count(), Some(1), "{name}: it was the same one");
    }
}

#[tokio::test]
async fn each_request_has_its_own_limit_of_log_lines() {
    let guest = reused_with("fixture-faults", 100, |limits| limits.log_lines_max = 10);
    let (events, _guard) = Events::capture();
    for _ in 0..2 {
        visit(&guest, "/log-flood?50").await;
        let lines = events.take();
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert!(lines[10].contains("40"), "{}", lines[10]);
    }
}

#[tokio::test]
async fn outbound_calls_count_and_prevent_a_rerun_only_for_their_own_request() {
    let mut settings = settings("fixture-session");
    settings.reuse = 100;
    settings.grants.outbound_hosts = ["127.0.0.1:9".parse().unwrap()].into();
    settings.limits.outbound_calls_max = 1;
    let guest = load(settings);
    for _ in 0..3 {
        let script = "fetch http://127.0.0.1:9/\nfetch http://127.0.0.1:9/";
        let mut invocation = invocation(&guest, Method::POST, "/", script);
        let text = body_of(run(&mut invocation).await.unwrap()).await;
        let lines: Vec<&str> = text.lines().collect();
        assert!(!lines[0].contains("ConnectionLimitReached"), "{text}");
        assert!(lines[1].contains("ConnectionLimitReached"), "{text}");
        assert_eq!(invocation.replay(), ReplayPolicy::EffectMade);
        let quiet = super::invocation(&guest, Method::POST, "/", "use");
        body_of(run(&mut { quiet }).await.unwrap()).await;
    }
    assert_eq!(guest.idle_count(), Some(1));
}

//! Components that use as much of the pool as one instance may, and components that need more.

use super::*;

/// Returns a handler that never ends, with `inner` instances of a module whose content is `inside`.
fn spinning(inner: usize, inside: &str) -> Vec<u8> {
    let instances = "(core instance (instantiate $inner))".repeat(inner);
    let text = format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $outparam))
            (core module $inner {inside})
            {instances}
            (core module $m (func (export "handle") (param i32 i32) (loop $l (br $l))))
            (core instance $i (instantiate $m))
            (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
                (canon lift (core func $i "handle")))
            (component $shim
                (import "request" (type $request (sub resource)))
                (import "outparam" (type $outparam (sub resource)))
                (import "handle" (func $handle
                    (param "request" (own $request)) (param "response-out" (own $outparam))))
                (export $request2 "incoming-request" (type $request))
                (export $outparam2 "response-outparam" (type $outparam))
                (export "handle" (func $handle)
                    (func (param "request" (own $request2)) (param "response-out" (own $outparam2)))))
            (instance $s (instantiate $shim
                (with "request" (type $request)) (with "outparam" (type $outparam)) (with "handle" (func $handle))))
            (export "wasi:http/incoming-handler@0.2.0" (instance $s))
        )"#
    );
    wat::parse_str(text).unwrap()
}

fn greedy() -> GuestSettings {
    GuestSettings {
        name: "greedy".to_owned(),
        ..settings("fixture-hello")
    }
}

#[test]
fn a_component_beyond_its_share_of_the_pool_is_refused_with_count_limit_and_remedy() {
    let cases = [
        (
            133,
            "(memory 1)",
            "needs 133 linear memories",
            "one instance 4",
        ),
        (5, "(memory 1)", "needs 5 linear memories", "one instance 4"),
        (9, "(table 1 funcref)", "needs 9 tables", "one instance 8"),
        (
            64,
            "",
            "needs 65 instances of core modules",
            "one instance 64",
        ),
    ];
    for (inner, inside, count, limit) in cases {
        let refused = runtime().load_bytes(greedy(), &spinning(inner, inside));
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains(count) && text.contains(limit) && text.contains("component"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn components_at_their_budget_fill_the_pool_while_another_guest_is_served() {
    let options = RuntimeOptions {
        instances_max: 12,
        idle_instances_max: 2,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::new(&options).unwrap();
    let mut greedy = greedy();
    greedy.limits.instances_max = 11;
    greedy.limits.deadline = Duration::from_secs(2);
    // The most that one instance may use: 64 core instances, 4 memories, 8 tables.
    let most = "(memory 1) (table 1 funcref) (table 1 funcref)";
    let component = spinning(4, most);
    let greedy = Arc::new(runtime.load_bytes(greedy, &component).unwrap());
    let hello = Arc::new(runtime.load(settings("fixture-hello")).unwrap());
    let loops = (0..11).map(|_| {
        let greedy = Arc::clone(&greedy);
        tokio::spawn(async move { get(&greedy, "/").await.map(drop) })
    });
    let loops: Vec<_> = loops.collect();
    for _ in 0..20 {
        assert_eq!(get(&hello, "/").await.unwrap().head.status, 200);
    }
    // A candidate has its own permit.
    assert!(runtime.load(settings("fixture-hello")).is_ok());
    for end in loops {
        assert_eq!(end.await.unwrap(), Err(GuestFailure::Deadline));
    }
}

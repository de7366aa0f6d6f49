//! Measures requests to a guest: on a new instance, on a reused instance, and as native code. Also measures the parts of the cost
//! of a new instance.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cloakroom_runtime as guest;
use cloakroom_runtime::{Guest, GuestRequest, Invocation, ReleasedResponse, ReplayBody};
use criterion::Criterion;
use http::Response;
use http::uri::Scheme;
use http_body_util::{BodyExt as _, Empty};

use super::subjects::guests;
use super::subjects::visits::{NativeCounter, Visitor};
use super::{REUSED, USES, measure, measure_timed, runtime};

/// The first component does not use the session, the second one uses a session in memory.
const COMPONENTS: [&str; 2] = ["fixture-hello", "counter"];

/// Whole requests, up to the last byte of the response.
pub(crate) fn requests(criterion: &mut Criterion) {
    let (runtime, stand) = (runtime(), Stand::new());
    let mut group = criterion.benchmark_group("request");
    for component in COMPONENTS {
        for (how, reuse) in USES {
            let guest = stand.load(component, reuse);
            group.bench_function(format!("{component}/{how}"), |b| {
                measure(b, &runtime, async || read(stand.serve(&guest).await).await);
            });
        }
    }
    group.bench_function("fixture-hello/native", |b| b.iter(native_hello));
    group.bench_function("counter/native", |b| {
        measure(b, &runtime, async || {
            Response::new(Bytes::from(stand.visitor.visit(NativeCounter).await))
        });
    });
    group.finish();
}

/// The cost of a new instance in addition to the call: creating it, and cleaning its pool slot when it is dropped.
///
/// `make_and_first_call` is a request on a new instance up to its response, without dropping the instance. In addition to `make`,
/// it contains the work of `request/…/reused` (for the counter, with its session's transaction) and the page faults of memory
/// that is touched for the first time.
pub(crate) fn breakdown(criterion: &mut Criterion) {
    let (runtime, stand) = (runtime(), Stand::new());
    let mut group = criterion.benchmark_group("instance");
    for component in COMPONENTS {
        // The instances are returned with the responses, so that dropping them can be timed separately. None is kept for reuse.
        let guest = stand.load(component, REUSED);
        group.bench_function(format!("{component}/make"), |b| {
            measure_timed(b, &runtime, async || {
                let begun = Instant::now();
                let instance = guest.instantiate().await.expect("an instance");
                let elapsed = begun.elapsed();
                drop(instance);
                elapsed
            });
        });
        group.bench_function(format!("{component}/drop_unused"), |b| {
            measure_timed(b, &runtime, async || {
                let instance = guest.instantiate().await.expect("an instance");
                let begun = Instant::now();
                drop(instance);
                begun.elapsed()
            });
        });
        group.bench_function(format!("{component}/make_and_first_call"), |b| {
            measure_timed(b, &runtime, async || {
                let begun = Instant::now();
                let released = stand.serve(&guest).await;
                let elapsed = begun.elapsed();
                drop(released);
                elapsed
            });
        });
        group.bench_function(format!("{component}/drop_used"), |b| {
            measure_timed(b, &runtime, async || {
                let released = stand.serve(&guest).await;
                let begun = Instant::now();
                drop(released);
                begun.elapsed()
            });
        });
    }
    group.finish();
}

/// Guests on a runtime like the host's, and a visitor that sends requests to them.
struct Stand {
    guests: guest::Runtime,
    visitor: Visitor,
}

impl Stand {
    fn new() -> Self {
        Self {
            guests: guest::Runtime::new(&guest::RuntimeOptions::default())
                .expect("the pools' addresses"),
            visitor: Visitor::new(),
        }
    }

    fn load(&self, component: &str, reuse: u32) -> Arc<Guest> {
        let guest = self.guests.load(guests::settings(component, reuse));
        Arc::new(guest.unwrap_or_else(|error| panic!("{error} (run `make guests`)")))
    }

    /// Processes one request up to the point where its response may be sent.
    async fn serve(&self, guest: &Arc<Guest>) -> ReleasedResponse {
        let mut invocation = invocation(guest);
        if guest.imports_session() {
            self.visitor.visit(invocation).await
        } else {
            let released = invocation.run_without_session().await;
            released.expect("an answer")
        }
    }
}

/// Prepares `GET /` on a guest without running it.
fn invocation(guest: &Arc<Guest>) -> Invocation {
    let head = http::Request::get("/").header("host", "example.test");
    let (head, ()) = head.body(()).expect("a request").into_parts();
    let limits = guest.limits();
    let request = GuestRequest {
        head,
        scheme: Scheme::HTTP,
        body: ReplayBody::new(
            Empty::<Bytes>::new(),
            limits.request_body_bytes_max,
            limits.replay_bytes_max,
        ),
        services: None,
        request_id: "benchmark".into(),
        deadline: (Instant::now() + limits.deadline).into(),
        reservation: None,
    };
    Invocation::new(Arc::clone(guest), request)
}

/// Reads a response to its end. A reusable instance is then available for the next request.
async fn read(released: ReleasedResponse) -> Bytes {
    let (_head, body) = released.leave();
    let body = body.collect().await;
    body.expect("a body that is whole").to_bytes()
}

/// The hello component's work as native code.
fn native_hello() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(black_box(b"hello\n")));
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, text);
    response
}

//! Tests of real guests on the real runtime, in process, without a server and with only in-memory stores.

mod bounds;
mod budget;
mod cookies;
mod faults;
mod idle_instances;
mod limits;
mod loading;
mod outbound;
mod outdated;
mod output;
mod refusals;
mod release;
mod reuse;
mod session;
mod third_party;
mod versions;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http::uri::Scheme;
use http_body_util::{BodyExt, Full};

use super::{
    Guest, GuestFailure, GuestGrants, GuestLimits, GuestRequest, GuestSettings, Invocation,
    LoadError, ReleasedResponse, ReplayBody, Runtime, RuntimeOptions, StreamPolicy,
};
use cloakroom_session::{Attempt, Session, SessionGrant};

/// One runtime for all tests. Its two pools are enough for one process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(&RuntimeOptions::default()).unwrap())
}

/// Returns the path to which `make guests` writes a guest.
fn component(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../../target/guests/{name}.wasm"));
    assert!(
        path.is_file(),
        "{} is missing: run `make guests`",
        path.display()
    );
    path
}

fn settings(name: &str) -> GuestSettings {
    GuestSettings {
        grants: GuestGrants {
            session: SessionGrant::write().into(),
            ..GuestGrants::default()
        },
        limits: GuestLimits {
            deadline: Duration::from_secs(5),
            ..GuestLimits::default()
        },
        ..GuestSettings::new(name, component(name))
    }
}

fn load(settings: GuestSettings) -> Arc<Guest> {
    Arc::new(
        runtime()
            .load(settings)
            .unwrap_or_else(|error: LoadError| panic!("{error}")),
    )
}

fn guest(name: &str) -> Arc<Guest> {
    load(settings(name))
}

fn limited(name: &str, change: impl FnOnce(&mut GuestLimits)) -> Arc<Guest> {
    let mut settings = settings(name);
    change(&mut settings.limits);
    load(settings)
}

fn request(guest: &Guest, method: Method, target: &str, body: impl Into<Bytes>) -> GuestRequest {
    let head = http::Request::builder()
        .method(method)
        .uri(target)
        .header("host", "example.test")
        .body(())
        .unwrap();
    let limits = guest.limits();
    GuestRequest {
        head: head.into_parts().0,
        scheme: Scheme::HTTP,
        body: ReplayBody::new(
            Full::new(body.into()),
            limits.request_body_bytes_max,
            limits.replay_bytes_max,
        ),
        services: None,
        request_id: "test".into(),
        deadline: (Instant::now() + limits.deadline).into(),
        reservation: None,
    }
}

fn invocation(
    guest: &Arc<Guest>,
    method: Method,
    target: &str,
    body: impl Into<Bytes>,
) -> Invocation {
    Invocation::new(Arc::clone(guest), request(guest, method, target, body))
}

/// Runs the guest once, without a session.
async fn run(invocation: &mut Invocation) -> Result<ReleasedResponse, GuestFailure> {
    invocation.run(Session::none(), 1).await
}

async fn get(guest: &Arc<Guest>, target: &str) -> Result<ReleasedResponse, GuestFailure> {
    run(&mut invocation(guest, Method::GET, target, "")).await
}

async fn body(released: ReleasedResponse) -> Result<Bytes, GuestFailure> {
    released.body.collect().await.map(|body| body.to_bytes())
}

async fn text(guest: &Arc<Guest>, target: &str) -> String {
    let released = get(guest, target).await.unwrap();
    String::from_utf8(body(released).await.unwrap().to_vec()).unwrap()
}

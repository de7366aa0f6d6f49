//! Measures a whole request through the host's own pipeline, from its head to the last byte of the response. Only the sockets and
//! the access log, which has no subscriber here, are missing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use cloakroom_base::clock::Clock;
use cloakroom_base::limits;
use cloakroom_base::quota::{ConnectionOutbox, QuotaTotals, Quotas};
use cloakroom_host::handler::{Handler, Options, ProxyTrust, RoutedGuests};
use cloakroom_host::route::{Route, RouteTable, Target};
use cloakroom_runtime as guest;
use cloakroom_runtime::{
    ComponentSource, DeployRequest, Deployer, Deployment, Deployments, Guest, ProbeRequest,
    Services, VersionOrigin,
};
use cloakroom_server::{ConnectionEnds, Service as _};
use cloakroom_session::cookie::{CookieJar, CookieJarKeys, IdComparison};
use criterion::Criterion;
use http::Request;
use http::header::{COOKIE, HOST};
use http_body_util::{BodyExt as _, Empty};

use super::subjects::cookies::Signed;
use super::subjects::guests;
use super::subjects::visits::{COOKIE_NAME, Visitor};
use super::{USES, measure, runtime};

/// A `GET` of a guest's path from a visitor with a session.
pub(crate) fn requests(criterion: &mut Criterion) {
    let (runtime, visitor) = (runtime(), Visitor::new());
    let cookie = format!("{COOKIE_NAME}={}", Signed::new().value);
    let mut group = criterion.benchmark_group("pipeline");
    for component in ["fixture-hello", "counter"] {
        for (how, reuse) in USES {
            let handler = runtime.block_on(handler(component, reuse, &visitor));
            let ends = ends(&handler);
            group.bench_function(format!("{component}/{how}"), |b| {
                measure(b, &runtime, async || answer(&handler, &ends, &cookie).await);
            });
        }
    }
    group.finish();
}

async fn answer(handler: &Arc<Handler>, ends: &ConnectionEnds, cookie: &str) -> Bytes {
    let request = Request::get("/")
        .header(HOST, "example.test")
        .header(COOKIE, cookie)
        .body(Empty::<Bytes>::new());
    let response = Arc::clone(handler)
        .answer(request.expect("a request"), ends.clone())
        .await;
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await;
    body.expect("a body that is whole").to_bytes()
}

fn ends(handler: &Handler) -> ConnectionEnds {
    let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
    ConnectionEnds {
        peer,
        local: SocketAddr::from(([127, 0, 0, 1], 3000)),
        share: handler.share(peer.ip()),
        outbox: ConnectionOutbox::new(limits::UNTAKEN_CONNECTION_BYTES_MAX),
    }
}

/// Creates a host with one guest, which answers every path.
async fn handler(component: &str, reuse: u32, visitor: &Visitor) -> Arc<Handler> {
    let runtime =
        guest::Runtime::new(&guest::RuntimeOptions::default()).expect("the pools' addresses");
    let deployer = Deployer::new(Arc::new(runtime), Box::new(NoProbe), Clock::system());
    let deployment = Deployment::new(guests::settings(component, reuse));
    let deploy_request = DeployRequest {
        source: ComponentSource::File,
        settings: None,
        origin: VersionOrigin::Config,
        expected: None,
    };
    let deployed = deployer.deploy(&deployment, deploy_request).await;
    deployed.unwrap_or_else(|error| panic!("{error} (run `make guests`)"));
    let route = Route {
        path: "/{*rest}".to_owned(),
        methods: Vec::new(),
        host: None,
        target: Target::Guest(component.to_owned()),
    };
    let site = RoutedGuests {
        routes: RouteTable::new(vec![route]).expect("a route"),
        guests: Arc::new(Deployments::from([(component.to_owned(), deployment)])),
    };
    let keys = Arc::new(Signed::new().keys);
    let jar_keys = CookieJarKeys::new(Arc::clone(&keys), &keys, IdComparison::Exact);
    let jar = CookieJar::new(COOKIE_NAME, jar_keys, Clock::system());
    let services = Services::new(Arc::clone(&visitor.sessions), jar);
    let quotas = Quotas::new(QuotaTotals::default());
    Handler::new(options(), site, services.into(), quotas, None)
}

fn options() -> Options {
    Options {
        cookie_name: COOKIE_NAME.to_owned(),
        proxy_trust: ProxyTrust::None,
        head_bytes_max: limits::REQUEST_HEAD_BYTES_MAX,
        headers_max: limits::REQUEST_HEADERS_MAX,
        target_bytes_max: limits::REQUEST_TARGET_BYTES_MAX,
    }
}

/// No guest in this benchmark is configured with a probe.
struct NoProbe;

impl ProbeRequest for NoProbe {
    fn ask<'a>(
        &'a self,
        _candidate: Arc<Guest>,
        _path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async { Ok(()) })
    }
}

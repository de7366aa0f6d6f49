//! The path of a request: `Handler::respond` performs its steps in order, and the submodules implement single steps. The route's
//! `Target` is chosen before the session cookie is taken out of the request, because only guests must not see it.
//!
//! This module knows the order of the steps. It does not know sessions, guests or routes from the inside, and it does not know
//! sockets: `server` passes the requests to the [`Handler`], its [`Service`].

mod access_log;
mod bodies;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod guest;
mod headers;
mod hook;
mod release;
mod screen;
mod trailers;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, Version};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use bodies::ResponseBody;
pub use headers::ProxyTrust;
pub use hook::{HookResponse, RequestHook};
pub use screen::ScreenOptions as Options;

use crate::route::{Route, RouteMatch, RouteTable, Target};
use access_log::AccessRecord;
use bodies::DiscardedBody;
use cloakroom_base::clock::Clock;
use cloakroom_base::quota::{
    ConnectionOutbox, QuotaFull, QuotaPeer, QuotaResource, Quotas, Reservation,
};
use cloakroom_base::random;
use cloakroom_base::telemetry::RateLimitedLines;
use cloakroom_base::telemetry::metrics::{GuestMetrics, VersionMetrics};
use cloakroom_runtime::{Deployment, Deployments, FaultParty, GuestFailure, Services};
use cloakroom_server::{ConnectionEnds, RequestBody, Service};
use cloakroom_session::CookieChange;
use error::Problem;
use guest::{GuestHead, RequestToGuest};
use release::SessionCookieField;
use screen::ScreenedRequest;

/// An HTTP request handler that answers requests with guests.
#[derive(Debug)]
pub struct Handler {
    options: Options,
    site: ArcSwap<RoutedGuests>,
    services: Arc<Services>,
    /// The requests that are being processed, including those whose client has gone away.
    tasks: TaskTracker,
    /// Metrics of requests that do not reach a guest.
    metrics: Arc<VersionMetrics>,
    /// The totals that all clients share.
    quotas: Arc<Quotas>,
    request_hook: Option<Arc<dyn RequestHook>>,
    /// Limits the log lines about failures that the host's state causes, by guest and error kind.
    host_faults: RateLimitedLines<(Option<String>, &'static str)>,
}

/// The routes and guests that are served. A site is only replaced as a whole, so that a request never sees parts of two sites.
#[derive(Debug)]
pub struct RoutedGuests {
    /// The route table.
    pub routes: RouteTable,
    /// The guests that the routes name.
    pub guests: Arc<Deployments>,
}

/// The path parameters that the route's pattern matched, in the order and spelling of the path. Stored in the request's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathParameters(pub Vec<(String, String)>);

impl Handler {
    /// Creates a handler from its parts. `request_hook` is the optional request hook.
    pub fn new(
        options: Options,
        site: RoutedGuests,
        services: Arc<Services>,
        quotas: Arc<Quotas>,
        request_hook: Option<Arc<dyn RequestHook>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            quotas,
            options,
            site: ArcSwap::from_pointee(site),
            services,
            tasks: TaskTracker::new(),
            metrics: GuestMetrics::new("", []).version(0),
            request_hook,
            host_faults: RateLimitedLines::default(),
        })
    }

    /// Returns the metrics of requests that do not reach a guest.
    pub fn metrics(&self) -> &GuestMetrics {
        self.metrics.guest()
    }

    /// Returns the number of requests that are being processed, including those whose client has gone away.
    pub fn in_flight(&self) -> usize {
        self.tasks.len()
    }

    /// Returns the totals that all clients share.
    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// Replaces the site. Requests that start later use the new one.
    pub fn replace_site(&self, site: RoutedGuests) {
        self.site.store(Arc::new(site));
    }

    /// Waits until no request is being processed. Call it only when no further requests arrive.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns the quota peer that a request counts for: the connection's peer, or the client behind a trusted proxy.
    fn share_of_client<B>(&self, request: &Request<B>, ends: &ConnectionEnds) -> QuotaPeer {
        let trust = &self.options.proxy_trust;
        let client = headers::client_behind_proxy(request.headers(), ends.peer.ip(), trust);
        client.map_or_else(|| ends.share.clone(), |client| self.quotas.peer(client))
    }

    /// Charges the client for a response that is not charged for yet. If the quota has no room, the response is sent without its
    /// body.
    fn charge(
        &self,
        response: Response<ResponseBody>,
        sender: &ResponseSender,
    ) -> Response<ResponseBody> {
        let (mut head, mut body) = response.into_parts();
        if body.is_charged() || sender.charge(&mut body).is_ok() {
            return Response::from_parts(head, body);
        }
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        Response::from_parts(head, body.emptied())
    }

    /// Processes a request, from the request's head to the head of the response.
    ///
    /// `reservation` is the request's reservation in the quota of running requests. Its phase says whether the request only waits for
    /// its client. A request whose reservation is revoked ends. A released response keeps the reservation until the guest has
    /// finished and the rest of the body is in memory.
    async fn respond<B: RequestBody + 'static>(
        &self,
        request: Request<B>,
        ends: ConnectionEnds,
        mut record: AccessRecord,
        reservation: Reservation,
        sender: &ResponseSender,
    ) -> Response<ResponseBody> {
        let (mut head, body) = request.into_parts();
        let body = DiscardedBody::new(body, &head);

        let screened = match screen::screen(&mut head, ends.peer.ip(), ends.local, &self.options) {
            Ok(screened) => screened,
            Err(reject) => return self.refuse(record, Problem::Rejected(reject)),
        };
        record.client = screened.client;

        let site = self.site.load();
        let route = match find_route(&site.routes, &screened, &mut head) {
            Ok(route) => route,
            Err(problem) => return self.refuse(record, problem),
        };
        record.route = Some(route.path.clone());
        match &route.target {
            Target::Guest(name) => {
                record.guest = Some(name.clone());
                // The request keeps this deployment of its guest, even if another one replaces it meanwhile.
                let deployment = site.guests.get(name).cloned();
                let head = GuestHead::new(head, &self.options.cookie_name);
                if let Some(instead) = self.ask_hook(deployment.as_deref(), route, &head) {
                    let id = Arc::clone(&record.request_id);
                    let response = release::hook_response(instead.response, id, &record.method);
                    record.log(response.status(), response.body().len(), Some(instead.kind));
                    return response;
                }
                drop(site);
                let request = RequestToGuest {
                    head,
                    body,
                    screened,
                    deployment,
                };
                self.run_guest(request, record, reservation, sender).await
            }
        }
    }

    /// Returns the response of the request hook, if it answers in place of the guest.
    fn ask_hook(
        &self,
        deployment: Option<&Deployment>,
        route: &Route,
        head: &GuestHead,
    ) -> Option<HookResponse> {
        let (hook, deployment) = self.request_hook.as_ref().zip(deployment)?;
        hook.answers(deployment, route, head.parts())
    }

    fn refuse(&self, record: AccessRecord, problem: Problem) -> Response<ResponseBody> {
        self.fail(record, problem, CookieChange::Keep)
    }

    fn fail(
        &self,
        record: AccessRecord,
        problem: Problem,
        cookie: CookieChange,
    ) -> Response<ResponseBody> {
        let of_client =
            matches!(&problem, Problem::Guest(failure) if failure.fault() == FaultParty::Client);
        if let Problem::Guest(failure) = &problem {
            self.log_failure(record.guest.as_deref(), failure);
        }
        let id = Arc::clone(&record.request_id);
        let mut response = release::of_problem(&problem, id, &record.method, &self.cookie(cookie));
        let ends_connection = of_client || matches!(problem, Problem::Rejected(_));
        if ends_connection && record.version < Version::HTTP_2 {
            // Another server on the path may read a malformed request differently, so no further request may follow on this
            // connection. If the client has not sent its whole body, none can follow.
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        record.log(
            response.status(),
            response.body().len(),
            Some(problem.kind()),
        );
        response
    }

    /// Logs that a guest did not return a response.
    fn log_failure(&self, guest: Option<&str>, failure: &GuestFailure) {
        let (error, now) = (failure.kind(), Instant::now());
        let untold = match failure.fault() {
            // Any client can cause these failures, so only the access log records them.
            FaultParty::Client => return,
            // A single client can cause this failure with every request, so the lines are limited.
            FaultParty::Host => {
                let key = (guest.map(str::to_owned), error);
                match self.host_faults.take_line(key, now) {
                    Some(line) => line.untold,
                    None => return,
                }
            }
            FaultParty::Guest => None,
        };
        tracing::warn!(guest, error, detail = %failure, untold, "a guest gave no answer");
    }

    fn cookie(&self, change: CookieChange) -> SessionCookieField<'_> {
        SessionCookieField {
            name: &self.options.cookie_name,
            change,
        }
    }
}

impl Service for Handler {
    type Body = ResponseBody;

    /// `Date` and the expiry of the session cookie come from the same clock.
    fn clock(&self) -> Clock {
        self.services.sessions.clock().clone()
    }

    /// The connections of a trusted proxy carry the requests of many clients. They are exempt, and each request counts for its
    /// own client.
    fn share(&self, address: IpAddr) -> QuotaPeer {
        if self.options.proxy_trust.names(address) {
            self.quotas.exempt()
        } else {
            self.quotas.peer(address)
        }
    }

    /// Cancel safe: the work runs in its own task, so a client that disconnects never stops a commit halfway.
    async fn answer<B: RequestBody + 'static>(
        self: Arc<Self>,
        request: Request<B>,
        ends: ConnectionEnds,
    ) -> Response<ResponseBody> {
        let request_id = new_request_id();
        let (method, version) = (request.method().clone(), request.version());
        let mut record =
            AccessRecord::new(Arc::clone(&request_id), method.clone(), version, ends.peer);
        record.metrics = Some(Arc::clone(&self.metrics));
        if let Some(request_hook) = &self.request_hook {
            request_hook.on_request(&request_id, &method, request.uri());
        }
        // Reserve before any memory is spent on the request: requests that waited here would hold memory that other requests
        // need.
        let sender = ResponseSender {
            client: self.share_of_client(&request, &ends).of_one_request(),
            outbox: (version == Version::HTTP_2).then(|| Arc::clone(&ends.outbox)),
        };
        let Ok(reservation) = sender.client.reserve(QuotaResource::Requests, 1) else {
            return self.charge(self.refuse(record, Problem::Overloaded), &sender);
        };
        let token = self.tasks.token();
        let span = tracing::info_span!("request", id = %request_id);
        let handler = Arc::clone(&self);
        let work = async move {
            let response = handler
                .respond(request, ends, record, reservation, &sender)
                .await;
            handler
                .charge(response, &sender)
                .map(|body| body.tracked_by(token))
        };
        match tokio::spawn(work.instrument(span)).await {
            Ok(response) => response,
            // The access record has logged itself while the task unwound.
            Err(_panicked) => release::of_problem(
                &Problem::Panic,
                request_id,
                &method,
                &self.cookie(CookieChange::Keep),
            ),
        }
    }
}

/// The quota state that is charged for a response.
pub(crate) struct ResponseSender {
    /// The client that is charged.
    client: QuotaPeer,
    /// The response bytes that the connection's client has not taken. HTTP/2 only.
    outbox: Option<Arc<ConnectionOutbox>>,
}

impl ResponseSender {
    /// Charges the client for a response.
    fn charge(&self, body: &mut ResponseBody) -> Result<(), QuotaFull> {
        body.charge_to(&self.client, self.outbox.as_ref())
    }
}

fn find_route<'r>(
    routes: &'r RouteTable,
    screened: &ScreenedRequest,
    head: &mut http::request::Parts,
) -> Result<&'r Route, Problem> {
    match routes.find(&screened.host, &head.method, &screened.path) {
        RouteMatch::Route { route, parameters } => {
            let owned = parameters
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()));
            head.extensions.insert(PathParameters(owned.collect()));
            Ok(route)
        }
        RouteMatch::NotFound => Err(Problem::NoRoute),
        RouteMatch::MethodNotAllowed { allow } => Err(Problem::MethodNotAllowed { allow }),
    }
}

/// Returns 64 random bits as hexadecimal digits. They identify a line in a log and grant no access to anything.
fn new_request_id() -> Arc<str> {
    format!("{:016x}", u64::from_be_bytes(random::name())).into()
}

//! The path of a request: `Handler::respond` performs its steps in order, and the submodules implement single steps.
//!
//! This module knows the order of the steps. It does not know sessions, guests or routes from the inside, and it does not know
//! sockets: `server` passes the requests in.

mod access_log;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod headers;
mod hook;
mod release;
mod request_body;
mod screen;
mod trailers;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use headers::ProxyTrust;
pub use hook::{HookResponse, RequestHook};
pub use release::ResponseBody;
pub use screen::ScreenOptions as Options;

use crate::route::{Route, RouteMatch, RouteTable};
use access_log::AccessRecord;
use cloakroom_base::deadline::Deadline;
use cloakroom_base::quota::{
    ConnectionOutbox, QuotaFull, QuotaPeer, QuotaResource, Quotas, Reservation, RevocablePhase,
};
use cloakroom_base::random;
use cloakroom_base::telemetry::RateLimitedLines;
use cloakroom_base::telemetry::metrics::{GuestMetrics, VersionMetrics};
use cloakroom_runtime::{
    Blame, Deployments, FaultParty, Guest, GuestFailure, GuestRequest, Invocation,
    ReleasedResponse, ReplayBody, RunEnd, Services, StreamPolicy,
};
use cloakroom_session::{
    Attempt, CookieChange, ReplayPolicy, Session, TransactionOutcome, Visit, VisitStart,
};
use error::Problem;
use release::SessionCookieField;
use request_body::DiscardedBody;
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
    attendant: Option<Arc<dyn RequestHook>>,
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

/// The addresses and the quota state of the connection that a request arrived on.
#[derive(Clone, Debug)]
pub struct ConnectionAddresses {
    /// The address of the client, or of the proxy in front of it.
    pub peer: SocketAddr,
    /// The local address.
    pub local: SocketAddr,
    /// The quota peer of the connection, from [`Handler::share`].
    pub share: QuotaPeer,
    /// The response bytes that the client has not taken yet. Used for HTTP/2 only.
    pub outbox: Arc<ConnectionOutbox>,
}

/// The path parameters that the route's pattern matched, in the order and spelling of the path. Stored in the request's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathParameters(pub Vec<(String, String)>);

impl Handler {
    /// Creates a handler from its parts. `attendant` is the optional request hook.
    pub fn new(
        options: Options,
        site: RoutedGuests,
        services: Arc<Services>,
        quotas: Arc<Quotas>,
        attendant: Option<Arc<dyn RequestHook>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            quotas,
            options,
            site: ArcSwap::from_pointee(site),
            services,
            tasks: TaskTracker::new(),
            metrics: GuestMetrics::new("", []).version(0),
            attendant,
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

    /// Returns the quota peer of a connection from this address.
    ///
    /// The connections of a trusted proxy carry the requests of many clients. They are exempt, and each request counts for its
    /// own client.
    pub fn share(&self, address: IpAddr) -> QuotaPeer {
        if self.options.proxy_trust.names(address) {
            self.quotas.exempt()
        } else {
            self.quotas.peer(address)
        }
    }

    /// Replaces the site. Requests that start later use the new one.
    pub fn replace_site(&self, site: RoutedGuests) {
        self.site.store(Arc::new(site));
    }

    /// Answers a request.
    ///
    /// Cancel safe: the work runs in its own task, so a client that disconnects never stops a commit halfway.
    pub async fn answer<B>(
        self: &Arc<Self>,
        request: Request<B>,
        ends: ConnectionAddresses,
    ) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request_id = new_request_id();
        let (method, version) = (request.method().clone(), request.version());
        let mut record =
            AccessRecord::new(Arc::clone(&request_id), method.clone(), version, ends.peer);
        record.metrics = Some(Arc::clone(&self.metrics));
        if let Some(attendant) = &self.attendant {
            attendant.sees(&request_id, &method, request.uri());
        }
        // Reserve before any memory is spent on the request: requests that waited here would hold memory that other requests
        // need.
        let door = ResponseSender {
            client: self.share_of_client(&request, &ends).of_one_request(),
            outbox: (version == Version::HTTP_2).then(|| Arc::clone(&ends.outbox)),
        };
        let Ok(place) = door.client.reserve(QuotaResource::Requests, 1) else {
            return self.charge(self.refuse(record, Problem::Overloaded), &door);
        };
        let token = self.tasks.token();
        let span = tracing::info_span!("request", id = %request_id);
        let handler = Arc::clone(self);
        let work = async move {
            let response = handler.respond(request, ends, record, place, &door).await;
            handler
                .charge(response, &door)
                .map(|body| body.under_way(token))
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

    /// Waits until no request is being processed. Call it only when no further requests arrive.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Returns the quota peer that a request counts for: the connection's peer, or the client behind a trusted proxy.
    fn share_of_client<B>(&self, request: &Request<B>, ends: &ConnectionAddresses) -> QuotaPeer {
        let trust = &self.options.proxy_trust;
        let client = headers::client_behind_proxy(request.headers(), ends.peer.ip(), trust);
        client.map_or_else(|| ends.share.clone(), |client| self.quotas.peer(client))
    }

    /// Charges the client for a response that is not charged for yet. If the quota has no room, the response is sent without its
    /// body.
    fn charge(
        &self,
        response: Response<ResponseBody>,
        door: &ResponseSender,
    ) -> Response<ResponseBody> {
        let (mut head, mut body) = response.into_parts();
        if body.is_charged() || door.charge(&mut body).is_ok() {
            return Response::from_parts(head, body);
        }
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        Response::from_parts(head, body.emptied())
    }

    /// Processes a request, from the request's head to the head of the response.
    ///
    /// `place` is the request's reservation in the quota of running requests. Its phase says whether the request only waits for
    /// its client. A request whose reservation is revoked ends. A released response keeps the reservation until the guest has
    /// finished and the rest of the body is in memory.
    async fn respond<B>(
        &self,
        request: Request<B>,
        ends: ConnectionAddresses,
        mut record: AccessRecord,
        place: Reservation,
        door: &ResponseSender,
    ) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let body = DiscardedBody::new(body, &head);

        let screened = match screen::screen(&mut head, ends.peer.ip(), ends.local, &self.options) {
            Ok(screened) => screened,
            Err(reject) => return self.refuse(record, Problem::Rejected(reject)),
        };
        record.client = screened.client;

        let path = head.uri.path().to_owned();
        let site = self.site.load();
        let route = match find_route(&site.routes, &screened.host, &path, &mut head) {
            Ok(route) => route,
            Err(problem) => return self.refuse(record, problem),
        };
        record.route = Some(route.path.clone());
        record.guest = Some(route.guest.clone());

        // The request keeps this deployment of its guest, even if another one replaces it meanwhile.
        let deployment = site.guests.get(&route.guest).cloned();
        let deployment = deployment.as_ref();
        let attended = self.attendant.as_ref().zip(deployment);
        if let Some(instead) = attended.and_then(|(it, guest)| it.answers(guest, route, &head)) {
            let response = release::of_stand_in(
                instead.response,
                Arc::clone(&record.request_id),
                &record.method,
            );
            record.log(response.status(), response.body().len(), Some(instead.kind));
            return response;
        }
        let take = || deployment.and_then(|guest| guest.take(|| visitor(&screened)));
        let Some(mut guest) = take() else {
            return self.refuse(record, Problem::NoGuest);
        };
        drop(site);
        record.guest_version = guest.version();
        record.metrics = Some(Arc::clone(guest.metrics()));
        let limits = guest.limits();
        let size = screened.head_size;
        if size.is_above(limits.request_head_bytes_max, limits.request_headers_max) {
            return self.refuse(record, Problem::HeadTooLarge);
        }
        if screened
            .content_length
            .is_some_and(|length| length > limits.request_body_bytes_max)
        {
            return self.refuse(record, Problem::BodyTooLarge);
        }
        let mut is_kept = body
            .size_hint()
            .upper()
            .is_some_and(|n| n <= limits.replay_bytes_max as u64);
        let body = ReplayBody::new(body, limits.request_body_bytes_max, limits.replay_bytes_max);
        let body = match body.has_come() {
            true => body,
            false => body.charged_to(&place),
        };
        // Read the body before the request enters the guest's queue and waits for the session lock, so that a slow client does
        // not block other requests there.
        if !body.has_come() && guest.stream() == StreamPolicy::Buffered {
            drop(guest);
            if let Err(failure) = read_ahead(&body, &place).await {
                return self.refuse(record, Problem::Guest(failure));
            }
            is_kept = body.has_come();
            // Another version may have been deployed while the body was read.
            guest = match take() {
                Some(guest) => guest,
                None => return self.refuse(record, Problem::NoGuest),
            };
            record.guest_version = guest.version();
            record.metrics = Some(Arc::clone(guest.metrics()));
        }
        let deadline = Deadline::after(guest.limits().deadline);
        let client = place.peer().source().peer;
        let request = GuestRequest {
            head,
            scheme: screened.scheme.clone(),
            body,
            services: Some(Arc::clone(&self.services)),
            request_id: Arc::clone(&record.request_id),
            deadline: deadline.clone(),
            place: Some(place.clone()),
        };
        let mut runs = AttemptCounter {
            invocation: Invocation::new(Arc::clone(&guest), request),
            count: 0,
            used_session: false,
        };

        // A guest that does not import the session interface causes no store access. A guest without a grant gets `denied` from
        // each call.
        let outcome = if guest.imports_session() {
            let visit = visit(screened, path, &guest, is_kept, deadline, place);
            self.services.sessions.transact(visit, &mut runs).await
        } else {
            runs.run_without_session().await
        };
        record.attempts = runs.count;
        if let Blame::Guest(conduct) = runs.invocation.blame(end(&outcome)) {
            guest.note(conduct, client);
        }

        match outcome {
            TransactionOutcome::Answered { mut answer, cookie } => {
                if runs.used_session {
                    release::vary_by_cookie(&mut answer.head.headers);
                }
                self.release(record, answer, cookie, door)
            }
            TransactionOutcome::Failed { failure, cookie } => {
                self.fail(record, Problem::Guest(failure), cookie)
            }
            TransactionOutcome::Refused { refusal, cookie } => {
                self.fail(record, Problem::Session(refusal), cookie)
            }
        }
    }

    fn release(
        &self,
        record: AccessRecord,
        answer: ReleasedResponse,
        cookie: CookieChange,
        door: &ResponseSender,
    ) -> Response<ResponseBody> {
        let (id, our_cookie) = (Arc::clone(&record.request_id), self.cookie(cookie));
        let (head, body) = answer.leave();
        let response = release::of_guest(head, body, id, &record.method, &our_cookie);
        let (head, mut body) = response.into_parts();
        if door.charge(&mut body).is_err() {
            return self.fail(record, Problem::Overloaded, our_cookie.change);
        }
        let response = Response::from_parts(head, body);
        record.log(response.status(), response.body().len(), None);
        response
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
            self.tell(record.guest.as_deref(), failure);
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
    fn tell(&self, guest: Option<&str>, failure: &GuestFailure) {
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

/// The quota state that is charged for a response.
struct ResponseSender {
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

/// The runs of one request on its guest, counted for the access log.
struct AttemptCounter {
    invocation: Invocation,
    count: u32,
    /// Whether the last run read or changed the session.
    used_session: bool,
}

impl AttemptCounter {
    async fn run_without_session(&mut self) -> TransactionOutcome<ReleasedResponse, GuestFailure> {
        self.count = 1;
        let cookie = CookieChange::Keep;
        match self.invocation.run_without_session().await {
            Ok(answer) => TransactionOutcome::Answered { answer, cookie },
            Err(failure) => TransactionOutcome::Failed { failure, cookie },
        }
    }
}

impl Attempt for AttemptCounter {
    type Answer = ReleasedResponse;
    type Failure = GuestFailure;

    async fn run(
        &mut self,
        session: Session,
        number: u32,
    ) -> Result<ReleasedResponse, GuestFailure> {
        self.count = number;
        let answer = self.invocation.run(session.clone(), number).await;
        self.used_session = session.was_used();
        answer
    }

    fn replay(&self) -> ReplayPolicy {
        self.invocation.replay()
    }
}

fn find_route<'r>(
    routes: &'r RouteTable,
    host: &str,
    path: &str,
    head: &mut http::request::Parts,
) -> Result<&'r Route, Problem> {
    match routes.find(host, &head.method, path) {
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

/// Returns a hash that identifies the visitor while a canary is active: of the presented cookies, or of the client's address if
/// there are none.
fn visitor(screened: &ScreenedRequest) -> u64 {
    let mut hasher = DefaultHasher::new();
    if screened.presented.is_empty() {
        screened.client.hash(&mut hasher);
    } else {
        screened.presented.hash(&mut hasher);
    }
    hasher.finish()
}

/// Reads the beginning of a body. Meanwhile the request counts as waiting for its client, so its reservation may be revoked.
async fn read_ahead(body: &ReplayBody, place: &Reservation) -> Result<(), GuestFailure> {
    let revoked = |_| GuestFailure::NoRoomForBody;
    place
        .set_phase(RevocablePhase::WaitsForClient)
        .map_err(revoked)?;
    tokio::select! {
        biased;
        () = place.revoked() => return Err(GuestFailure::NoRoomForBody),
        read = body.read_ahead() => read?,
    }
    place.set_phase(RevocablePhase::Working).map_err(revoked)
}

/// Maps an outcome to the end of the request that the guest or the client may be blamed for.
fn end(outcome: &TransactionOutcome<ReleasedResponse, GuestFailure>) -> RunEnd<'_> {
    match outcome {
        TransactionOutcome::Answered { answer, .. } => RunEnd::Answered(answer.head.status),
        TransactionOutcome::Failed { failure, .. } => RunEnd::Failed(failure),
        TransactionOutcome::Refused { .. } => RunEnd::Refused,
    }
}

/// Builds the description of a session's request. `is_kept` says whether the request's body will be available for another run.
fn visit(
    screened: ScreenedRequest,
    path: String,
    guest: &Guest,
    is_kept: bool,
    deadline: Deadline,
    place: Reservation,
) -> Visit {
    let start = match guest.start() {
        VisitStart::Optimistic if !is_kept => VisitStart::Fresh,
        start => start,
    };
    Visit {
        presented: screened.presented,
        host: screened.host,
        path,
        is_secure: screened.scheme == http::uri::Scheme::HTTPS,
        grant: Arc::clone(guest.grant()),
        deadline,
        start,
        place: Some(place),
    }
}

/// Returns 64 random bits as hexadecimal digits. They identify a line in a log and grant no access to anything.
fn new_request_id() -> Arc<str> {
    format!("{:016x}", u64::from_be_bytes(random::name())).into()
}

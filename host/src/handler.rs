//! The path of a request, in one function: `Handler::respond`. Everything else here serves a step of it.
//!
//! Knows the order and who is asked; what a session, a guest or a route is, others know. Names no socket: `server` brings requests.

mod access_log;
mod attendant;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod headers;
mod release;
mod request_body;
mod screen;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::Body as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

pub use attendant::{Attendant, StandIn};
pub use headers::ProxyTrust;
pub use release::Body;
pub use screen::ScreenOptions as Options;

use crate::cookie::Jar;
use crate::guest::{
    Conduct, Deployments, Guest, GuestFailure, GuestRequest, Invocation, Released, ReplayBody,
};
use crate::random;
use crate::route::{Found, Route, RouteTable};
use crate::session::{
    Attempt, CookieChange, Outcome, Replay, Session, SessionManager, Start, Visit,
};
use crate::telemetry::metrics::{GuestMetrics, VersionMetrics};
use access_log::AccessRecord;
use error::Problem;
use release::OurCookie;
use request_body::BrokeOff;
use screen::Screened;

/// Answers requests with guests.
#[derive(Debug)]
pub struct Handler {
    options: Options,
    site: ArcSwap<Site>,
    sessions: Arc<SessionManager>,
    jar: Arc<Jar>,
    /// The requests under way, whether or not their clients still wait.
    tasks: TaskTracker,
    /// What is counted of requests that reach no guest.
    metrics: Arc<VersionMetrics>,
    /// A permit for each request until its answer's body has ended.
    permits: Arc<Semaphore>,
    attendant: Option<Arc<dyn Attendant>>,
}

/// What is served: which requests go where. Replaced as a whole, so that no request meets half of it.
#[derive(Debug)]
pub struct Site {
    /// The routes.
    pub routes: RouteTable,
    /// The guests they lead to.
    pub guests: Arc<Deployments>,
}

/// The two ends of the connection a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's, or its proxy's.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

/// What a route's pattern took from the path, in the request's extensions; in the path's order and spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathParameters(pub Vec<(String, String)>);

impl Handler {
    /// A handler over these parts, attended by somebody or by nobody.
    pub fn new(
        options: Options,
        site: Site,
        sessions: Arc<SessionManager>,
        jar: Arc<Jar>,
        attendant: Option<Arc<dyn Attendant>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(options.requests_max)),
            options,
            site: ArcSwap::from_pointee(site),
            sessions,
            jar,
            tasks: TaskTracker::new(),
            metrics: GuestMetrics::new("").version(0),
            attendant,
        })
    }

    /// What is counted of requests that reach no guest.
    pub fn metrics(&self) -> &GuestMetrics {
        self.metrics.guest()
    }

    /// Requests under way, whether or not their clients still wait.
    pub fn in_flight(&self) -> usize {
        self.tasks.len()
    }

    /// Serves another site from the next request on.
    pub fn replace_site(&self, site: Site) {
        self.site.store(Arc::new(site));
    }

    /// Answers a request.
    ///
    /// Safe to cancel: the work is a task of its own, so a client that hangs up never stops a commit half-way.
    pub async fn answer<B>(self: &Arc<Self>, request: Request<B>, ends: Ends) -> Response<Body>
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
        // At once, before anything is spent on it: whoever queues here would hold memory that the others need.
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return self.refuse(record, Problem::Overloaded);
        };
        let span = tracing::info_span!("request", id = %request_id);
        let handler = Arc::clone(self);
        let work = async move { handler.respond(request, ends, record).await };
        match self.tasks.spawn(work.instrument(span)).await {
            Ok(response) => response.map(|body| body.holding(permit)),
            // The record has logged itself while the task unwound.
            Err(_panicked) => release::of_problem(
                &Problem::Panic,
                request_id,
                &method,
                &self.cookie(CookieChange::Keep),
            ),
        }
    }

    /// Returns when no request is under way. Call it when no further ones come.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The path of a request, from its head to the head of its answer.
    async fn respond<B>(
        &self,
        request: Request<B>,
        ends: Ends,
        mut record: AccessRecord,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let broke_off = BrokeOff::default();
        let body = broke_off.watch(body, &head);

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

        // This request keeps this version of its guest, whatever comes meanwhile.
        let deployment = site.guests.get(&route.guest);
        let attended = self.attendant.as_ref().zip(deployment);
        if let Some(instead) = attended.and_then(|(it, guest)| it.answers(guest, &head)) {
            let response = release::of_stand_in(
                instead.response,
                Arc::clone(&record.request_id),
                &record.method,
            );
            record.log(response.status(), response.body().len(), Some(instead.kind));
            return response;
        }
        let Some(guest) = deployment.and_then(|guest| guest.take(|| visitor(&screened))) else {
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
        let deadline = record.started_at + limits.deadline;
        let is_kept = body
            .size_hint()
            .upper()
            .is_some_and(|n| n <= limits.replay_bytes_max as u64);
        let request = GuestRequest {
            head,
            scheme: screened.scheme.clone(),
            body: ReplayBody::new(body, limits.request_body_bytes_max, limits.replay_bytes_max),
            jar: guest.imports_cookies().then(|| Arc::clone(&self.jar)),
            request_id: Arc::clone(&record.request_id),
            deadline,
        };
        let mut runs = Runs {
            invocation: Invocation::new(Arc::clone(&guest), request),
            count: 0,
            used_session: false,
        };

        // A guest that does not import the session costs no store access; one without a grant is told so by each call.
        let outcome = if guest.imports_session() {
            let visit = visit(screened, path, &guest, is_kept, deadline);
            self.sessions.transact(visit, &mut runs).await
        } else {
            runs.run_without_session().await
        };
        record.attempts = runs.count;
        if let Some(conduct) = conduct(&outcome, broke_off.is_set()) {
            guest.note(conduct);
        }

        match outcome {
            Outcome::Answered { mut answer, cookie } => {
                if runs.used_session {
                    release::vary_by_cookie(&mut answer.head.headers);
                }
                self.release(record, answer, cookie)
            }
            // Whatever the guest made of it: the client is owed the reason.
            Outcome::Failed { cookie, .. } if broke_off.is_set() => {
                self.fail(record, Problem::BodyBrokeOff, cookie)
            }
            Outcome::Failed { failure, cookie } => {
                self.fail(record, Problem::Guest(failure), cookie)
            }
            Outcome::Refused { refusal, cookie } => {
                self.fail(record, Problem::Session(refusal), cookie)
            }
        }
    }

    fn release(
        &self,
        record: AccessRecord,
        answer: Released,
        cookie: CookieChange,
    ) -> Response<Body> {
        let (id, cookie) = (Arc::clone(&record.request_id), self.cookie(cookie));
        let (head, body) = answer.leave();
        let response = release::of_guest(head, body, id, &record.method, &cookie);
        record.log(response.status(), response.body().len(), None);
        response
    }

    fn refuse(&self, record: AccessRecord, problem: Problem) -> Response<Body> {
        self.fail(record, problem, CookieChange::Keep)
    }

    fn fail(&self, record: AccessRecord, problem: Problem, cookie: CookieChange) -> Response<Body> {
        if let Problem::Guest(failure) = &problem {
            let guest = record.guest.as_deref();
            tracing::warn!(guest, error = failure.kind(), detail = %failure, "a guest gave no answer");
        }
        let id = Arc::clone(&record.request_id);
        let mut response = release::of_problem(&problem, id, &record.method, &self.cookie(cookie));
        if matches!(problem, Problem::Rejected(_)) && record.version < Version::HTTP_2 {
            // What one server finds malformed the next in line may read in another way: nothing may follow on this connection.
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

    fn cookie(&self, change: CookieChange) -> OurCookie<'_> {
        OurCookie {
            name: &self.options.cookie_name,
            change,
        }
    }
}

/// A request's runs on its guest, counted for the access log.
struct Runs {
    invocation: Invocation,
    count: u32,
    /// Whether the last run asked or changed the session.
    used_session: bool,
}

impl Runs {
    async fn run_without_session(&mut self) -> Outcome<Released, GuestFailure> {
        self.count = 1;
        let cookie = CookieChange::Keep;
        match self.invocation.run_without_session().await {
            Ok(answer) => Outcome::Answered { answer, cookie },
            Err(failure) => Outcome::Failed { failure, cookie },
        }
    }
}

impl Attempt for Runs {
    type Answer = Released;
    type Failure = GuestFailure;

    async fn run(&mut self, session: Session, number: u32) -> Result<Released, GuestFailure> {
        self.count = number;
        let answer = self.invocation.run(session.clone(), number).await;
        self.used_session = session.was_used();
        answer
    }

    fn replay(&self) -> Replay {
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
        Found::Route { route, parameters } => {
            let owned = parameters
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()));
            head.extensions.insert(PathParameters(owned.collect()));
            Ok(route)
        }
        Found::NotFound => Err(Problem::NoRoute),
        Found::MethodNotAllowed { allow } => Err(Problem::MethodNotAllowed { allow }),
    }
}

/// What tells this visitor from others while a canary serves: its cookie, else its address.
fn visitor(screened: &Screened) -> u64 {
    let mut hasher = DefaultHasher::new();
    if screened.presented.is_empty() {
        screened.client.hash(&mut hasher);
    } else {
        screened.presented.hash(&mut hasher);
    }
    hasher.finish()
}

/// What a request's end says of its guest; nothing where others are to blame.
fn conduct(outcome: &Outcome<Released, GuestFailure>, is_body_broken: bool) -> Option<Conduct> {
    match outcome {
        Outcome::Answered { answer, .. } if answer.head.status.is_server_error() => {
            Some(Conduct::Errored)
        }
        Outcome::Answered { .. } => Some(Conduct::Served),
        Outcome::Failed { .. } if is_body_broken => None,
        Outcome::Failed { failure, .. } => failure.conduct(),
        Outcome::Refused { .. } => None,
    }
}

/// `is_kept`: whether the request's body will be there for another run.
fn visit(
    screened: Screened,
    path: String,
    guest: &Guest,
    is_kept: bool,
    deadline: Instant,
) -> Visit {
    let start = match guest.start() {
        Start::Optimistic if !is_kept => Start::Fresh,
        start => start,
    };
    Visit {
        presented: screened.presented,
        path,
        is_secure: screened.scheme == http::uri::Scheme::HTTPS,
        grant: Arc::clone(guest.grant()),
        deadline,
        start,
    }
}

/// 64 random bits: enough to find a line in a log, worthless for anything else.
fn new_request_id() -> Arc<str> {
    format!("{:016x}", u64::from_be_bytes(random::name())).into()
}

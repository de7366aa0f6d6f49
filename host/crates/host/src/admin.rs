//! The admin interface for the operator, on a separate listener: guests and their versions, metrics and health.
//!
//! Knows guests, the deployment of versions and counters. Has no access to visitors, cookies or session data. The module that
//! opens the interface supplies the numbers that are not available here (connections and requests in progress).
//!
//! A store that is down leaves the host ready, unless only a restart can mend it. Decision 13 in `host/docs/decisions` has the
//! reasons.

mod access;
mod client;
pub mod command;
mod guests;
mod metrics;
mod report;
mod store;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::{Method, Request, Response, StatusCode, request};
use tokio_util::sync::CancellationToken;

pub use access::Token;

use crate::json_api;
use crate::json_api::{Body, Refusal, Reply, problem};
use access::{ListenerReach, Permission};
use cloakroom_base::limits;
use cloakroom_base::quota::{QuotaPeer, QuotaTotals, Quotas};
use cloakroom_base::telemetry::metrics::Scrape;
use cloakroom_runtime::{Deployer, GuestRegistry};
use cloakroom_server::{ConnectionEnds, RequestBody, Service};
use cloakroom_session::SessionManager;
use cloakroom_session::store::SessionStore as _;
use cloakroom_session::store::metered::{MeteredStore, StoreHealth};
use upload::UploadQueue;

/// The access control of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminOptions {
    /// The token that clients must present. If it is `None`, `listen` is a loopback address.
    pub token: Option<Token>,
    /// The address of the listener. On a loopback address, fewer requests need the token.
    pub listen: SocketAddr,
}

/// The admin interface. Before it is opened, and from the start of the shutdown on, it reports that the host is not ready.
pub struct AdminServer {
    options: AdminOptions,
    parts: ArcSwapOption<AdminServices>,
    uploads: UploadQueue,
    /// Separate from the quotas of visitors: visitors that use up theirs must not lock operators out.
    quotas: Arc<Quotas>,
}

/// The parts of the host that the interface reports on and controls.
pub struct AdminServices {
    /// The guests.
    pub registry: Arc<GuestRegistry>,
    /// Validates and deploys new versions.
    pub deployer: Arc<Deployer>,
    /// The session manager, for its counters.
    pub sessions: Arc<SessionManager>,
    /// The store, for its latency and availability.
    pub store: Arc<MeteredStore>,
    /// Cancelled at the start of the shutdown.
    pub shutdown: CancellationToken,
    /// The time at which the host started to serve, in seconds since the epoch.
    pub serves_since_s: i64,
    /// Adds metrics that are only available to the module that opens the interface.
    pub others: Box<dyn Fn(&Scrape) + Send + Sync>,
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AdminServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServices").finish_non_exhaustive()
    }
}

impl AdminServer {
    /// Creates an interface that is not open yet. It reports that the host is alive and not ready.
    pub fn new(options: AdminOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            parts: ArcSwapOption::empty(),
            uploads: UploadQueue::new(),
            quotas: Quotas::new(QuotaTotals {
                connections: limits::ADMIN_CONNECTIONS_MAX,
                ..QuotaTotals::default()
            }),
        })
    }

    /// Opens the interface, when the host starts to serve.
    pub fn open(&self, parts: AdminServices) {
        self.parts.store(Some(Arc::new(parts)));
    }

    /// Closes the interface and drops its references to the parts of the host.
    pub fn close(&self) {
        self.parts.store(None);
    }

    async fn respond<B: RequestBody>(
        &self,
        head: &request::Parts,
        body: Pin<&mut B>,
        peer: SocketAddr,
    ) -> Reply {
        let target = AdminTarget::of(head.uri.path()).ok_or_else(|| {
            problem(
                StatusCode::NOT_FOUND,
                "there is nothing here: try /guests, /store, /metrics, /healthz or /readyz",
            )
        });
        let reach = ListenerReach::of(&self.options);
        let needs = target
            .as_ref()
            .map_or(Permission::Everything, AdminTarget::needs);
        access::check(reach, self.options.token.as_ref(), needs, head)?;
        let target = target?;
        target.check_method(&head.method)?;
        match target {
            AdminTarget::Alive => Ok(json_api::ok(&serde_json::json!({ "status": "alive" }))),
            AdminTarget::Ready => Ok(self.readiness()),
            AdminTarget::Metrics => Ok(json_api::metrics(metrics::text(&*self.parts()?))),
            AdminTarget::Guests => Ok(guests::list(&*self.parts()?)),
            AdminTarget::Guest(name) if head.method == Method::PUT => {
                let parts = self.working_parts()?;
                guests::put(&parts, &self.uploads, name, head, body, peer).await
            }
            AdminTarget::Guest(name) => guests::show(&*self.parts()?, name),
            AdminTarget::Rollback(name) => {
                guests::roll_back(&*self.working_parts()?, name, &head.headers)
            }
            AdminTarget::Store => Ok(store::show(&*self.parts()?)),
            AdminTarget::PreferFirst => store::prefer_first(&*self.working_parts()?).await,
        }
    }

    /// Returns the response to `/readyz`. An unavailable store does not make the host unready: all hosts use the same store, so
    /// a load balancer would remove all of them, including for requests that need no session. A store that needs a restart of
    /// the host makes it unready, because that concerns this host only.
    fn readiness(&self) -> Response<Body> {
        match self.working_parts() {
            // This request needs no token, and the reason names files. It is therefore only in the log.
            Ok(parts) if parts.store.halted().is_some() => *problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the session store cannot be written any more; see the log for the reason, and restart the host",
            ),
            Ok(parts) => {
                let store = match parts.store.standing() {
                    StoreHealth::Up => "up",
                    StoreHealth::Down => "down",
                };
                json_api::ok(&serde_json::json!({ "status": "ready", "store": store }))
            }
            Err(refusal) => *refusal,
        }
    }

    fn parts(&self) -> Result<Arc<AdminServices>, Refusal> {
        let not_there = "the host does not serve yet, or no longer serves";
        let parts = self.parts.load_full();
        parts.ok_or_else(|| problem(StatusCode::SERVICE_UNAVAILABLE, not_there))
    }

    /// Returns the parts, unless the host is shutting down.
    fn working_parts(&self) -> Result<Arc<AdminServices>, Refusal> {
        let parts = self.parts()?;
        if parts.shutdown.is_cancelled() {
            let stopping = "the host is stopping";
            return Err(problem(StatusCode::SERVICE_UNAVAILABLE, stopping));
        }
        Ok(parts)
    }
}

impl Service for AdminServer {
    type Body = Body;

    fn share(&self, address: IpAddr) -> QuotaPeer {
        self.quotas.peer(address)
    }

    /// Cancel safety: dropping the future withdraws a component that is being deployed and not live yet.
    async fn answer<B: RequestBody + 'static>(
        self: Arc<Self>,
        request: Request<B>,
        ends: ConnectionEnds,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut body = pin!(body);
        let reply = self.respond(&head, body.as_mut(), ends.peer).await;
        let response = json_api::complete(&head, body, reply).await;
        let method = &head.method;
        if !matches!(*method, Method::GET | Method::HEAD) {
            let (path, status) = (head.uri.path(), response.status().as_u16());
            tracing::info!(peer = %ends.peer, %method, path, status, "an admin call");
        }
        response
    }
}

/// The resource that a path names.
enum AdminTarget {
    Alive,
    Ready,
    Metrics,
    Guests,
    Guest(String),
    Rollback(String),
    Store,
    PreferFirst,
}

impl AdminTarget {
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        Some(match parts.as_slice() {
            ["healthz"] => Self::Alive,
            ["readyz"] => Self::Ready,
            ["metrics"] => Self::Metrics,
            ["guests"] => Self::Guests,
            ["guests", name] if !name.is_empty() => Self::Guest((*name).to_owned()),
            ["guests", name, "rollback"] => Self::Rollback((*name).to_owned()),
            ["store"] => Self::Store,
            ["store", "prefer-first"] => Self::PreferFirst,
            _ => return None,
        })
    }

    fn needs(&self) -> Permission {
        match self {
            Self::Alive | Self::Ready => Permission::Nothing,
            Self::Metrics => Permission::Little,
            Self::Guests | Self::Guest(_) | Self::Rollback(_) | Self::Store | Self::PreferFirst => {
                Permission::Everything
            }
        }
    }

    fn check_method(&self, method: &Method) -> Result<(), Refusal> {
        let allowed: &[Method] = match self {
            Self::Alive | Self::Ready | Self::Metrics | Self::Guests | Self::Store => {
                &[Method::GET, Method::HEAD]
            }
            Self::Guest(_) => &[Method::GET, Method::HEAD, Method::PUT],
            Self::Rollback(_) | Self::PreferFirst => &[Method::POST],
        };
        json_api::check_method(method, allowed)
    }
}

//! The interface for whoever runs the host, on a listener of its own: its guests and their versions, metrics, health.
//!
//! Knows guests, the way in for new versions, and what is counted; knows no visitor, no cookie and no session's data. What cannot be
//! seen from here (connections, requests under way) is told by whoever opens it.

pub(crate) mod access;
mod client;
mod guests;
mod metrics;
pub(crate) mod reply;
mod report;
pub mod shell;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod upload;

use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, request};
use tokio_util::sync::CancellationToken;

pub use access::Token;
pub use reply::Body;

use crate::guest::{Admission, GuestRegistry};
use crate::session::SessionManager;
use crate::store::SessionStore as _;
use crate::store::metered::{Metered, Standing};
use crate::telemetry::metrics::Scrape;
use access::{Needs, Reach};
use reply::{Refusal, Reply, problem};
use upload::Uploads;

/// Who may call.
#[derive(Clone, Debug)]
pub struct Options {
    /// What callers show.
    pub token: Option<Token>,
    /// Where it listens: on an address of this machine alone less is asked of callers.
    pub listen: SocketAddr,
}

/// The interface. Until it is opened, and from the first moment of the shutdown, it answers that the host is not ready.
pub struct Admin {
    options: Options,
    parts: ArcSwapOption<Parts>,
    uploads: Uploads,
}

/// What it tells of and acts on.
pub struct Parts {
    /// The guests.
    pub registry: Arc<GuestRegistry>,
    /// The way in for new versions.
    pub admission: Arc<Admission>,
    /// Everybody's sessions, for their totals.
    pub sessions: Arc<SessionManager>,
    /// The store, for its latency and standing.
    pub store: Arc<Metered>,
    /// Cancelled from the first moment of the shutdown.
    pub shutdown: CancellationToken,
    /// When the host began to serve, in seconds since the epoch.
    pub serves_since_s: i64,
    /// Tells what only whoever opened it knows.
    pub others: Box<dyn Fn(&Scrape) + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Admin {
    /// An interface that is not open yet: it says that the host lives and is not ready.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            parts: ArcSwapOption::empty(),
            uploads: Uploads::new(),
        })
    }

    /// The host serves.
    pub fn open(&self, parts: Parts) {
        self.parts.store(Some(Arc::new(parts)));
    }

    /// The host serves no more: lets go of all its parts.
    pub fn close(&self) {
        self.parts.store(None);
    }

    /// Answers one request of `peer`.
    ///
    /// Cancel safety: a component that is under way and not live yet is withdrawn when the call is dropped.
    pub async fn answer<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let mut body = pin!(body);
        let answered = self.respond(&head, body.as_mut(), peer).await;
        let mut response = answered.unwrap_or_else(|refusal| *refusal);
        if head.version < Version::HTTP_2 && !upload::is_done_with(&head.headers, body).await {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        if !matches!(method, Method::GET | Method::HEAD) {
            let status = response.status().as_u16();
            tracing::info!(%peer, %method, path, status, "an admin call");
        }
        reply::without_body_for(&method, response)
    }

    async fn respond<B>(&self, head: &request::Parts, body: Pin<&mut B>, peer: SocketAddr) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = Target::of(head.uri.path()).ok_or_else(|| {
            problem(
                StatusCode::NOT_FOUND,
                "there is nothing here: try /guests, /store, /metrics, /healthz or /readyz",
            )
        });
        let reach = Reach::of(&self.options);
        let needs = target.as_ref().map_or(Needs::Everything, Target::needs);
        access::check(reach, self.options.token.as_ref(), needs, head)?;
        let target = target?;
        target.check_method(&head.method)?;
        match target {
            Target::Alive => Ok(reply::json(
                StatusCode::OK,
                &serde_json::json!({ "status": "alive" }),
            )),
            Target::Ready => Ok(self.readiness()),
            Target::Metrics => Ok(reply::metrics(metrics::text(&*self.parts()?))),
            Target::Guests => Ok(guests::list(&*self.parts()?)),
            Target::Guest(name) if head.method == Method::PUT => {
                let parts = self.working_parts()?;
                guests::put(&parts, &self.uploads, name, head, body, peer).await
            }
            Target::Guest(name) => guests::show(&*self.parts()?, name),
            Target::Rollback(name) => {
                guests::roll_back(&*self.working_parts()?, name, &head.headers)
            }
            Target::Store => Ok(store::show(&*self.parts()?)),
            Target::PreferFirst => store::prefer_first(&*self.working_parts()?).await,
        }
    }

    /// A store that is down does not make the host unready: every host has the same store, so a load balancer would take all of
    /// them out, and with them all that needs no session. One that only a restart can mend does: it is this host's alone.
    fn readiness(&self) -> Response<Body> {
        match self.working_parts() {
            // Callers need no token for this, and the reason names files: it is in the log alone.
            Ok(parts) if parts.store.halted().is_some() => *problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the session store is not written any more; the log says why: restart the host",
            ),
            Ok(parts) => {
                let store = match parts.store.standing() {
                    Standing::Up => "up",
                    Standing::Down => "down",
                };
                let told = serde_json::json!({ "status": "ready", "store": store });
                reply::json(StatusCode::OK, &told)
            }
            Err(refusal) => *refusal,
        }
    }

    fn parts(&self) -> Result<Arc<Parts>, Refusal> {
        let not_there = "the host does not serve yet, or no more";
        let parts = self.parts.load_full();
        parts.ok_or_else(|| problem(StatusCode::SERVICE_UNAVAILABLE, not_there))
    }

    /// The parts of a host that is not about to stop.
    fn working_parts(&self) -> Result<Arc<Parts>, Refusal> {
        let parts = self.parts()?;
        if parts.shutdown.is_cancelled() {
            let stopping = "the host is stopping";
            return Err(problem(StatusCode::SERVICE_UNAVAILABLE, stopping));
        }
        Ok(parts)
    }
}

/// What a path is.
enum Target {
    Alive,
    Ready,
    Metrics,
    Guests,
    Guest(String),
    Rollback(String),
    Store,
    PreferFirst,
}

impl Target {
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

    fn needs(&self) -> Needs {
        match self {
            Self::Alive | Self::Ready => Needs::Nothing,
            Self::Metrics => Needs::Little,
            Self::Guests | Self::Guest(_) | Self::Rollback(_) | Self::Store | Self::PreferFirst => {
                Needs::Everything
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
        if allowed.contains(method) {
            return Ok(());
        }
        Err(reply::method_not_allowed(allowed))
    }
}

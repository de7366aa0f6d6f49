//! The control interface: HTTP and JSON requests with which the tests of a guest start hosts and simulate conditions of a real
//! deployment. It listens on this machine only, refuses requests from web pages, and is available while the test command runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::host::{SwapError, TestHost, TestProject};
use super::wire::{
    self, AdvanceClock, ClockReading, EmptyObject, NewSession, StartedHost, StoreBehavior,
    StoredCookiePair, SwapRequest, SwapResult,
};
use cloakroom_base::limits;
use cloakroom_base::quota::{QuotaPeer, QuotaTotals, Quotas};
use cloakroom_host::app::StartError;
use cloakroom_host::config::ConfigFault;
use cloakroom_host::json_api;
use cloakroom_host::json_api::{Body, Refusal, Reply, ok, problem};
use cloakroom_runtime::DeployError;
use cloakroom_server as server;
use cloakroom_server::{ConnectionEnds, RequestBody, Service};

/// The control interface. Dropping it stops its hosts.
pub(crate) struct ControlServer {
    project: Arc<TestProject>,
    hosts: Mutex<BTreeMap<u64, Arc<TestHost>>>,
    last_host: AtomicU64,
    quotas: Arc<Quotas>,
}

/// The resource that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlTarget {
    Hosts,
    Host(u64, HostPart),
}

/// The part of a host that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostPart {
    Whole,
    Clock,
    Rivals,
    Store,
    Swap,
    Sessions,
    Counts,
}

impl ControlServer {
    /// Creates an interface without hosts.
    pub(crate) fn over(project: Arc<TestProject>) -> Arc<Self> {
        Arc::new(Self {
            project,
            hosts: Mutex::default(),
            last_host: AtomicU64::new(0),
            quotas: Quotas::new(QuotaTotals {
                connections: limits::TEST_CONNECTIONS_MAX,
                ..QuotaTotals::default()
            }),
        })
    }

    /// Listens on a free port and serves until the process ends.
    ///
    /// # Errors
    /// Returns an error if no port can be opened.
    pub(crate) async fn serve(self: Arc<Self>) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let options = server::ServerOptions::default();
        let never = CancellationToken::new();
        tokio::spawn(server::run(listener, self, options, Arc::default(), never));
        Ok(address)
    }

    async fn respond<B: RequestBody>(
        &self,
        head: &http::request::Parts,
        body: Pin<&mut B>,
    ) -> Reply {
        json_api::check_no_page(head)?;
        let target = ControlTarget::of(head.uri.path())?;
        target.check_method(&head.method)?;
        let (id, part) = match target {
            ControlTarget::Hosts => {
                let _: EmptyObject = wire::read(body).await?;
                return self.start().await;
            }
            ControlTarget::Host(id, part) => (id, part),
        };
        let host = self.host(id)?;
        let is_get = head.method == Method::GET;
        match part {
            HostPart::Whole => {
                self.hosts.lock().remove(&id);
                Ok(no_content())
            }
            HostPart::Clock if is_get => Ok(ok(&ClockReading {
                now_ms: host.now_ms(),
            })),
            HostPart::Clock => advance(&host, &wire::read(body).await?),
            HostPart::Rivals => send_rival(&host, body).await,
            HostPart::Store => {
                let standing: StoreBehavior = wire::read(body).await?;
                host.store().set_down(!standing.up);
                Ok(no_content())
            }
            HostPart::Swap => swap(&host, wire::read(body).await?).await,
            HostPart::Sessions if is_get => Ok(ok(&host.stored())),
            HostPart::Sessions => seed(&host, &wire::read(body).await?).await,
            HostPart::Counts => Ok(ok(&host.counts())),
        }
    }

    async fn start(&self) -> Reply {
        self.check_room()?;
        let host = self.project.start().await.map_err(|error| match error {
            StartError::AtFault(faults) => {
                let faults: Vec<_> = faults.iter().map(ConfigFault::to_string).collect();
                unprocessable(faults.join("\n"))
            }
            StartError::Failed(failure) => problem(StatusCode::CONFLICT, failure.to_string()),
        })?;
        let url = format!("http://{}", host.address());
        let number = self.last_host.fetch_add(1, Ordering::Relaxed) + 1;
        self.hosts.lock().insert(number, Arc::new(host));
        let started = StartedHost { host: number, url };
        Ok(json_api::json(StatusCode::CREATED, &started))
    }

    fn check_room(&self) -> Result<(), Refusal> {
        let hosts = self.hosts.lock().len();
        if hosts < limits::TEST_HOSTS_MAX {
            return Ok(());
        }
        let sentence = format!(
            "{hosts} hosts run, which is the maximum: end one, for example with DELETE /hosts/1"
        );
        Err(problem(StatusCode::CONFLICT, sentence))
    }

    fn host(&self, number: u64) -> Result<Arc<TestHost>, Refusal> {
        let host = self.hosts.lock().get(&number).cloned();
        host.ok_or_else(|| {
            let sentence = format!("there is no host {number}: it was ended, or never started");
            problem(StatusCode::NOT_FOUND, sentence)
        })
    }
}

impl Service for ControlServer {
    type Body = Body;

    fn share(&self, address: IpAddr) -> QuotaPeer {
        self.quotas.peer(address)
    }

    async fn answer<B: RequestBody + 'static>(
        self: Arc<Self>,
        request: Request<B>,
        _: ConnectionEnds,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut body = pin!(body);
        let reply = self.respond(&head, body.as_mut()).await;
        json_api::complete(&head, body, reply).await
    }
}

fn advance(host: &TestHost, request: &AdvanceClock) -> Reply {
    let now_ms = host.advance(request.advance_ms).ok_or_else(|| {
        let sentence = "advance_ms: the clock cannot be moved beyond the end of the year 2099";
        unprocessable(sentence)
    })?;
    Ok(ok(&ClockReading { now_ms }))
}

async fn send_rival<B: RequestBody>(host: &TestHost, body: Pin<&mut B>) -> Reply {
    let rival = wire::read_rival(body).await?;
    let waiting = host.store().waiting();
    if waiting >= limits::TEST_RIVALS_MAX {
        let sentence = format!("{waiting} rivals wait for a commit, which is the maximum");
        return Err(problem(StatusCode::CONFLICT, sentence));
    }
    host.store().send(rival);
    Ok(no_content())
}

async fn swap(host: &TestHost, request: SwapRequest) -> Reply {
    match host.swap(request.guest, request.component).await {
        Ok(version) => Ok(ok(&SwapResult { version })),
        Err(error) => {
            let status = match &error {
                SwapError::NoSuchGuest { .. } => StatusCode::NOT_FOUND,
                SwapError::NoGuestNamed { .. } => StatusCode::BAD_REQUEST,
                SwapError::Refused(DeployError::Host(_)) => StatusCode::INTERNAL_SERVER_ERROR,
                SwapError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            };
            Err(problem(status, error.to_string()))
        }
    }
}

async fn seed(host: &TestHost, request: &NewSession) -> Reply {
    let seeded = host.seed(&request.data).await;
    let cookie = seeded.map_err(|error| unprocessable(format!("data: {error}")))?;
    Ok(json_api::json(
        StatusCode::CREATED,
        &StoredCookiePair { cookie },
    ))
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn unprocessable(sentence: impl Into<String>) -> Refusal {
    problem(StatusCode::UNPROCESSABLE_ENTITY, sentence)
}

impl ControlTarget {
    fn of(path: &str) -> Result<Self, Refusal> {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        let known = match parts.as_slice() {
            ["hosts"] => Some(Self::Hosts),
            ["hosts", number, rest @ ..] => HostPart::of(rest)
                .zip(number.parse().ok())
                .map(|(part, number)| Self::Host(number, part)),
            _ => None,
        };
        known.ok_or_else(|| {
            let sentence = format!(
                "there is nothing at {path}: the paths are /hosts, /hosts/1 and, below /hosts/1, clock, rivals, store, swap, \
                 sessions and counts"
            );
            problem(StatusCode::NOT_FOUND, sentence)
        })
    }

    fn check_method(self, method: &Method) -> Result<(), Refusal> {
        let allowed: &[Method] = match self {
            Self::Hosts => &[Method::POST],
            Self::Host(_, part) => match part {
                HostPart::Whole => &[Method::DELETE],
                HostPart::Clock | HostPart::Sessions => &[Method::GET, Method::POST],
                HostPart::Rivals | HostPart::Swap => &[Method::POST],
                HostPart::Store => &[Method::PUT],
                HostPart::Counts => &[Method::GET],
            },
        };
        json_api::check_method(method, allowed)
    }
}

impl HostPart {
    fn of(rest: &[&str]) -> Option<Self> {
        Some(match rest {
            [] => Self::Whole,
            ["clock"] => Self::Clock,
            ["rivals"] => Self::Rivals,
            ["store"] => Self::Store,
            ["swap"] => Self::Swap,
            ["sessions"] => Self::Sessions,
            ["counts"] => Self::Counts,
            _ => return None,
        })
    }
}

//! The house put together: a checked configuration becomes parts, the parts become one [`App`], and the app serves until it is
//! told to stop. The one place that knows all parts; decides nothing that one of them could decide.

mod settings;
mod stores;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{self, Config, Fault};
use crate::cookie::{KeyRing, Secret};
use crate::guest::{Guest, GuestRegistry, Runtime};
use crate::handler::{self, Handler};
use crate::route::{RouteError, RouteTable};
use crate::server::{self, Incoming, Link};
use crate::session::SessionManager;
use crate::store::reaper;
use stores::OpenStore;

/// A host that is ready to serve.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    listener: server::Options,
    handler: Arc<Handler>,
    sessions: Arc<SessionManager>,
    store: OpenStore,
    clock: Clock,
    /// None where expired rows are left to somebody else.
    reaper: Option<reaper::Options>,
}

impl App {
    /// Builds every part: reads and compiles the guests, opens the store, lays out the routes.
    ///
    /// # Errors
    /// Every fault that was found, not only the first.
    pub async fn build(config: Config) -> Result<Self, Vec<Fault>> {
        Self::build_with_clock(config, Clock::system()).await
    }

    /// As [`App::build`], on a clock of the caller's: a test moves it.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_with_clock(config: Config, clock: Clock) -> Result<Self, Vec<Fault>> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let mut faults = Vec::new();
        let routes = note(&mut faults, routes(&config));
        let keys = note(&mut faults, keys(&config).map_err(|fault| vec![fault]));
        let guests = note(
            &mut faults,
            load_guests(&config.guests, &config.server).await,
        );
        let store = stores::open(&config.store)
            .await
            .map_err(|fault| vec![fault]);
        let store = note(&mut faults, store);
        let (Some(routes), Some(keys), Some(guests), Some(store)) = (routes, keys, guests, store)
        else {
            return Err(faults);
        };

        let sessions = SessionManager::new(
            settings::session(&config),
            keys,
            store.as_dyn(),
            clock.clone(),
        );
        let registry = Arc::new(GuestRegistry::new(guests));
        let reaper = reaper::Options::new(config.store.check_expiration_interval);
        Ok(Self {
            listen: config.listen,
            handler: Handler::new(
                settings::handler(&config),
                routes,
                registry,
                Arc::clone(&sessions),
            ),
            listener: config.server.listener,
            sessions,
            store,
            clock,
            reaper: config.store.clear_expired.then_some(reaper),
        })
    }

    /// The configuration's address.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// A listener on the configuration's address; its own `local_addr` says which port the system chose for port 0.
    ///
    /// # Errors
    /// When the address is taken, or not this machine's.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        TcpListener::bind(self.listen).await
    }

    /// Its sessions, for whoever counts or inspects them.
    pub fn sessions(&self) -> &Arc<SessionManager> {
        &self.sessions
    }

    /// Serves `listener` until `shutdown` is cancelled and all that was under way is settled.
    ///
    /// Cancel safety: dropping it cuts connections and may leave commits unsettled, as a crash would.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let reaper_shutdown = CancellationToken::new();
        let reaper = self.reaper.map(|options| {
            let (store, clock) = (self.store.as_dyn(), self.clock.clone());
            tokio::spawn(reaper::run(store, clock, options, reaper_shutdown.clone()))
        });
        let grace = self.listener.grace;
        let front = Front(Arc::clone(&self.handler));
        server::run(listener, front, self.listener, shutdown).await;

        // Requests whose clients were cut go on to their deadline: their commits may have been sent already.
        within(grace, "requests", self.handler.drain()).await;
        within(grace, "sessions", self.sessions.shutdown()).await;
        reaper_shutdown.cancel();
        if let Some(reaper) = reaper
            && let Err(error) = reaper.await
        {
            tracing::error!(%error, "the reaper ended badly");
        }
        drop((self.handler, self.sessions));
        within(grace, "the store", self.store.close()).await;
        tracing::info!("stopped");
    }
}

/// Finds what is wrong with a configuration beyond its text: routes that exclude each other, components that do not load.
/// Opens no store and listens nowhere.
///
/// # Errors
/// Every fault that was found.
pub async fn check(config: &Config) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    note(&mut faults, routes(config));
    // A folder made by whoever checks may not be the one's who serves: only one that is there is used.
    let mut server = config.server.clone();
    server.code_cache = server.code_cache.filter(|folder| folder.is_dir());
    note(&mut faults, load_guests(&config.guests, &server).await);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

/// Reads, compiles and tries the guests, side by side; for `check` as well, which opens no store.
///
/// # Errors
/// A fault for every guest that cannot be loaded.
pub async fn load_guests(
    guests: &[config::GuestSettings],
    server: &config::ServerSettings,
) -> Result<Vec<Guest>, Vec<Fault>> {
    let runtime = match Runtime::new(&settings::guest_runtime(guests, server)) {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            let problem = format!("cannot set up the guests' memory: {error:#}");
            let remedy = "allow more address space (ulimit -v), or lower [server] instances_max or a guest's memory limit";
            return Err(vec![Fault::new("guest", problem, remedy)]);
        }
    };
    let mut faults = Vec::new();
    let mut loads = JoinSet::new();
    for guest in guests {
        match settings::guest(guest) {
            Err(fault) => faults.push(fault),
            Ok(settings) => {
                let runtime = Arc::clone(&runtime);
                let key = format!("guest.{}.component", guest.name);
                loads.spawn_blocking(move || {
                    let remedy = "name the file of a component that handles HTTP";
                    runtime
                        .load(settings)
                        .map_err(|error| Fault::new(key, error.to_string(), remedy))
                });
            }
        }
    }
    let mut loaded = Vec::new();
    while let Some(load) = loads.join_next().await {
        match load.expect("loading a guest neither panics nor is cancelled") {
            Ok(guest) => loaded.push(guest),
            Err(fault) => faults.push(fault),
        }
    }
    faults.sort_by(|a, b| a.key.cmp(&b.key));
    if faults.is_empty() {
        Ok(loaded)
    } else {
        Err(faults)
    }
}

fn routes(config: &Config) -> Result<RouteTable, Vec<Fault>> {
    RouteTable::new(config.routes.clone())
        .map_err(|errors| errors.iter().map(route_fault).collect())
}

fn route_fault(error: &RouteError) -> Fault {
    let (RouteError::BadPath { route, .. } | RouteError::Conflict { route, .. }) = error;
    let remedy = match error {
        RouteError::BadPath { .. } => "write a path such as \"/user/{id}\" or \"/files/{*rest}\"",
        RouteError::Conflict { .. } => {
            "leave out one of the two, or give them different methods or hosts"
        }
    };
    Fault::new(format!("route[{route}].path"), error.to_string(), remedy)
}

fn keys(config: &Config) -> Result<KeyRing, Fault> {
    let secrets = config.session.secrets.obtain()?;
    KeyRing::new(secrets.into_iter().map(Secret::new).collect()).map_err(|error| {
        Fault::new(
            "session.secrets",
            error.to_string(),
            "give at least one secret",
        )
    })
}

fn note<T>(faults: &mut Vec<Fault>, result: Result<T, Vec<Fault>>) -> Option<T> {
    result.map_err(|found| faults.extend(found)).ok()
}

async fn within(grace: Duration, what: &'static str, end: impl Future<Output = ()>) {
    if tokio::time::timeout(grace, end).await.is_err() {
        tracing::warn!(what, "did not end within the grace period");
    }
}

/// The handler as the server sees it.
#[derive(Clone)]
struct Front(Arc<Handler>);

impl server::Service for Front {
    type Body = handler::Body;

    fn answer(
        &self,
        request: Request<Incoming>,
        link: Link,
    ) -> impl Future<Output = Response<handler::Body>> + Send + 'static {
        let handler = Arc::clone(&self.0);
        let ends = handler::Ends {
            peer: link.peer,
            local: link.local,
        };
        async move { handler.answer(request, ends).await }
    }
}

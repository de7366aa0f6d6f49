//! Assembles the host. Builds the parts from a checked configuration, joins them into one [`App`], and serves until shutdown.
//! This is the only module that knows all the parts. It makes no decision that one of the parts could make.

mod admin;
mod descriptors;
mod guests;
mod keys;
mod probe;
mod refused;
mod reload;
mod services;
mod startup_message;
mod store_copy;

pub use crate::failure::{StartError, StartFailure};
pub use admin::{AdminCall, AdminListener, call_admin};
pub use guests::fit;
pub use reload::{ReloadOutcome, ReloadRequests};
pub use startup_message::StartupMessage;
pub use store_copy::{CopyCall, StoreCall, StoreReport, call_store};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::config::{Config, ConfigFault};
use crate::handler::{Handler, RequestHook, RoutedGuests};
use crate::route::{RouteError, RouteTable};
use crate::stores::OpenStore;
use cloakroom_base::clock::Clock;
use cloakroom_base::quota::Quotas;
use cloakroom_runtime as guest;
use cloakroom_runtime::{Deployer, Deployments, GuestRegistry, Services};
use cloakroom_server as server;
use cloakroom_server::ConnectionCount;
use cloakroom_session as session;
use cloakroom_session::SessionManager;
use cloakroom_session::store::SessionStore;
use cloakroom_session::store::metered::MeteredStore;
use cloakroom_session::store::reaper;
use keys::SigningKeys;
use reload::Reloader;

/// A host that is ready to serve.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    listener: server::ServerOptions,
    handler: Arc<Handler>,
    deployer: Arc<Deployer>,
    registry: Arc<GuestRegistry>,
    /// The parts of the host that the guests' interfaces use.
    services: Arc<Services>,
    keys: SigningKeys,
    store: Box<dyn OpenStore>,
    /// The store with its metrics. Every part of the host accesses the store through this value.
    metered: Arc<MeteredStore>,
    connections: Arc<ConnectionCount>,
    admin_listener: Option<AdminListener>,
    clock: Clock,
    /// Whether this host created its guest runtime. It is false for hosts that share a runtime in one process.
    owns_runtime: bool,
    /// `None` if this host does not delete expired rows.
    reaper: Option<reaper::ReaperOptions>,
    /// The configuration the host was built from. A reload compares the new configuration with it.
    config: Config,
    /// `None` if the host never reads its configuration again.
    reloads: Option<ReloadRequests>,
}

/// Overrides for the parts of the outside world that a host depends on. A test, for example, supplies a clock that it can move.
pub struct Overrides {
    /// Wall-clock time.
    pub clock: Clock,
    /// Wraps the configured store, for example to observe its calls or to make them fail.
    pub wrap_store: StoreWrapper,
    /// The runtime that runs the guests, shared with other hosts in this process. With `None` the host creates its own.
    pub runtime: Option<guest::Runtime>,
    /// When the host loads its first guests.
    pub guests: GuestStart,
    /// A hook that sees every request and may answer it in place of a guest.
    pub request_hook: Option<Arc<dyn RequestHook>>,
}

/// Takes the configured store and returns the store that the host uses instead.
pub type StoreWrapper = Box<dyn FnOnce(Arc<dyn SessionStore>) -> Arc<dyn SessionStore> + Send>;

/// The time at which a host loads its first guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestStart {
    /// All guests are loaded before the host starts. The host does not start if one of them is refused.
    #[default]
    AtTheStart,
    /// Guests are loaded when a caller deploys them. Until then, no guest answers on their routes.
    Later,
}

/// Uses the system clock, the unwrapped store and a new runtime, loads all guests before the start, and has no request hook.
impl Default for Overrides {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            wrap_store: Box::new(|store| store),
            runtime: None,
            guests: GuestStart::default(),
            request_hook: None,
        }
    }
}

impl App {
    /// Builds every part: reads and compiles the guests, opens the store and creates the route table.
    ///
    /// # Errors
    /// Returns every fault that was found, not only the first. Returns a failure if the store cannot be reached, even though
    /// its configuration may be correct.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        Self::build_in(config, Overrides::default()).await
    }

    /// Builds the host as [`App::build`] does, with the given overrides.
    ///
    /// # Errors
    /// Returns the errors of [`App::build`].
    pub async fn build_in(config: Config, overrides: Overrides) -> Result<Self, StartError> {
        let Overrides {
            clock,
            wrap_store,
            runtime,
            guests: first_guests,
            request_hook,
        } = overrides;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let mut faults = Vec::new();
        let routes = note(&mut faults, routes(&config));
        let keys = note(
            &mut faults,
            SigningKeys::of(&config, None).map_err(|fault| vec![fault]),
        );
        let options = config.session_options();
        let owns_runtime = runtime.is_none();
        // Only hosts of a test share a runtime.
        let server = match owns_runtime {
            true => descriptors::provide(&config).map_err(StartError::Failed)?,
            false => config.server.clone(),
        };
        let deployer = match runtime {
            Some(runtime) => Ok(guests::deployer_on(runtime, options.clone(), &clock)),
            None => guests::deployer(&config.guests, &server, options.clone(), &clock),
        };
        let deployer = note(&mut faults, deployer.map_err(|fault| vec![fault]));
        let guests = match (&deployer, first_guests) {
            (None, _) => None,
            (Some(_), GuestStart::Later) => Some(guests::awaited(&config.guests)),
            (Some(deployer), GuestStart::AtTheStart) => {
                let examined =
                    guests::examine(deployer, &config.guests, &Deployments::default()).await;
                note(&mut faults, examined)
            }
        };
        let store = match config.store.backend.open().await {
            Ok(store) => store,
            Err(error) => return Err(error.with(faults)),
        };
        let (Some(routes), Some(keys), Some(deployer), Some(guests)) =
            (routes, keys, deployer, guests)
        else {
            return Err(StartError::AtFault(faults));
        };

        let metered = MeteredStore::new(wrap_store(store.sessions()));
        let options = session::SessionOptions {
            charset: store.charset(),
            ..options
        };
        let (store_of_all, ids) = (Arc::clone(&metered) as _, store.id_comparison());
        let services = services::services(options, &keys, store_of_all, ids, &clock);
        let guests = Arc::new(guests.activate());
        let registry = Arc::new(GuestRegistry::new(Arc::clone(&guests)));
        let reaper = reaper::ReaperOptions::new(config.store.check_expiration_interval);
        Ok(Self {
            listen: config.listen,
            handler: Handler::new(
                config.handler_options(),
                RoutedGuests { routes, guests },
                Arc::clone(&services),
                Quotas::new(server.totals),
                request_hook,
            ),
            deployer,
            registry,
            listener: server.listener,
            services,
            keys,
            store,
            metered,
            connections: Arc::default(),
            admin_listener: None,
            clock,
            owns_runtime,
            reaper: config.store.clear_expired.then_some(reaper),
            config,
            reloads: None,
        })
    }

    /// Binds a listener to the configured address. For port 0, its `local_addr` returns the port that the system chose.
    ///
    /// # Errors
    /// Returns an error if the address is in use, does not belong to this machine, or may not be opened by this user.
    pub async fn bind(&self) -> Result<TcpListener, StartFailure> {
        let bound = TcpListener::bind(self.listen).await;
        let elsewhere = "--listen ADDRESS:PORT, CLOAKROOM_LISTEN or `listen` in the file";
        bound.map_err(|error| StartFailure::to_listen(self.listen, &error, elsewhere))
    }

    /// Adds an admin interface to the host. The interface reports "ready" from this call until `shutdown` is cancelled, and
    /// stays open until [`App::run`] returns. Call this once visitors can connect.
    #[must_use]
    pub fn with_admin(
        self,
        admin_listener: Option<AdminListener>,
        shutdown: &CancellationToken,
    ) -> Self {
        if let Some(admin_listener) = &admin_listener {
            admin_listener.serve(&self, shutdown);
        }
        Self {
            admin_listener,
            ..self
        }
    }

    /// Reads the configuration again at every request that `reloads` receives while the host runs.
    #[must_use]
    pub fn with_reloads(self, reloads: ReloadRequests) -> Self {
        Self {
            reloads: Some(reloads),
            ..self
        }
    }

    /// Returns the session manager, for example to count or inspect sessions.
    pub fn sessions(&self) -> &Arc<SessionManager> {
        &self.services.sessions
    }

    /// Returns the guest registry, for example to list or change guests.
    pub fn guests(&self) -> &Arc<GuestRegistry> {
        &self.registry
    }

    /// Returns the request handler, for example to read its request counters.
    pub fn handler(&self) -> &Arc<Handler> {
        &self.handler
    }

    /// Returns the [`Deployer`], which validates and deploys new guest versions.
    pub fn deployer(&self) -> &Arc<Deployer> {
        &self.deployer
    }

    /// Serves `listener` until `shutdown` is cancelled, then waits up to the grace period each for the requests, sessions and
    /// other work in progress.
    ///
    /// Cancel safety: dropping the future cuts connections and may leave commits unresolved, as a crash would.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let renewals = self.renew_until(&shutdown);
        let reaper_shutdown = CancellationToken::new();
        let reaper = self.reaper.map(|options| {
            let (store, clock) = (Arc::clone(&self.metered) as _, self.clock.clone());
            tokio::spawn(reaper::run(store, clock, options, reaper_shutdown.clone()))
        });
        let grace = self.listener.grace;
        let service = Arc::clone(&self.handler);
        server::run(listener, service, self.listener, self.connections, shutdown).await;

        // A request whose client was disconnected runs until its deadline, because its commit may have been sent already.
        within(grace, "requests", self.handler.drain()).await;
        within(grace, "sessions", self.services.sessions.shutdown()).await;
        if self.owns_runtime {
            self.deployer.stop();
        }
        within(grace, "reloads", renewals.wait()).await;
        reaper_shutdown.cancel();
        if let Some(reaper) = reaper
            && let Err(error) = reaper.await
        {
            tracing::error!(%error, "the reaper failed");
        }
        if let Some(admin_listener) = self.admin_listener {
            admin_listener.close().await;
        }
        drop((self.handler, self.services, self.metered));
        within(grace, "the store", self.store.close()).await;
        tracing::info!("stopped");
    }

    /// Starts the tasks that apply changes of component files and reload the configuration. They run until `shutdown` is
    /// cancelled.
    fn renew_until(&self, shutdown: &CancellationToken) -> TaskTracker {
        let renewals = TaskTracker::new();
        if self.config.server.watch {
            let (registry, deployer) = (Arc::clone(&self.registry), Arc::clone(&self.deployer));
            renewals.spawn(guest::watch(registry, deployer, shutdown.clone()));
        }
        if let Some(reloads) = self.reloads.clone() {
            let (reloader, shutdown) = (Reloader::new(self), shutdown.clone());
            renewals.spawn(async move {
                shutdown.run_until_cancelled(reloader.run(reloads)).await;
            });
        }
        renewals.close();
        renewals
    }
}

/// Creates a runtime for the guests of a configuration. Several hosts of this process can share it.
///
/// # Errors
/// Returns an error if the system refuses the memory.
pub fn runtime(config: &Config) -> Result<guest::Runtime, ConfigFault> {
    guests::runtime(&config.guests, &config.server)
}

/// Finds faults of a configuration that its text alone does not show: conflicting routes and components that do not load. Opens
/// no store and no listener. Returns warnings about settings that are valid but will not work at present.
///
/// # Errors
/// Returns every fault that was found.
pub async fn check(config: &Config) -> Result<Vec<String>, Vec<ConfigFault>> {
    let mut faults = Vec::new();
    note(&mut faults, routes(config));
    let server = guests::settings_for_check(&config.server);
    let options = config.session_options();
    note(
        &mut faults,
        guests::check(&config.guests, &server, options).await,
    );
    if faults.is_empty() {
        Ok(guests::private_names(&config.guests).await)
    } else {
        Err(faults)
    }
}

/// Checks the guests as [`check`] does, and nothing else. This works for a configuration that was refused as a whole.
///
/// # Errors
/// Returns a fault for every guest that cannot be loaded.
pub async fn check_guests(
    guests: &[guest::GuestSettings],
    server: &config::ServerSettings,
) -> Result<(), Vec<ConfigFault>> {
    guests::check(guests, server, session::SessionOptions::default()).await
}

fn routes(config: &Config) -> Result<RouteTable, Vec<ConfigFault>> {
    RouteTable::new(config.routes.clone())
        .map_err(|errors| errors.iter().map(route_fault).collect())
}

fn route_fault(error: &RouteError) -> ConfigFault {
    let (RouteError::BadPath { route, .. } | RouteError::Conflict { route, .. }) = error;
    let remedy = match error {
        RouteError::BadPath { .. } => "write a path such as \"/user/{id}\" or \"/files/{*rest}\"",
        RouteError::Conflict { .. } => {
            "leave out one of the two, or give them different methods or hosts"
        }
    };
    ConfigFault::new(format!("route[{route}].path"), error.to_string(), remedy)
}

fn note<T>(faults: &mut Vec<ConfigFault>, result: Result<T, Vec<ConfigFault>>) -> Option<T> {
    result.map_err(|found| faults.extend(found)).ok()
}

async fn within(grace: Duration, what: &'static str, end: impl Future<Output = ()>) {
    if tokio::time::timeout(grace, end).await.is_err() {
        tracing::warn!(what, "did not end within the grace period");
    }
}

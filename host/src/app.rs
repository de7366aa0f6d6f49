//! The house put together: a checked configuration becomes parts, the parts become one [`App`], and the app serves until it is
//! told to stop. The one place that knows all parts; decides nothing that one of them could decide.

mod admin;
mod descriptors;
mod failure;
mod greeting;
mod guests;
mod house_move;
mod keys;
mod probe;
mod refused;
mod reload;
mod settings;
mod stores;

pub use admin::{AdminCall, Desk, call_admin};
pub use failure::{Failure, StartError};
pub use greeting::Greeting;
pub use guests::fit;
pub use house_move::{CopyCall, StoreCall, StoreReport, call_store};
pub use reload::{ReloadOutcome, Reloads};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{self, Config, Fault};
use crate::cookie::Jar;
use crate::guest::{self, Admission, Deployments, GuestRegistry};
use crate::handler::{self, Attendant, Handler, Site};
use crate::quota::{Peer, Quotas};
use crate::route::{RouteError, RouteTable};
use crate::server::{self, ConnectionCount, Incoming, Link};
use crate::session::{self, SessionManager};
use crate::store::SessionStore;
use crate::store::metered::Metered;
use crate::store::reaper;
use keys::Keys;
use reload::Reloader;
use stores::OpenStore;

/// A host that is ready to serve.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    listener: server::Options,
    handler: Arc<Handler>,
    admission: Arc<Admission>,
    registry: Arc<GuestRegistry>,
    sessions: Arc<SessionManager>,
    /// What reads and writes the guests' own cookies.
    jar: Arc<Jar>,
    keys: Keys,
    store: OpenStore,
    /// The store, as all use it.
    metered: Arc<Metered>,
    connections: Arc<ConnectionCount>,
    desk: Option<Desk>,
    clock: Clock,
    /// Whether no other host compiles on its guests' runtime.
    owns_runtime: bool,
    /// None where expired rows are left to somebody else.
    reaper: Option<reaper::Options>,
    /// What it was built from, to tell what changes.
    config: Config,
    /// None where it is never read again.
    reloads: Option<Reloads>,
}

/// What a host takes from the outside world, for whoever lets it run in another one: a test moves its clock.
pub struct Surroundings {
    /// Wall-clock time.
    pub clock: Clock,
    /// Puts something in front of the store that the configuration names: what looks on, or lets it fail.
    pub in_front: InFront,
    /// What runs the guests, beside that of other hosts in this process; `None`: one of its own.
    pub runtime: Option<guest::Runtime>,
    /// Whether it waits for its guests.
    pub guests: FirstGuests,
    /// Who sees every request and may answer in a guest's place.
    pub attendant: Option<Arc<dyn Attendant>>,
}

/// Makes of a store what the host uses in its place.
pub type InFront = Box<dyn FnOnce(Arc<dyn SessionStore>) -> Arc<dyn SessionStore> + Send>;

/// When a host's first guests come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstGuests {
    /// Before it starts, all of them; one that is refused keeps it from starting.
    #[default]
    AtTheStart,
    /// Whenever somebody admits them: until then there is nothing behind their routes.
    Later,
}

/// The machine's clock, and the store itself; guests at the start, attended by nobody.
impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            in_front: Box::new(|store| store),
            runtime: None,
            guests: FirstGuests::default(),
            attendant: None,
        }
    }
}

impl App {
    /// Builds every part: reads and compiles the guests, opens the store, lays out the routes.
    ///
    /// # Errors
    /// Every fault that was found, not only the first; or that a store which may be named rightly cannot be reached.
    pub async fn build(config: Config) -> Result<Self, StartError> {
        Self::build_in(config, Surroundings::default()).await
    }

    /// As [`App::build`], in surroundings of the caller's.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_in(config: Config, surroundings: Surroundings) -> Result<Self, StartError> {
        let Surroundings {
            clock,
            in_front,
            runtime,
            guests: first_guests,
            attendant,
        } = surroundings;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let mut faults = Vec::new();
        let routes = note(&mut faults, routes(&config));
        let keys = note(
            &mut faults,
            Keys::of(&config, None).map_err(|fault| vec![fault]),
        );
        let options = settings::session(&config);
        let owns_runtime = runtime.is_none();
        // Hosts that share a runtime are those of a test.
        let server = match owns_runtime {
            true => descriptors::provide(&config).map_err(StartError::Failed)?,
            false => config.server.clone(),
        };
        let admission = match runtime {
            Some(runtime) => Ok(guests::admission_on(runtime, options.clone(), &clock)),
            None => guests::admission(&config.guests, &server, options.clone(), &clock),
        };
        let admission = note(&mut faults, admission.map_err(|fault| vec![fault]));
        let guests = match (&admission, first_guests) {
            (None, _) => None,
            (Some(_), FirstGuests::Later) => Some(guests::awaited(&config.guests)),
            (Some(admission), FirstGuests::AtTheStart) => {
                let examined =
                    guests::examine(admission, &config.guests, &Deployments::default()).await;
                note(&mut faults, examined)
            }
        };
        let store = match stores::open(&config.store).await {
            Ok(store) => store,
            Err(error) => return Err(error.with(faults)),
        };
        let (Some(routes), Some(keys), Some(admission), Some(guests)) =
            (routes, keys, admission, guests)
        else {
            return Err(StartError::AtFault(faults));
        };

        let metered = Metered::new(in_front(store.as_dyn()));
        let (store_of_all, session_keys) = (Arc::clone(&metered) as _, Arc::clone(&keys.session));
        let options = session::Options {
            charset: store.charset(),
            ..options
        };
        let sessions = SessionManager::new(options, session_keys, store_of_all, clock.clone());
        let jar = Jar::new(
            &config.session.name,
            keys.of_jar(store.id_comparison()),
            clock.clone(),
        );
        let guests = Arc::new(guests.activate());
        let registry = Arc::new(GuestRegistry::new(Arc::clone(&guests)));
        let reaper = reaper::Options::new(config.store.check_expiration_interval);
        Ok(Self {
            listen: config.listen,
            handler: Handler::new(
                settings::handler(&config),
                Site { routes, guests },
                Arc::clone(&sessions),
                Arc::clone(&jar),
                Quotas::new(server.totals),
                attendant,
            ),
            admission,
            registry,
            listener: server.listener,
            sessions,
            jar,
            keys,
            store,
            metered,
            connections: Arc::default(),
            desk: None,
            clock,
            owns_runtime,
            reaper: config.store.clear_expired.then_some(reaper),
            config,
            reloads: None,
        })
    }

    /// A listener on the configuration's address; its own `local_addr` says which port the system chose for port 0.
    ///
    /// # Errors
    /// When the address is taken, not this machine's, or not for this user to open.
    pub async fn bind(&self) -> Result<TcpListener, Failure> {
        let bound = TcpListener::bind(self.listen).await;
        let elsewhere = "--listen ADDRESS:PORT, CLOAKROOM_LISTEN or `listen` in the file";
        bound.map_err(|error| Failure::to_listen(self.listen, &error, elsewhere))
    }

    /// The same host with an admin interface, which is ready from now until `shutdown` is cancelled and lasts as long as
    /// [`App::run`]. Call it when visitors can connect.
    #[must_use]
    pub fn with_desk(self, desk: Option<Desk>, shutdown: &CancellationToken) -> Self {
        if let Some(desk) = &desk {
            desk.attend(&self, shutdown);
        }
        Self { desk, ..self }
    }

    /// Reads its configuration again, while it runs, whenever that is wanted.
    #[must_use]
    pub fn with_reloads(self, reloads: Reloads) -> Self {
        Self {
            reloads: Some(reloads),
            ..self
        }
    }

    /// Its sessions, for whoever counts or inspects them.
    pub fn sessions(&self) -> &Arc<SessionManager> {
        &self.sessions
    }

    /// Its guests, for whoever lists and changes them.
    pub fn guests(&self) -> &Arc<GuestRegistry> {
        &self.registry
    }

    /// What answers its requests, for whoever counts them.
    pub fn handler(&self) -> &Arc<Handler> {
        &self.handler
    }

    /// The way in for new versions of its guests.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Serves `listener` until `shutdown` is cancelled and all that was under way is settled.
    ///
    /// Cancel safety: dropping it cuts connections and may leave commits unsettled, as a crash would.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let renewals = self.renew_until(&shutdown);
        let reaper_shutdown = CancellationToken::new();
        let reaper = self.reaper.map(|options| {
            let (store, clock) = (Arc::clone(&self.metered) as _, self.clock.clone());
            tokio::spawn(reaper::run(store, clock, options, reaper_shutdown.clone()))
        });
        let grace = self.listener.grace;
        let front = Front {
            handler: Arc::clone(&self.handler),
            clock: self.clock.clone(),
        };
        server::run(listener, front, self.listener, self.connections, shutdown).await;

        // Requests whose clients were cut go on to their deadline: their commits may have been sent already.
        within(grace, "requests", self.handler.drain()).await;
        within(grace, "sessions", self.sessions.shutdown()).await;
        if self.owns_runtime {
            self.admission.stop();
        }
        within(grace, "reloads", renewals.wait()).await;
        reaper_shutdown.cancel();
        if let Some(reaper) = reaper
            && let Err(error) = reaper.await
        {
            tracing::error!(%error, "the reaper ended badly");
        }
        if let Some(desk) = self.desk {
            desk.close().await;
        }
        drop((self.handler, self.sessions, self.metered));
        within(grace, "the store", self.store.close()).await;
        tracing::info!("stopped");
    }

    /// Brings in what changes on disk and in the configuration, until the host is told to stop.
    fn renew_until(&self, shutdown: &CancellationToken) -> TaskTracker {
        let renewals = TaskTracker::new();
        if self.config.server.watch {
            let (registry, admission) = (Arc::clone(&self.registry), Arc::clone(&self.admission));
            renewals.spawn(guest::watch(registry, admission, shutdown.clone()));
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

/// What runs a configuration's guests, for several hosts of it in this process.
///
/// # Errors
/// When the machine does not let us have the memory.
pub fn runtime(config: &Config) -> Result<guest::Runtime, Fault> {
    guests::runtime(&config.guests, &config.server)
}

/// Finds what is wrong with a configuration beyond its text: routes that exclude each other, components that do not load.
/// Opens no store and listens nowhere. Returns warnings about settings that are valid but will not work today.
///
/// # Errors
/// Every fault that was found.
pub async fn check(config: &Config) -> Result<Vec<String>, Vec<Fault>> {
    let mut faults = Vec::new();
    note(&mut faults, routes(config));
    let server = guests::only_looking(&config.server);
    let options = settings::session(config);
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

/// As [`check`], of the guests alone: what can be said of a configuration that is refused as a whole.
///
/// # Errors
/// A fault for every guest that cannot be loaded.
pub async fn check_guests(
    guests: &[config::GuestSettings],
    server: &config::ServerSettings,
) -> Result<(), Vec<Fault>> {
    guests::check(guests, server, session::Options::default()).await
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
struct Front {
    handler: Arc<Handler>,
    clock: Clock,
}

impl server::Service for Front {
    type Body = handler::Body;

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn share(&self, address: IpAddr) -> Peer {
        self.handler.share(address)
    }

    fn answer(
        &self,
        request: Request<Incoming>,
        link: Link,
    ) -> impl Future<Output = Response<handler::Body>> + Send + 'static {
        let handler = Arc::clone(&self.handler);
        let ends = handler::Ends {
            peer: link.peer,
            local: link.local,
            share: link.share,
            outbox: link.outbox,
        };
        async move { handler.answer(request, ends).await }
    }
}

//! A host of a test: the project's guests and routes, with its own port, clock and store.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::faulty_store::FaultyStore;
use super::wire::{OrderedMembers, SessionCounts, StoredSession, VisibleSession};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits;
use cloakroom_host::app::{App, Overrides, StartError};
use cloakroom_host::config::Config;
use cloakroom_host::handler::Handler;
use cloakroom_runtime::{
    ComponentSource, DeployError, DeployOutcome, DeployRequest, Deployer, Deployment,
    GuestRegistry, GuestSettings, Runtime, VersionOrigin,
};
use cloakroom_session::record::Document;
use cloakroom_session::store::SessionStore;
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::{SecurePolicy, SeedError, SessionManager};

/// The parts that all hosts of a test run share. They use the same guest engines, so another host only costs the time to read
/// and validate its guests' files again: 2 ms for a compiled language, and 40 ms of CPU time for an interpreter of 18 MB
/// (measured with Python).
pub(crate) struct TestProject {
    config: Config,
    runtime: Runtime,
    /// The directory that relative paths are based on.
    folder: PathBuf,
}

/// A host that serves until it is dropped.
pub(crate) struct TestHost {
    address: SocketAddr,
    clock: Mutex<Clock>,
    rows: Arc<MemoryStore>,
    store: Arc<FaultyStore>,
    sessions: Arc<SessionManager>,
    handler: Arc<Handler>,
    registry: Arc<GuestRegistry>,
    deployer: Arc<Deployer>,
    cookie_name: String,
    folder: PathBuf,
    /// The configured component files of the guests.
    components: BTreeMap<String, PathBuf>,
    _shutdown: DropGuard,
}

/// Error returned when a guest cannot be swapped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwapError {
    #[error("there is no guest `{name}`: the project has {known}")]
    NoSuchGuest { name: String, known: String },
    #[error("which guest? The project has {known}: name one of them")]
    NoGuestNamed { known: String },
    #[error(transparent)]
    Refused(#[from] DeployError),
}

impl TestProject {
    /// Creates the project for a configuration. Each of its hosts listens on its own loopback port, has no admin interface and
    /// does not watch the component files.
    pub(crate) fn new(mut config: Config, runtime: Runtime, folder: &Path) -> Self {
        config.listen = (Ipv4Addr::LOCALHOST, 0).into();
        config.admin = None;
        config.server.watch = false;
        config.server.listener.grace = limits::TEST_GRACE;
        // The warnings were already printed when the configuration was read.
        config.warnings.clear();
        // The hosts do not use TLS. With `secure = true`, no session would ever be stored.
        let secure = &mut config.session.options.cookie.secure;
        if *secure == SecurePolicy::Always {
            *secure = SecurePolicy::Auto;
        }
        Self {
            config,
            runtime,
            folder: folder.to_owned(),
        }
    }

    /// Loads the guests without letting them serve. Compiles those that are not in the cache.
    ///
    /// # Errors
    /// Returns the errors of [`App::build`].
    pub(crate) async fn check_start(&self) -> Result<(), StartError> {
        let overrides = Overrides {
            runtime: Some(self.runtime.beside()),
            ..Overrides::default()
        };
        App::build_in(self.config.clone(), overrides)
            .await
            .map(drop)
    }

    /// Starts a new host. Its clock does not advance by itself.
    ///
    /// # Errors
    /// Returns the errors of [`App::build`] and [`App::bind`].
    pub(crate) async fn start(&self) -> Result<TestHost, StartError> {
        let config = self.config.clone();
        let clock = Clock::manual(Clock::system().now_ms());
        let rows = Arc::new(MemoryStore::new());
        let store = Arc::new(FaultyStore::over(Arc::clone(&rows)));
        // Replaces the configured store in memory by one that the test can inspect.
        let wrap_store = Arc::clone(&store) as Arc<dyn SessionStore>;
        let overrides = Overrides {
            clock: clock.clone(),
            wrap_store: Box::new(|_| wrap_store),
            runtime: Some(self.runtime.beside()),
            ..Overrides::default()
        };
        let app = App::build_in(config, overrides).await?;
        let listener = app.bind().await.map_err(StartError::Failed)?;
        let address = listener.local_addr().map_err(|error| {
            let problem = format!("the listener has no address: {error}");
            let remedy = "try again".to_owned();
            StartError::Failed(cloakroom_host::app::StartFailure { problem, remedy })
        })?;
        let shutdown = CancellationToken::new();
        let guests = self.config.guests.iter();
        let host = TestHost {
            address,
            clock: Mutex::new(clock),
            rows,
            store,
            sessions: Arc::clone(app.sessions()),
            handler: Arc::clone(app.handler()),
            registry: Arc::clone(app.guests()),
            deployer: Arc::clone(app.deployer()),
            cookie_name: self.config.session.options.cookie.name.clone(),
            folder: self.folder.clone(),
            components: guests
                .map(|guest| (guest.name.clone(), guest.component.clone()))
                .collect(),
            _shutdown: shutdown.clone().drop_guard(),
        };
        tokio::spawn(app.run(listener, shutdown));
        Ok(host)
    }

    /// Stops compiling. Compilations that are waiting fail.
    pub(crate) fn stop(&self) {
        self.runtime.stop_compiling();
    }
}

impl TestHost {
    /// Returns the address that the host listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the store of the host.
    pub(crate) fn store(&self) -> &FaultyStore {
        &self.store
    }

    /// Returns the host's wall-clock time in milliseconds since the epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.lock().now_ms()
    }

    /// Moves the clock and returns the new time. Returns `None` if that would exceed [`limits::TEST_CLOCK_MS_MAX`].
    pub(crate) fn advance(&self, by_ms: u64) -> Option<i64> {
        // The lock is held over both steps, so that two concurrent moves cannot exceed the limit together.
        let clock = self.clock.lock();
        let by_ms = i64::try_from(by_ms).ok()?;
        let to_ms = clock.now_ms().checked_add(by_ms)?;
        if to_ms > limits::TEST_CLOCK_MS_MAX {
            return None;
        }
        clock.advance(by_ms);
        Some(to_ms)
    }

    /// Stores a session, even while the store is unavailable. Returns the `Cookie` header for it.
    ///
    /// # Errors
    /// Returns an error if a guest could not have created this session.
    pub(crate) async fn seed(&self, data: &OrderedMembers) -> Result<String, SeedError> {
        let seed = self.sessions.seed(data.iter())?;
        let now_s = self.clock.lock().now_s();
        // The id is new, so the commit succeeds.
        self.rows
            .commit_many(slice::from_ref(&seed.commit), now_s)
            .await;
        Ok(format!("{}={}", self.cookie_name, seed.cookie))
    }

    /// Returns the stored sessions that have not expired, ordered by their expiry. Leaves out rows that are not valid sessions.
    pub(crate) fn stored(&self) -> Vec<StoredSession> {
        let rows = self.rows.rows(self.clock.lock().now_s()).into_iter();
        let stored = rows.filter_map(|(_, row)| {
            Some(StoredSession {
                data: VisibleSession(Document::parse(&row.data).ok()?),
                expires_ms: row.expires_at_s.saturating_mul(1000),
            })
        });
        stored.collect()
    }

    /// Returns the host's counters.
    pub(crate) fn counts(&self) -> SessionCounts {
        let deployments = self.registry.deployments();
        let of_guests = |count: fn(&Deployment) -> u64| -> u64 {
            deployments.values().map(|guest| count(guest)).sum()
        };
        let counters = self.sessions.counters();
        SessionCounts {
            requests: self.handler.metrics().requests()
                + of_guests(|guest| guest.metrics().requests()),
            runs: of_guests(|guest| guest.metrics().runs()),
            commits: counters.commits.get(),
            conflicts: counters.conflicts.get(),
            reapplies: counters.reapplies.get(),
            reruns: counters.reruns.get(),
        }
    }

    /// Deploys a component as a new version of a guest, even if it is already live. The name may be omitted if the project has
    /// only one guest. Without a component, the configured file is used.
    ///
    /// # Errors
    /// Returns a [`SwapError`]. In that case the live version continues to serve.
    pub(crate) async fn swap(
        &self,
        guest: Option<String>,
        component: Option<PathBuf>,
    ) -> Result<u64, SwapError> {
        let deployment = self.deployment(guest)?;
        let component = match component {
            Some(path) => self.folder.join(path),
            None => self.components[deployment.name()].clone(),
        };
        let deploy_request = DeployRequest {
            source: ComponentSource::File,
            settings: Some(GuestSettings {
                component,
                ..deployment.settings()
            }),
            origin: VersionOrigin::Test,
            expected: None,
        };
        match self.deployer.deploy(&deployment, deploy_request).await? {
            DeployOutcome::Activated { version } | DeployOutcome::Unchanged { version } => {
                Ok(version)
            }
        }
    }

    fn deployment(&self, name: Option<String>) -> Result<Arc<Deployment>, SwapError> {
        let deployments = self.registry.deployments();
        let names: Vec<_> = deployments.keys().map(String::as_str).collect();
        let known = names.join(", ");
        let Some(name) = name else {
            let mut all = deployments.values();
            return match (all.next(), all.next()) {
                (Some(only), None) => Ok(Arc::clone(only)),
                _ => Err(SwapError::NoGuestNamed { known }),
            };
        };
        let found = deployments.get(&name).map(Arc::clone);
        found.ok_or(SwapError::NoSuchGuest { name, known })
    }
}

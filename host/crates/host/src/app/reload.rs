//! Reads the configuration again and applies the settings that can change while the host runs: guests, routes and the cookie
//! secrets. A reload applies everything or nothing. After a fault, the host continues with the previous configuration.
//!
//! Everything is validated before anything changes. Then the new versions, routes and guests are put in place without waiting in
//! between. Settings that a running host cannot change are compared field by field (`config/changes`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::guests::{self, PlannedGuests};
use super::keys::SigningKeys;
use super::{App, note, routes};
use crate::config::{Config, ConfigError, ConfigFault};
use crate::handler::{Handler, RoutedGuests};
use crate::route::RouteTable;
use cloakroom_runtime::{Deployer, Deployments, GuestRegistry, Services};
use cloakroom_session::cookie::IdComparison;

/// Triggers reloads in a running host and reads its configuration.
#[derive(Clone)]
pub struct ReloadRequests {
    wanted: Arc<Notify>,
    read: Arc<Read>,
    /// The outcome of the last reload.
    outcome: Arc<watch::Sender<ReloadOutcome>>,
}

/// The outcome of a reload. The faults are written to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration is in effect.
    Applied,
    /// The previous configuration stays in effect.
    Refused,
}

type Read = dyn Fn() -> Result<Config, ConfigError> + Send + Sync;

impl fmt::Debug for ReloadRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadRequests").finish_non_exhaustive()
    }
}

impl ReloadRequests {
    /// Creates a trigger for reloads that get their configuration from `read`, which may block.
    pub fn new(read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static) -> Self {
        Self {
            wanted: Arc::default(),
            read: Arc::new(read),
            outcome: Arc::new(watch::Sender::new(ReloadOutcome::Applied)),
        }
    }

    /// Requests a reload. If a reload is in progress, another one follows it.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Requests a reload as [`ReloadRequests::want`] does, and waits for its outcome. Waits forever if no host handles the request.
    ///
    /// Cancel safety: the reload continues if the future is dropped.
    pub async fn reload(&self) -> ReloadOutcome {
        let mut outcome = self.outcome.subscribe();
        self.want();
        match outcome.changed().await {
            Ok(()) => *outcome.borrow(),
            Err(_closed) => ReloadOutcome::Refused,
        }
    }
}

/// Applies reloads to the parts of a host that depend on the configuration.
#[derive(Debug)]
pub(crate) struct Reloader {
    config: Config,
    handler: Arc<Handler>,
    registry: Arc<GuestRegistry>,
    deployer: Arc<Deployer>,
    services: Arc<Services>,
    ids: IdComparison,
    keys: SigningKeys,
}

/// The validated parts of a new configuration.
struct PreparedReload {
    config: Config,
    routes: RouteTable,
    guests: PlannedGuests,
    /// `None` if the secrets have not changed.
    keys: Option<SigningKeys>,
}

impl Reloader {
    pub(crate) fn new(app: &App) -> Self {
        Self {
            config: app.config.clone(),
            handler: Arc::clone(&app.handler),
            registry: Arc::clone(&app.registry),
            deployer: Arc::clone(&app.deployer),
            services: Arc::clone(&app.services),
            ids: app.store.id_comparison(),
            keys: app.keys.clone(),
        }
    }

    /// Reloads at every request, forever.
    ///
    /// Cancel safety: a new configuration is applied completely or not at all.
    pub(crate) async fn run(mut self, reloads: ReloadRequests) {
        loop {
            reloads.wanted.notified().await;
            let outcome = self.reload(&reloads.read).await;
            reloads.outcome.send_replace(outcome);
        }
    }

    async fn reload(&mut self, read: &Arc<Read>) -> ReloadOutcome {
        match self.prepare(read).await {
            Ok(renewal) => {
                self.take_over(renewal);
                ReloadOutcome::Applied
            }
            Err(faults) => {
                for fault in faults {
                    let fault = fault.to_string().replace("\n    ", "; ");
                    tracing::error!("reload refused: {fault}");
                }
                ReloadOutcome::Refused
            }
        }
    }

    /// Reads and validates everything. Changes nothing.
    async fn prepare(&self, read: &Arc<Read>) -> Result<PreparedReload, Vec<ConfigFault>> {
        let read = Arc::clone(read);
        let config = tokio::task::spawn_blocking(move || read()).await;
        let present = self.registry.deployments();
        let config = match config.expect("reading neither panics nor is cancelled") {
            Ok(config) => config,
            Err(ConfigError {
                mut faults, guests, ..
            }) => {
                // As at the start, one run reports every fault.
                let examined = guests::examine(&self.deployer, &guests, &present).await;
                faults.extend(examined.err().unwrap_or_default());
                return Err(faults);
            }
        };
        let mut faults = Vec::new();
        let fixed = self.config.fixed_keys_changed(&config);
        if !fixed.is_empty() {
            let problem = "changed, but only takes effect at the start: a restart is needed";
            let remedy = "restart the host, or undo the change";
            faults.push(ConfigFault::new(fixed.join(", "), problem, remedy));
        }
        let routes = note(&mut faults, routes(&config));
        let secrets = |config: &Config| (config.session.secrets.clone(), config.cookies.clone());
        let keys = if secrets(&config) == secrets(&self.config) {
            None
        } else {
            let keys = SigningKeys::of(&config, Some((&self.config, &self.keys)));
            note(&mut faults, keys.map_err(|fault| vec![fault]))
        };
        let guests = guests::examine(&self.deployer, &config.guests, &present).await;
        let guests = note(&mut faults, guests);
        match (routes, guests) {
            (Some(routes), Some(guests)) if faults.is_empty() => Ok(PreparedReload {
                config,
                routes,
                guests,
                keys,
            }),
            _ => Err(faults),
        }
    }

    /// Applies the validated configuration.
    fn take_over(&mut self, renewal: PreparedReload) {
        let PreparedReload {
            config,
            routes,
            guests,
            keys,
        } = renewal;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let present = self.registry.deployments();
        let names = GuestChanges::of(&present, &guests);
        let (are_routes_new, are_secrets_new) =
            (config.routes != self.config.routes, keys.is_some());

        let guests = Arc::new(guests.activate());
        if let Some(keys) = keys {
            keys.take_over(&self.services, self.ids);
            self.keys = keys;
        }
        self.handler.replace_site(RoutedGuests {
            routes,
            guests: Arc::clone(&guests),
        });
        for name in &names.removed {
            if let Some(deployment) = present.get(name) {
                deployment.retire();
            }
        }
        self.registry.replace(guests);
        self.config = config;
        tracing::info!(
            added = ?names.added, changed = ?names.changed, removed = ?names.removed,
            routes = are_routes_new, secrets = are_secrets_new,
            "the configuration was read again"
        );
    }
}

/// The names of the guests that a reload adds, changes and removes.
struct GuestChanges {
    added: BTreeSet<String>,
    /// Guests that get a new version.
    changed: BTreeSet<String>,
    removed: BTreeSet<String>,
}

impl GuestChanges {
    fn of(present: &Deployments, examined: &PlannedGuests) -> Self {
        let passed = examined.passed.iter().map(|it| it.name().to_owned());
        let (changed, added) = passed.partition(|name| present.contains_key(name));
        let is_gone = |name: &&String| !examined.deployments.contains_key(*name);
        Self {
            added,
            changed,
            removed: present.keys().filter(is_gone).cloned().collect(),
        }
    }
}

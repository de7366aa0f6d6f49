//! The guests of a configuration: creates a runtime for them and validates all of them concurrently.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::probe::ScratchVisitor;
use super::refused;
use crate::config;
use crate::config::ConfigFault;
use cloakroom_base::clock::Clock;
use cloakroom_base::limits;
use cloakroom_base::telemetry::counted;
use cloakroom_runtime as guest;
use cloakroom_runtime::{
    ComponentSource, DeployRequest, Deployer, Deployment, Deployments, LoadError, ReadyCandidate,
    Runtime, RuntimeOptions, VersionOrigin,
};
use cloakroom_session as session;

/// Creates the [`Deployer`] that validates and deploys guests, at the start and later, on a new runtime.
///
/// # Errors
/// Returns an error if the system refuses the memory.
pub(crate) fn deployer(
    guests: &[guest::GuestSettings],
    server: &config::ServerSettings,
    options: session::SessionOptions,
    clock: &Clock,
) -> Result<Arc<Deployer>, ConfigFault> {
    let runtime = runtime(guests, server)?;
    Ok(deployer_on(runtime, options, clock))
}

/// Creates a runtime for guests.
///
/// # Errors
/// Returns the error of [`deployer`].
pub(crate) fn runtime(
    guests: &[guest::GuestSettings],
    server: &config::ServerSettings,
) -> Result<Runtime, ConfigFault> {
    Runtime::new(&runtime_options(guests, server)).map_err(|error| {
        let problem = format!(
            "cannot set up the memory of {}: {error:#}",
            counted(server.runtime.instances_max, "instance")
        );
        let remedy = "lower server.instances or the guests' limits.memory, or raise the system's limits of address space \
                      (`ulimit -v`) and of mappings (`sysctl vm.max_map_count`)";
        ConfigFault::new("server.instances", problem, remedy)
    })
}

/// Returns the options of a runtime whose instances have room for the memory of each guest.
fn runtime_options(
    guests: &[guest::GuestSettings],
    server: &config::ServerSettings,
) -> RuntimeOptions {
    let memories = guests.iter().map(|guest| guest.limits.memory_bytes_max);
    RuntimeOptions {
        memory_bytes_max: memories.max().unwrap_or(limits::MEMORY_BYTES_MAX),
        ..server.runtime.clone()
    }
}

/// Creates the [`Deployer`] that validates and deploys guests on an existing runtime.
pub(crate) fn deployer_on(
    runtime: Runtime,
    options: session::SessionOptions,
    clock: &Clock,
) -> Arc<Deployer> {
    let clock = clock.clone();
    let visitor = ScratchVisitor {
        options,
        clock: clock.clone(),
    };
    Arc::new(Deployer::new(Arc::new(runtime), Box::new(visitor), clock))
}

/// The validated guests of a configuration.
#[derive(Debug, Default)]
pub(crate) struct PlannedGuests {
    /// All guests, including the unchanged ones.
    pub(crate) deployments: Deployments,
    /// The new versions. They are activated together or not at all.
    pub(crate) passed: Vec<ReadyCandidate>,
}

/// Validates every guest of a configuration. A guest in `present` that has not changed keeps its version.
///
/// # Errors
/// Returns a fault for every guest that was refused. In that case nothing has changed.
pub(crate) async fn examine(
    deployer: &Arc<Deployer>,
    guests: &[guest::GuestSettings],
    present: &Deployments,
) -> Result<PlannedGuests, Vec<ConfigFault>> {
    let mut faults = Vec::new();
    let mut examined = PlannedGuests::default();
    let mut examinations = JoinSet::new();
    for guest in guests {
        let deployment = present
            .get(&guest.name)
            .map_or_else(|| Deployment::new(guest.clone()), Arc::clone);
        examined
            .deployments
            .insert(guest.name.clone(), Arc::clone(&deployment));
        let deploy_request = DeployRequest {
            source: ComponentSource::File,
            settings: Some(guest.clone()),
            origin: VersionOrigin::Config,
            expected: None,
        };
        let deployer = Arc::clone(deployer);
        let name = guest.name.clone();
        examinations.spawn(async move {
            let passed = deployer.examine(&deployment, deploy_request).await;
            passed.map_err(|error| refused::fault(&name, &error))
        });
    }
    while let Some(examination) = examinations.join_next().await {
        match examination.expect("an examination neither panics nor is cancelled") {
            Ok(passed) => examined.passed.extend(passed),
            Err(fault) => faults.push(fault),
        }
    }
    faults.sort_by(|a, b| a.key.cmp(&b.key));
    if faults.is_empty() {
        Ok(examined)
    } else {
        Err(faults)
    }
}

/// Returns empty deployments for the guests of a configuration. None of them has a version yet.
pub(crate) fn awaited(guests: &[guest::GuestSettings]) -> PlannedGuests {
    let mut examined = PlannedGuests::default();
    for guest in guests {
        let deployment = Deployment::new(guest.clone());
        examined.deployments.insert(guest.name.clone(), deployment);
    }
    examined
}

impl PlannedGuests {
    /// Lets the new versions serve.
    pub(crate) fn activate(self) -> Deployments {
        for passed in self.passed {
            passed.activate();
        }
        self.deployments
    }
}

/// Validates guests without letting any of them serve.
///
/// # Errors
/// Returns the errors of [`examine`].
pub(crate) async fn check(
    guests: &[guest::GuestSettings],
    server: &config::ServerSettings,
    options: session::SessionOptions,
) -> Result<(), Vec<ConfigFault>> {
    let clock = Clock::system();
    let deployer = deployer(guests, server, options, &clock).map_err(|fault| vec![fault])?;
    let examined = examine(&deployer, guests, &Deployments::default()).await;
    examined.map(drop)
}

/// Returns a line for each granted host name that resolves to a non-public address. Calls to such a name are denied while that
/// is the case.
pub(crate) async fn private_names(guests: &[guest::GuestSettings]) -> Vec<String> {
    let look_ups = guests.iter().map(async |guest| {
        let found = guest::private_today(&guest.grants.outbound_hosts, limits::CHECK_LOOKUP_TIMEOUT).await;
        let line = |(host, kind)| {
            format!(
                "guest.{}.outbound_hosts: {host} has a {kind} address today: calls to it are denied; \
                 write {{ host = \"{host}\", private = true }} if this is intended",
                guest.name
            )
        };
        found.into_iter().map(line).collect::<Vec<_>>()
    });
    futures_util::future::join_all(look_ups).await.concat()
}

/// Checks whether a component compiles on this host and whether the host offers everything that it imports. Does not run the
/// component. Blocks during the compilation.
///
/// # Errors
/// Returns a [`LoadError`] that names the obstacle.
pub fn fit(
    component: &[u8],
    guests: &[guest::GuestSettings],
    server: &config::ServerSettings,
) -> Result<(), LoadError> {
    let options = runtime_options(guests, &settings_for_check(server));
    let runtime = Runtime::new(&options).map_err(|error| LoadError::NotCompiled {
        reason: format!("cannot set up the guests' memory: {error:#}"),
    })?;
    runtime.fit(component)
}

/// Returns the settings for a host that creates no files. The code cache is used only if its directory exists: one created by
/// the user of a check might not be accessible to the user of the server.
pub(crate) fn settings_for_check(server: &config::ServerSettings) -> config::ServerSettings {
    let mut server = server.clone();
    let code_cache = &mut server.runtime.code_cache;
    *code_cache = code_cache.take().filter(|folder| folder.is_dir());
    server
}

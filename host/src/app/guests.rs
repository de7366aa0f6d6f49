//! The guests of a configuration: a runtime for them, and all of them examined side by side.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::probe::ScratchVisitor;
use super::refused;
use super::settings;
use crate::clock::Clock;
use crate::config::{self, Fault};
use crate::guest::{
    self, Admission, Deployment, Deployments, LoadError, Origin, Passed, Proposal, Runtime, Source,
};
use crate::limits::CHECK_LOOKUP_TIMEOUT;
use crate::session;
use crate::telemetry::counted;

/// The way in for guests, now and later.
///
/// # Errors
/// When the machine does not let us have the memory.
pub(super) fn admission(
    guests: &[config::GuestSettings],
    server: &config::ServerSettings,
    options: session::Options,
    clock: &Clock,
) -> Result<Arc<Admission>, Fault> {
    let runtime = runtime(guests, server)?;
    Ok(admission_on(runtime, options, clock))
}

/// What runs guests.
///
/// # Errors
/// As [`admission`].
pub(super) fn runtime(
    guests: &[config::GuestSettings],
    server: &config::ServerSettings,
) -> Result<Runtime, Fault> {
    Runtime::new(&settings::guest_runtime(guests, server)).map_err(|error| {
        let problem = format!(
            "cannot set up the memory of {}: {error:#}",
            counted(server.instances_max, "instance")
        );
        let remedy = "lower server.instances or the guests' limits.memory, or raise the system's limits of address space \
                      (`ulimit -v`) and of mappings (`sysctl vm.max_map_count`)";
        Fault::new("server.instances", problem, remedy)
    })
}

/// The way in for guests on a runtime that is there.
pub(super) fn admission_on(
    runtime: Runtime,
    options: session::Options,
    clock: &Clock,
) -> Arc<Admission> {
    let clock = clock.clone();
    let visitor = ScratchVisitor {
        options,
        clock: clock.clone(),
    };
    Arc::new(Admission::new(Arc::new(runtime), Box::new(visitor), clock))
}

/// What a configuration's guests are to be.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// All of them, the ones that stay as they are included.
    pub(super) deployments: Deployments,
    /// The new versions, to be activated together or not at all.
    pub(super) passed: Vec<Passed>,
}

/// Examines every guest of a configuration: those in `present` that have not changed since stay as they are.
///
/// # Errors
/// A fault for every guest that was refused; then nothing has changed.
pub(super) async fn examine(
    admission: &Arc<Admission>,
    guests: &[config::GuestSettings],
    present: &Deployments,
) -> Result<Examined, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut examined = Examined::default();
    let mut examinations = JoinSet::new();
    for guest in guests {
        let settings = settings::guest(guest);
        let deployment = present
            .get(&guest.name)
            .map_or_else(|| Deployment::new(settings.clone()), Arc::clone);
        examined
            .deployments
            .insert(guest.name.clone(), Arc::clone(&deployment));
        let proposal = Proposal {
            source: Source::File,
            settings: Some(settings),
            origin: Origin::Config,
            expected: None,
        };
        let admission = Arc::clone(admission);
        let name = guest.name.clone();
        examinations.spawn(async move {
            let passed = admission.examine(&deployment, proposal).await;
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

/// The places of a configuration's guests, with nobody in them yet.
pub(super) fn awaited(guests: &[config::GuestSettings]) -> Examined {
    let mut examined = Examined::default();
    for guest in guests {
        let deployment = Deployment::new(settings::guest(guest));
        examined.deployments.insert(guest.name.clone(), deployment);
    }
    examined
}

impl Examined {
    /// Lets the new versions serve.
    pub(super) fn activate(self) -> Deployments {
        for passed in self.passed {
            passed.activate();
        }
        self.deployments
    }
}

/// Examines guests and lets none of them serve.
///
/// # Errors
/// As [`examine`].
pub(super) async fn check(
    guests: &[config::GuestSettings],
    server: &config::ServerSettings,
    options: session::Options,
) -> Result<(), Vec<Fault>> {
    let clock = Clock::system();
    let admission = admission(guests, server, options, &clock).map_err(|fault| vec![fault])?;
    let examined = examine(&admission, guests, &Deployments::default()).await;
    examined.map(drop)
}

/// A line for each granted name that has an address which is not public: calls to it are denied while that is so.
pub(super) async fn private_names(guests: &[config::GuestSettings]) -> Vec<String> {
    let look_ups = guests.iter().map(async |guest| {
        let found = guest::private_today(&guest.outbound_hosts, CHECK_LOOKUP_TIMEOUT).await;
        let line = |(host, kind)| {
            format!(
                "guest.{}.outbound_hosts: {host} has a {kind} address today: calls to it are denied; \
                 write {{ host = \"{host}\", private = true }} if that is meant",
                guest.name
            )
        };
        found.into_iter().map(line).collect::<Vec<_>>()
    });
    futures_util::future::join_all(look_ups).await.concat()
}

/// Whether a component compiles on this host and finds all that it imports. Runs nothing of it, and blocks while it
/// compiles.
///
/// # Errors
/// [`LoadError`] says what does not fit.
pub fn fit(
    component: &[u8],
    guests: &[config::GuestSettings],
    server: &config::ServerSettings,
) -> Result<(), LoadError> {
    let options = settings::guest_runtime(guests, &only_looking(server));
    let runtime = Runtime::new(&options).map_err(|error| LoadError::NotCompiled {
        reason: format!("cannot set up the guests' memory: {error:#}"),
    })?;
    runtime.fit(component)
}

/// The settings of a host that leaves nothing behind: a folder made by whoever looks may not be the one's who serves, so only
/// one that is there is used.
pub(super) fn only_looking(server: &config::ServerSettings) -> config::ServerSettings {
    let mut server = server.clone();
    server.code_cache = server.code_cache.filter(|folder| folder.is_dir());
    server
}

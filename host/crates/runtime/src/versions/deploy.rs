//! Deployment of a new version of a guest. The component is read, validated, compiled, linked, instantiated once and, if the configuration
//! has a probe, probed. Only then does it serve. If any step fails, the live version keeps serving.
//!
//! This module knows no HTTP: it sends probes through the [`ProbeRequest`] that `app` passes in.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::{Deployment, RollbackError, VersionOrigin};
use crate::load::digest::ComponentDigest;
use crate::load::loader;
use crate::load::loader::LoadError;
use crate::run::guest_settings::GuestSettings;
use crate::{Guest, Runtime};
use cloakroom_base::clock::Clock;
use cloakroom_base::telemetry::VERSION_TARGET;

/// Sends a probe request to a candidate, for the path from the configuration. Each probe has its own session, which no other request sees.
pub trait ProbeRequest: Send + Sync {
    /// Probes the candidate. Returns an error that describes the response if it is not acceptable.
    fn ask<'a>(
        &'a self,
        candidate: Arc<Guest>,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

/// A deployer of new versions.
pub struct Deployer {
    runtime: Arc<Runtime>,
    probe: Box<dyn ProbeRequest>,
    clock: Clock,
}

impl fmt::Debug for Deployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployer").finish_non_exhaustive()
    }
}

/// A request to deploy a version.
#[derive(Clone, Debug)]
pub struct DeployRequest {
    /// The source of the component.
    pub source: ComponentSource,
    /// The settings of the version. `None` reuses the settings of the live version.
    pub settings: Option<GuestSettings>,
    /// The origin of the version.
    pub origin: VersionOrigin,
    /// The live version that is to be replaced. `None` replaces any version.
    pub expected: Option<u64>,
}

/// The source of a component.
#[derive(Clone)]
pub enum ComponentSource {
    /// The file that the settings name.
    File,
    /// These bytes.
    Bytes(Bytes),
}

impl fmt::Debug for ComponentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("File"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

/// The outcome of a successful deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeployOutcome {
    /// The version serves all visitors, or a share of them first.
    Activated {
        /// The number of the new version.
        version: u64,
    },
    /// Nothing changed: the component is the live one, or the file holds what it held before.
    Unchanged {
        /// The live version.
        version: u64,
    },
}

/// An error that prevents a deployment.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The component or its file is faulty.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The candidate's response to its probe was not acceptable.
    #[error("the probe of {path} failed: {reason}")]
    Probe {
        /// The requested path.
        path: String,
        /// A description of the response, or of the missing response.
        reason: String,
    },
    /// The live version is not the one that was to be replaced.
    #[error(transparent)]
    Stale(RollbackError),
    /// The host failed to validate the component.
    #[error("the host could not load it: {0}")]
    Host(String),
}

/// A validated candidate, ready to serve. Dropping it withdraws it.
#[derive(Debug)]
pub struct ReadyCandidate {
    candidate: PendingEntry,
    guest: Guest,
    settings: GuestSettings,
    is_from_file: bool,
}

/// Digests of components whose deployment changes nothing. Both are `None` if the settings differ from the current ones.
#[derive(Clone, Copy)]
struct LastDigests {
    /// The digest of the live component.
    live: Option<ComponentDigest>,
    /// The digest of the component file when a version was last loaded from it. Set only when the configuration is loaded again.
    file: Option<ComponentDigest>,
}

/// The result of preparing a component, before it serves.
enum PreparedVersion {
    /// The component changes nothing.
    Known(ComponentDigest),
    /// The component may serve.
    New(Guest),
}

impl Deployer {
    /// Creates a deployer for this runtime.
    pub fn new(runtime: Arc<Runtime>, probe: Box<dyn ProbeRequest>, clock: Clock) -> Self {
        Self {
            runtime,
            probe,
            clock,
        }
    }

    /// Returns the runtime that versions are deployed to.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Stops compiling for good, so that a host that stops does not wait for a compiler. Compilations in progress fail.
    pub fn stop(&self) {
        self.runtime.stop_compiling();
    }

    /// Deploys a version: validates it and lets it serve.
    ///
    /// Two deployments of one guest run one after the other.
    ///
    /// Cancel safety: if the future is dropped before it is done, the candidate is withdrawn.
    ///
    /// # Errors
    /// [`DeployError`]. The live version keeps serving, and the guest's version history records the failure.
    pub async fn deploy(
        &self,
        deployment: &Arc<Deployment>,
        request: DeployRequest,
    ) -> Result<DeployOutcome, DeployError> {
        let started_at = Instant::now();
        match self.examine(deployment, request).await? {
            None => Ok(DeployOutcome::Unchanged {
                version: deployment.live_version(),
            }),
            Some(passed) => {
                let version = passed.activate();
                tracing::debug!(guest = deployment.name(), version, took = ?started_at.elapsed(), "admitted");
                Ok(DeployOutcome::Activated { version })
            }
        }
    }

    /// Validates a version like [`Deployer::deploy`], but does not let it serve. A caller that holds several results can then activate all
    /// or none. Returns `None` if the version changes nothing. Further deployments of the guest wait until the result is activated or
    /// dropped.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub async fn examine(
        &self,
        deployment: &Arc<Deployment>,
        request: DeployRequest,
    ) -> Result<Option<ReadyCandidate>, DeployError> {
        let guard = Arc::clone(&deployment.deploying).lock_owned().await;
        let live = deployment.live();
        let live_version = deployment.live_version();
        if let Some(expected) = request.expected.filter(|it| *it != live_version) {
            return Err(DeployError::Stale(RollbackError::Stale {
                expected,
                live: live_version,
            }));
        }
        let current = deployment.settings();
        let settings = request.settings.unwrap_or_else(|| current.clone());
        let is_of_config = request.origin == VersionOrigin::Config;
        let is_of_test = request.origin == VersionOrigin::Test;
        let is_from_file = !is_of_test && !matches!(request.origin, VersionOrigin::Admin { .. });
        // The live component is not validated again, unless its settings change or a test asks for it.
        let live = live.filter(|_| settings == current && !is_of_test);
        let known = LastDigests {
            // When the configuration is loaded again, the file counts only if it has changed. Otherwise it would bring back a version
            // that was rolled back, and replace a version that was deployed another way. The file watcher detects changes itself.
            file: deployment.file().filter(|_| is_of_config && live.is_some()),
            live: live.map(|live| live.component().digest),
        };
        let candidate = PendingEntry::new(deployment, guard, request.origin, self.clock.now_ms());
        match self.prepare(request.source, &settings, known).await {
            Ok(PreparedVersion::Known(digest)) => {
                // A deployment of the live component drops the canary. Not so for a reload, which must change nothing before it has
                // validated everything. Nor for a file whose content is unchanged, because it does not contradict a canary that was
                // deployed another way.
                let is_news = !is_from_file || deployment.file() != Some(digest);
                if known.live == Some(digest) && is_news && !is_of_config {
                    deployment.drop_canary();
                }
                if is_from_file {
                    deployment.note_file(digest);
                }
                deployment.forget_refusal();
                Ok(None)
            }
            Ok(PreparedVersion::New(guest)) => Ok(Some(ReadyCandidate {
                candidate,
                guest,
                settings,
                is_from_file,
            })),
            Err(error) => {
                candidate.refuse(&error);
                Err(error)
            }
        }
    }

    async fn prepare(
        &self,
        source: ComponentSource,
        settings: &GuestSettings,
        known: LastDigests,
    ) -> Result<PreparedVersion, DeployError> {
        let bytes = self.bytes(source, settings).await?;
        let digest = Some(ComponentDigest::of(&bytes));
        if let Some(digest) = digest.filter(|_| digest == known.live || digest == known.file) {
            return Ok(PreparedVersion::Known(digest));
        }
        let guest = self.load(settings.clone(), bytes).await?;
        self.question(&guest).await?;
        Ok(PreparedVersion::New(guest))
    }

    /// Validates a component without recording it. It will not serve.
    ///
    /// # Errors
    /// As [`Deployer::deploy`].
    pub async fn dry_run(
        &self,
        deployment: &Arc<Deployment>,
        bytes: Bytes,
    ) -> Result<Guest, DeployError> {
        let guest = self.load(deployment.settings(), bytes).await?;
        self.question(&guest).await?;
        Ok(guest)
    }

    async fn bytes(
        &self,
        source: ComponentSource,
        settings: &GuestSettings,
    ) -> Result<Bytes, DeployError> {
        match source {
            ComponentSource::Bytes(bytes) => Ok(bytes),
            ComponentSource::File => {
                let path = settings.component.clone();
                let read = blocking(move || loader::read(&path)).await?;
                Ok(Bytes::from(read?))
            }
        }
    }

    async fn load(&self, settings: GuestSettings, bytes: Bytes) -> Result<Guest, DeployError> {
        let runtime = Arc::clone(&self.runtime);
        Ok(blocking(move || runtime.load_bytes(settings, &bytes)).await??)
    }

    async fn question(&self, guest: &Guest) -> Result<(), DeployError> {
        let Some(path) = guest.rollout().probe.as_deref() else {
            return Ok(());
        };
        let asked = self.probe.ask(Arc::new(guest.renewed()), path).await;
        asked.map_err(|reason| DeployError::Probe {
            path: path.to_owned(),
            reason,
        })
    }
}

impl ReadyCandidate {
    /// Returns the guest's name.
    pub fn name(&self) -> &str {
        self.candidate.deployment.name()
    }

    /// Lets the version serve. Returns its number.
    ///
    /// Must be called within a tokio runtime.
    pub fn activate(self) -> u64 {
        let Self {
            candidate,
            guest,
            settings,
            is_from_file,
        } = self;
        if is_from_file {
            candidate.deployment.note_file(guest.component().digest);
        }
        candidate.activate(guest, settings)
    }
}

/// The entry of a version in its guest's version history while it is validated. Dropping it before it is settled withdraws the version.
#[derive(Debug)]
struct PendingEntry {
    deployment: Arc<Deployment>,
    number: u64,
    is_settled: bool,
    /// Whether the caller reports a failure, so that it is not logged here.
    is_reported: bool,
    _guard: OwnedMutexGuard<()>,
}

impl PendingEntry {
    fn new(
        deployment: &Arc<Deployment>,
        guard: OwnedMutexGuard<()>,
        origin: VersionOrigin,
        now_ms: i64,
    ) -> Self {
        Self {
            is_reported: matches!(origin, VersionOrigin::Config | VersionOrigin::Test),
            number: deployment.start_version(origin, now_ms),
            deployment: Arc::clone(deployment),
            is_settled: false,
            _guard: guard,
        }
    }

    fn refuse(mut self, error: &DeployError) {
        self.is_settled = true;
        let (guest, version) = (self.deployment.name(), self.number);
        let live = self.deployment.live_version();
        // The configuration loader reports all its errors together. A test may expect the failure.
        if !self.is_reported {
            tracing::warn!(
                target: VERSION_TARGET, guest, version, live, %error,
                "a new version was rejected; the live version keeps serving"
            );
        }
        self.deployment.refuse(version, error.to_string());
    }

    fn activate(mut self, guest: Guest, settings: GuestSettings) -> u64 {
        self.is_settled = true;
        self.deployment.activate(self.number, guest, settings);
        self.number
    }
}

impl Drop for PendingEntry {
    fn drop(&mut self) {
        if !self.is_settled {
            self.deployment.withdraw(self.number);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeployError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| DeployError::Host(error.to_string()))
}

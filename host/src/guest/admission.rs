//! How a new version of a guest gets in: it is read, looked at, compiled, fitted, instantiated once and, where the
//! configuration says so, asked a question. Only then does it serve; whatever goes wrong, what is live serves on.
//!
//! Knows no HTTP: a probe is asked through what `app` hands in.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::digest::Digest;
use super::loader::{self, LoadError};
use super::registry::{Deployment, Origin, RollbackError};
use super::settings::GuestSettings;
use super::{Guest, Runtime};
use crate::clock::Clock;
use crate::telemetry::VERSION_TARGET;

/// Asks a candidate for the path that the configuration names, with a session of its own that nobody will see again.
pub trait Probe: Send + Sync {
    /// Gives what the candidate did, if that is not good enough.
    fn ask<'a>(
        &'a self,
        candidate: Arc<Guest>,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

/// The way in for new versions.
pub struct Admission {
    runtime: Arc<Runtime>,
    probe: Box<dyn Probe>,
    clock: Clock,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

/// A version that somebody wants to serve.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Where its component is.
    pub source: Source,
    /// What it is made with; `None`: what the live version was.
    pub settings: Option<GuestSettings>,
    /// Who brings it.
    pub origin: Origin,
    /// The live version that it is to replace, if whoever brings it cares.
    pub expected: Option<u64>,
}

/// Where a component is.
#[derive(Clone)]
pub enum Source {
    /// In the file that the settings name.
    File,
    /// Here.
    Bytes(Bytes),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("File"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It serves, or serves a share of the visitors first.
    Activated {
        /// Its number.
        version: u64,
    },
    /// It is what is live already, or what the file held before.
    Unchanged {
        /// The live version.
        version: u64,
    },
}

/// Why a proposal was turned down.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// The component is at fault, or its file.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The candidate did not answer its probe well.
    #[error("the probe of {path} failed: {reason}")]
    Probe {
        /// The path that was asked for.
        path: String,
        /// What came instead.
        reason: String,
    },
    /// Another version is live than the one that was to be replaced.
    #[error(transparent)]
    Stale(RollbackError),
    /// The host could not do its part.
    #[error("the host could not load it: {0}")]
    Host(String),
}

/// A candidate that has passed, ready to serve. Dropping it withdraws it.
#[derive(Debug)]
pub struct Passed {
    candidate: Candidate,
    guest: Guest,
    settings: GuestSettings,
    is_from_file: bool,
}

/// Contents that bring nothing new, unless the settings are new.
#[derive(Clone, Copy)]
struct Known {
    /// What is live.
    live: Option<Digest>,
    /// What the file held when a version was last taken from it, if a configuration that is read again names it.
    file: Option<Digest>,
}

/// What became of a component before anything serves.
enum Prepared {
    /// It brings nothing new.
    Known(Digest),
    /// It may serve.
    New(Guest),
}

impl Admission {
    /// An admission on this runtime.
    pub fn new(runtime: Arc<Runtime>, probe: Box<dyn Probe>, clock: Clock) -> Self {
        Self {
            runtime,
            probe,
            clock,
        }
    }

    /// What it admits to.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends compiling for good: a host that stops does not wait for a compiler. What is compiled now is refused.
    pub fn stop(&self) {
        self.runtime.stop_compiling();
    }

    /// Admits a version and lets it serve.
    ///
    /// Two proposals for one guest are handled one after the other. Safe to cancel: a candidate that is not done is withdrawn.
    ///
    /// # Errors
    /// [`AdmissionError`]; what is live serves on, and the refusal is remembered among the guest's versions.
    pub async fn admit(
        &self,
        deployment: &Arc<Deployment>,
        proposal: Proposal,
    ) -> Result<Admitted, AdmissionError> {
        let started_at = Instant::now();
        match self.examine(deployment, proposal).await? {
            None => Ok(Admitted::Unchanged {
                version: deployment.live_version(),
            }),
            Some(passed) => {
                let version = passed.activate();
                tracing::debug!(guest = deployment.name(), version, took = ?started_at.elapsed(), "admitted");
                Ok(Admitted::Activated { version })
            }
        }
    }

    /// As [`Admission::admit`], without letting it serve: whoever holds several of these decides on all of them together.
    /// `None`: it brings nothing new. Further proposals for the guest wait until this one is decided on.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub async fn examine(
        &self,
        deployment: &Arc<Deployment>,
        proposal: Proposal,
    ) -> Result<Option<Passed>, AdmissionError> {
        let turn = Arc::clone(&deployment.admitting).lock_owned().await;
        let live = deployment.live();
        let live_version = deployment.live_version();
        if let Some(expected) = proposal.expected.filter(|it| *it != live_version) {
            return Err(AdmissionError::Stale(RollbackError::Stale {
                expected,
                live: live_version,
            }));
        }
        let current = deployment.settings();
        let settings = proposal.settings.unwrap_or_else(|| current.clone());
        let is_of_config = proposal.origin == Origin::Config;
        let is_of_test = proposal.origin == Origin::Test;
        let is_from_file = !is_of_test && !matches!(proposal.origin, Origin::Admin { .. });
        // What is live is not examined again, unless it is to run with other settings or a test says so.
        let live = live.filter(|_| settings == current && !is_of_test);
        let known = Known {
            // A file counts when it has changed: else one that was taken back would come again, and one that came another
            // way would go. Who watches files knows by itself.
            file: deployment.file().filter(|_| is_of_config && live.is_some()),
            live: live.map(|live| live.component().digest),
        };
        let candidate = Candidate::new(deployment, turn, proposal.origin, self.clock.now_ms());
        match self.prepare(proposal.source, &settings, known).await {
            Ok(Prepared::Known(digest)) => {
                // Whoever brings what is live wants no other. A reload changes nothing before it has examined everything,
                // and a file that held it all along says nothing against a canary that came another way.
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
            Ok(Prepared::New(guest)) => Ok(Some(Passed {
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
        source: Source,
        settings: &GuestSettings,
        known: Known,
    ) -> Result<Prepared, AdmissionError> {
        let bytes = self.bytes(source, settings).await?;
        let digest = Some(Digest::of(&bytes));
        if let Some(digest) = digest.filter(|_| digest == known.live || digest == known.file) {
            return Ok(Prepared::Known(digest));
        }
        let guest = self.load(settings.clone(), bytes).await?;
        self.question(&guest).await?;
        Ok(Prepared::New(guest))
    }

    /// Examines a component without a trace: nothing is remembered and nothing will serve.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub async fn try_out(
        &self,
        deployment: &Arc<Deployment>,
        bytes: Bytes,
    ) -> Result<Guest, AdmissionError> {
        let guest = self.load(deployment.settings(), bytes).await?;
        self.question(&guest).await?;
        Ok(guest)
    }

    async fn bytes(
        &self,
        source: Source,
        settings: &GuestSettings,
    ) -> Result<Bytes, AdmissionError> {
        match source {
            Source::Bytes(bytes) => Ok(bytes),
            Source::File => {
                let path = settings.component.clone();
                let read = blocking(move || loader::read(&path)).await?;
                Ok(Bytes::from(read?))
            }
        }
    }

    async fn load(&self, settings: GuestSettings, bytes: Bytes) -> Result<Guest, AdmissionError> {
        let runtime = Arc::clone(&self.runtime);
        Ok(blocking(move || runtime.load_bytes(settings, &bytes)).await??)
    }

    async fn question(&self, guest: &Guest) -> Result<(), AdmissionError> {
        let Some(path) = guest.rollout().probe.as_deref() else {
            return Ok(());
        };
        let asked = self.probe.ask(Arc::new(guest.renewed()), path).await;
        asked.map_err(|reason| AdmissionError::Probe {
            path: path.to_owned(),
            reason,
        })
    }
}

impl Passed {
    /// Its guest's name.
    pub fn name(&self) -> &str {
        self.candidate.deployment.name()
    }

    /// Lets it serve. Returns its number.
    ///
    /// Needs a tokio runtime around it.
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

/// A version's entry among its guest's while it is examined; withdrawn when the examination is dropped.
#[derive(Debug)]
struct Candidate {
    deployment: Arc<Deployment>,
    number: u64,
    is_settled: bool,
    /// Whether whoever brings it tells of its refusal.
    is_told: bool,
    _turn: OwnedMutexGuard<()>,
}

impl Candidate {
    fn new(
        deployment: &Arc<Deployment>,
        turn: OwnedMutexGuard<()>,
        origin: Origin,
        now_ms: i64,
    ) -> Self {
        Self {
            is_told: matches!(origin, Origin::Config | Origin::Test),
            number: deployment.propose(origin, now_ms),
            deployment: Arc::clone(deployment),
            is_settled: false,
            _turn: turn,
        }
    }

    fn refuse(mut self, error: &AdmissionError) {
        self.is_settled = true;
        let (guest, version) = (self.deployment.name(), self.number);
        let live = self.deployment.live_version();
        // Who reads a configuration tells of all its faults together; a test may mean it so.
        if !self.is_told {
            tracing::warn!(
                target: VERSION_TARGET, guest, version, live, %error,
                "a new version was refused; what is live serves on"
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

impl Drop for Candidate {
    fn drop(&mut self) {
        if !self.is_settled {
            self.deployment.withdraw(self.number);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AdmissionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| AdmissionError::Host(error.to_string()))
}

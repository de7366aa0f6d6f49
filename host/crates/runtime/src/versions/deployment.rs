//! The deployment of one guest: its live version, its canary, and its earlier versions. A request takes its version
//! here and keeps it.
//!
//! Changes are rare and take one lock. Taking a version is one atomic load.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::health_watch;
use super::history::{VersionHistory, VersionRecord};
use super::record::{VersionOrigin, VersionReport, VersionState};
use crate::Guest;
use crate::interfaces;
use crate::load::digest::ComponentDigest;
use crate::run::guest_settings::{Canary, GuestSettings};
use cloakroom_base::telemetry::VERSION_TARGET;
use cloakroom_base::telemetry::metrics::{GuestMetrics, RollbackCause};

/// One guest and its versions.
pub struct Deployment {
    name: Arc<str>,
    serving: ArcSwap<ServingVersions>,
    history: Mutex<VersionHistory>,
    metrics: Arc<GuestMetrics>,
    /// Held while a version is deployed, so that deployments run one after the other.
    pub(crate) deploying: Arc<tokio::sync::Mutex<()>>,
}

/// The versions that serve requests.
#[derive(Clone, Default)]
struct ServingVersions {
    live: Option<Arc<Guest>>,
    canary: Option<(Arc<Guest>, Canary)>,
}

/// Error returned when a guest cannot be rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// Only one version was live since the host started, or the guest was already rolled back.
    #[error("there is no earlier version to roll back to")]
    NoPrevious,
    /// The live version is not the one that the caller expected.
    #[error("version {live} is live, not version {expected}")]
    Stale {
        /// The version that the caller expected.
        expected: u64,
        /// The live version.
        live: u64,
    },
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("name", &self.name)
            .field("live", &self.live_version())
            .finish_non_exhaustive()
    }
}

impl Deployment {
    /// Creates a deployment without a version. The next version is made with these settings.
    pub fn new(settings: GuestSettings) -> Arc<Self> {
        Arc::new(Self {
            name: settings.name.as_str().into(),
            metrics: GuestMetrics::new(&settings.name, interfaces::grants()),
            serving: ArcSwap::default(),
            history: Mutex::new(VersionHistory {
                settings,
                last_number: 0,
                records: VecDeque::new(),
                file: None,
                refusal: None,
                previous: None,
                live_watch: None,
                canary_watch: None,
            }),
            deploying: Arc::default(),
        })
    }

    /// Returns the guest's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the guest's metrics.
    pub fn metrics(&self) -> &GuestMetrics {
        &self.metrics
    }

    /// Returns the version for a request. The request keeps it until its last byte, even if another version goes live.
    /// `visitor` returns a number that identifies the visitor. It is called only while a canary serves.
    pub fn take(&self, visitor: impl FnOnce() -> u64) -> Option<Arc<Guest>> {
        let serving = self.serving.load();
        match &serving.canary {
            Some((guest, canary)) if canary.takes(visitor(), &guest.component().digest) => {
                Some(Arc::clone(guest))
            }
            _ => serving.live.clone(),
        }
    }

    /// Returns the live version.
    pub fn live(&self) -> Option<Arc<Guest>> {
        self.serving.load().live.clone()
    }

    /// Returns the number of the live version, or 0 before the first.
    pub fn live_version(&self) -> u64 {
        let serving = self.serving.load();
        serving.live.as_ref().map_or(0, |guest| guest.version())
    }

    /// Returns the settings for the next version.
    pub fn settings(&self) -> GuestSettings {
        self.history.lock().settings.clone()
    }

    /// Returns the digest of the component's file from when a version was last loaded from it. The live version can
    /// have another digest, if it was uploaded or is an earlier version.
    pub(crate) fn file(&self) -> Option<ComponentDigest> {
        self.history.lock().file
    }

    /// Records the digest of the component's file when a version was loaded from it.
    pub(crate) fn note_file(&self, content: ComponentDigest) {
        self.history.lock().file = Some(content);
    }

    /// Returns why the last proposed version does not serve. Returns `None` if it serves, or if it brought nothing new.
    pub fn refusal(&self) -> Option<String> {
        self.history.lock().refusal.clone()
    }

    /// Clears the refusal, because the last proposal equals the live version.
    pub(crate) fn forget_refusal(&self) {
        self.history.lock().refusal = None;
    }

    /// Retires the guest, because the configuration no longer contains it. Requests that have already found this
    /// deployment still get a version from it. Once no request can find it, its versions end like replaced ones.
    ///
    /// Must be called within a tokio runtime.
    pub fn retire(self: &Arc<Self>) {
        let serving = self.serving.load();
        let history = self.history.lock();
        let canary = serving.canary.iter().map(|(guest, _)| guest);
        for guest in serving.live.iter().chain(canary) {
            guest.keep_no_instances();
            health_watch::over_draining(self, guest, history.settings.rollout.drain_max);
        }
    }

    /// Returns all remembered versions, the newest first.
    pub fn versions(&self) -> Vec<VersionReport> {
        let serving = self.serving.load();
        let history = self.history.lock();
        let running = |number: u64| {
            let canary = serving.canary.iter().map(|(guest, _)| guest);
            let mut guests = serving.live.iter().chain(canary);
            guests.find(|guest| guest.version() == number)
        };
        let report = |record: &VersionRecord| VersionReport {
            number: record.number,
            state: record.state.clone(),
            origin: record.origin.clone(),
            since_ms: record.since_ms,
            component: record.component.clone(),
            tally: running(record.number).map(|guest| guest.health().window_counts()),
            is_kept: history
                .previous
                .as_ref()
                .is_some_and(|previous| previous.version() == record.number),
        };
        history.records.iter().rev().map(report).collect()
    }

    /// Records a new candidate and returns its version number.
    pub(crate) fn start_version(&self, origin: VersionOrigin, since_ms: i64) -> u64 {
        let mut history = self.history.lock();
        history.last_number += 1;
        let number = history.last_number;
        history.records.push_back(VersionRecord {
            number,
            state: VersionState::Candidate,
            origin,
            since_ms,
            component: None,
        });
        history.forget_old();
        number
    }

    /// Removes a proposal as if it had never been made.
    pub(crate) fn withdraw(&self, number: u64) {
        let mut history = self.history.lock();
        history.records.retain(|record| record.number != number);
        if history.last_number == number {
            history.last_number -= 1;
        }
    }

    /// Records that a candidate was refused. The live version continues to serve.
    pub(crate) fn refuse(&self, number: u64, reason: String) {
        self.metrics.refused();
        let mut history = self.history.lock();
        history.refusal = Some(reason.clone());
        history.set_state(number, VersionState::Failed { reason });
    }

    /// Makes a validated candidate serve. It serves all visitors, or first a share of them if a canary is configured
    /// and there is a live version to compare it with. Later versions are made with `settings`.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn activate(self: &Arc<Self>, number: u64, guest: Guest, settings: GuestSettings) {
        let guest = Arc::new(guest.numbered(number, self.metrics.version(number)));
        let mut history = self.history.lock();
        if let Some(record) = history.record(number) {
            record.component = Some(guest.component().clone());
        }
        history.settings = settings;
        history.refusal = None;
        let canary = history.settings.rollout.canary;
        let mut serving = ServingVersions::clone(&self.serving.load());
        self.end_canary(&mut history, &mut serving, VersionState::Draining);
        match canary.filter(|_| serving.live.is_some()) {
            Some(canary) => {
                history.set_state(number, VersionState::Canary);
                history.canary_watch =
                    Some(health_watch::over_canary(self, &guest, canary.duration));
                tracing::info!(
                    guest = &*self.name, version = number, share = %canary.share,
                    duration = ?canary.duration, "a canary serves its share of the visitors"
                );
                serving.canary = Some((guest, canary));
                self.serving.store(Arc::new(serving));
            }
            None => self.go_live(&mut history, serving, guest),
        }
    }

    /// Goes back to the version before the live one, or drops the canary if there is one. This takes microseconds,
    /// because the earlier version was kept compiled. `expected` is the live version that the caller wants to replace,
    /// if it matters.
    ///
    /// Returns the version that is live afterwards.
    ///
    /// # Errors
    /// [`RollbackError`]
    pub fn roll_back(self: &Arc<Self>, expected: Option<u64>) -> Result<u64, RollbackError> {
        let mut history = self.history.lock();
        let live = self.live_version();
        if let Some(expected) = expected.filter(|expected| *expected != live) {
            return Err(RollbackError::Stale { expected, live });
        }
        let mut serving = ServingVersions::clone(&self.serving.load());
        if serving.canary.is_some() {
            self.end_canary(&mut history, &mut serving, VersionState::Draining);
            self.serving.store(Arc::new(serving));
            self.metrics.rolled_back(RollbackCause::Asked);
            return Ok(live);
        }
        self.step_back(&mut history, serving, VersionState::Draining)
            .inspect(|_| self.metrics.rolled_back(RollbackCause::Asked))
    }

    /// Ends the canary, if there is one, because the live version is wanted.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn drop_canary(self: &Arc<Self>) {
        let mut history = self.history.lock();
        let mut serving = ServingVersions::clone(&self.serving.load());
        self.end_canary(&mut history, &mut serving, VersionState::Draining);
        self.serving.store(Arc::new(serving));
    }

    /// Rolls back a version that failed too often.
    pub(crate) fn take_back(self: &Arc<Self>, number: u64) {
        let mut history = self.history.lock();
        let mut serving = ServingVersions::clone(&self.serving.load());
        let is_canary = matches!(&serving.canary, Some((guest, _)) if guest.version() == number);
        let Some(guest) = (if is_canary {
            serving.canary.as_ref().map(|(guest, _)| guest)
        } else {
            serving
                .live
                .as_ref()
                .filter(|live| live.version() == number)
        }) else {
            return;
        };
        let reason = guest.health().window_counts().to_string();
        let (guest, version) = (&*self.name, number);
        if !is_canary && history.previous.is_none() {
            tracing::warn!(guest, version, %reason, "a version fails too often, and there is no earlier version to roll back to");
            return;
        }
        tracing::warn!(guest, version, %reason, "a version fails too often: rolling it back");
        let failed = VersionState::Failed { reason };
        self.metrics.rolled_back(RollbackCause::Failures);
        if is_canary {
            self.end_canary(&mut history, &mut serving, failed);
            self.serving.store(Arc::new(serving));
        } else if let Err(error) = self.step_back(&mut history, serving, failed) {
            tracing::error!(guest, version, %error, "the version could not be rolled back");
        }
    }

    /// Makes the canary serve all visitors.
    pub(crate) fn promote(self: &Arc<Self>, number: u64) {
        let mut history = self.history.lock();
        let mut serving = ServingVersions::clone(&self.serving.load());
        match serving.canary.take() {
            Some((guest, _)) if guest.version() == number => {
                history.canary_watch = None;
                self.go_live(&mut history, serving, guest);
            }
            _ => {}
        }
    }

    /// Records that the last request of a version has ended.
    pub(crate) fn has_drained(&self, number: u64) {
        let mut history = self.history.lock();
        if let Some(record) = history.record(number)
            && record.state == VersionState::Draining
        {
            record.state = VersionState::Retired;
        }
        tracing::info!(
            guest = &*self.name,
            version = number,
            "the last request of an old version has ended"
        );
    }

    fn go_live(
        self: &Arc<Self>,
        history: &mut VersionHistory,
        mut serving: ServingVersions,
        guest: Arc<Guest>,
    ) {
        let number = guest.version();
        let rollback = history.settings.rollout.rollback;
        history.live_watch =
            rollback.map(|rollback| health_watch::over_live(self, &guest, rollback.probation));
        history.set_state(number, VersionState::Live);
        let old = serving.live.replace(guest);
        let replaced = old.as_ref().map(|old| old.version());
        if let Some(old) = old {
            self.metrics.swapped();
            history.previous = Some(old.renewed());
            self.drain(history, &old, VersionState::Draining);
        }
        self.serving.store(Arc::new(serving));
        tracing::info!(
            target: VERSION_TARGET,
            guest = &*self.name,
            version = number,
            replaced,
            "a version is live"
        );
    }

    fn step_back(
        self: &Arc<Self>,
        history: &mut VersionHistory,
        mut serving: ServingVersions,
        state: VersionState,
    ) -> Result<u64, RollbackError> {
        let previous = history.previous.take().ok_or(RollbackError::NoPrevious)?;
        let previous = Arc::new(previous);
        let number = previous.version();
        // This version served well before, and there is no earlier one to go back to. So nothing watches it.
        history.live_watch = None;
        history.set_state(number, VersionState::Live);
        let replaced = serving.live.replace(previous);
        let left = replaced.as_ref().map(|guest| guest.version());
        if let Some(old) = replaced {
            self.drain(history, &old, state);
        }
        self.serving.store(Arc::new(serving));
        tracing::warn!(
            guest = &*self.name,
            version = number,
            replaced = left,
            "an earlier version is live again"
        );
        Ok(number)
    }

    fn end_canary(
        self: &Arc<Self>,
        history: &mut VersionHistory,
        serving: &mut ServingVersions,
        state: VersionState,
    ) {
        history.canary_watch = None;
        if let Some((canary, _)) = serving.canary.take() {
            tracing::info!(
                guest = &*self.name,
                version = canary.version(),
                "the canary has ended"
            );
            self.drain(history, &canary, state);
        }
    }

    fn drain(self: &Arc<Self>, history: &mut VersionHistory, old: &Guest, state: VersionState) {
        history.set_state(old.version(), state);
        old.keep_no_instances();
        health_watch::over_draining(self, old, history.settings.rollout.drain_max);
    }
}

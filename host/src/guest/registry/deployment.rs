//! The place of one guest: which version serves, which comes, which went. A request takes its version here and keeps it.
//!
//! Changes are rare and go through one lock; taking a version is one atomic load.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::ledger::{Ledger, Record};
use super::record::{Origin, State, VersionReport};
use super::watch;
use crate::guest::Guest;
use crate::guest::digest::Digest;
use crate::guest::settings::{Canary, GuestSettings};
use crate::telemetry::VERSION_TARGET;
use crate::telemetry::metrics::{GuestMetrics, RollbackCause};

/// One guest and its versions.
pub struct Deployment {
    name: Arc<str>,
    serving: ArcSwap<Serving>,
    ledger: Mutex<Ledger>,
    metrics: Arc<GuestMetrics>,
    /// Held while a version is admitted: two do not overtake each other.
    pub(in crate::guest) admitting: Arc<tokio::sync::Mutex<()>>,
}

/// What requests are given.
#[derive(Clone, Default)]
struct Serving {
    live: Option<Arc<Guest>>,
    canary: Option<(Arc<Guest>, Canary)>,
}

/// Why a guest cannot go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// It has had one version only since the host started, or has gone back already.
    #[error("there is no earlier version to go back to")]
    NoPrevious,
    /// Another version is live than the caller thought.
    #[error("version {live} is live, not version {expected}")]
    Stale {
        /// What the caller thought.
        expected: u64,
        /// What is.
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
    /// A deployment without a version. The next one is made with these settings.
    pub fn new(settings: GuestSettings) -> Arc<Self> {
        Arc::new(Self {
            name: settings.name.as_str().into(),
            metrics: GuestMetrics::new(&settings.name),
            serving: ArcSwap::default(),
            ledger: Mutex::new(Ledger {
                settings,
                last_number: 0,
                records: VecDeque::new(),
                file: None,
                refusal: None,
                previous: None,
                live_watch: None,
                canary_watch: None,
            }),
            admitting: Arc::default(),
        })
    }

    /// The guest's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is counted of the guest.
    pub fn metrics(&self) -> &GuestMetrics {
        &self.metrics
    }

    /// The version for a request; who has one keeps it until its last byte, whatever is live by then. `visitor` tells
    /// visitors apart, the same number for the same one; it is asked only while a canary serves.
    pub fn take(&self, visitor: impl FnOnce() -> u64) -> Option<Arc<Guest>> {
        let serving = self.serving.load();
        match &serving.canary {
            Some((guest, canary)) if canary.takes(visitor(), &guest.component().digest) => {
                Some(Arc::clone(guest))
            }
            _ => serving.live.clone(),
        }
    }

    /// The live version.
    pub fn live(&self) -> Option<Arc<Guest>> {
        self.serving.load().live.clone()
    }

    /// The live version's number; 0 before the first.
    pub fn live_version(&self) -> u64 {
        let serving = self.serving.load();
        serving.live.as_ref().map_or(0, |guest| guest.version())
    }

    /// What the next version will be made with.
    pub fn settings(&self) -> GuestSettings {
        self.ledger().settings.clone()
    }

    /// What the component's file held when a version was last taken from it. What is live may be something else: a version
    /// that came another way, or an earlier one.
    pub(in crate::guest) fn file(&self) -> Option<Digest> {
        self.ledger().file
    }

    /// Notes what the component's file held when a version was taken from it.
    pub(in crate::guest) fn note_file(&self, content: Digest) {
        self.ledger().file = Some(content);
    }

    /// Why the last version that was proposed does not serve; `None` where it does, or brought nothing new.
    pub fn refusal(&self) -> Option<String> {
        self.ledger().refusal.clone()
    }

    /// Notes that what was proposed last is what is live.
    pub(in crate::guest) fn forget_refusal(&self) {
        self.ledger().refusal = None;
    }

    /// Sees the guest out: the configuration has it no more. Requests that have found it still get it; once nobody can
    /// find it, its versions end as old versions do.
    ///
    /// Needs a tokio runtime around it.
    pub fn retire(self: &Arc<Self>) {
        let serving = self.serving.load();
        let ledger = self.ledger();
        let canary = serving.canary.iter().map(|(guest, _)| guest);
        for guest in serving.live.iter().chain(canary) {
            guest.keep_no_instances();
            watch::over_draining(self, guest, ledger.settings.rollout.drain_max);
        }
    }

    /// All versions that are remembered, the newest first.
    pub fn versions(&self) -> Vec<VersionReport> {
        let serving = self.serving.load();
        let ledger = self.ledger();
        let running = |number: u64| {
            let canary = serving.canary.iter().map(|(guest, _)| guest);
            let mut guests = serving.live.iter().chain(canary);
            guests.find(|guest| guest.version() == number)
        };
        let report = |record: &Record| VersionReport {
            number: record.number,
            state: record.state.clone(),
            origin: record.origin.clone(),
            since_ms: record.since_ms,
            component: record.component.clone(),
            tally: running(record.number).map(|guest| guest.health().tally()),
            is_kept: ledger
                .previous
                .as_ref()
                .is_some_and(|previous| previous.version() == record.number),
        };
        ledger.records.iter().rev().map(report).collect()
    }

    /// Notes that a version is coming and numbers it.
    pub(in crate::guest) fn propose(&self, origin: Origin, since_ms: i64) -> u64 {
        let mut ledger = self.ledger();
        ledger.last_number += 1;
        let number = ledger.last_number;
        ledger.records.push_back(Record {
            number,
            state: State::Candidate,
            origin,
            since_ms,
            component: None,
        });
        ledger.forget_old();
        number
    }

    /// Takes a proposal back as if it had never been made.
    pub(in crate::guest) fn withdraw(&self, number: u64) {
        let mut ledger = self.ledger();
        ledger.records.retain(|record| record.number != number);
        if ledger.last_number == number {
            ledger.last_number -= 1;
        }
    }

    /// Notes that a candidate was refused. What is live serves on.
    pub(in crate::guest) fn refuse(&self, number: u64, reason: String) {
        self.metrics.refused();
        let mut ledger = self.ledger();
        ledger.refusal = Some(reason.clone());
        ledger.set_state(number, State::Failed { reason });
    }

    /// Makes an admitted candidate serve: everybody, or a share of the visitors first where that is asked for and there
    /// is a version to compare it with. `settings` are what later versions are made with.
    ///
    /// Needs a tokio runtime around it.
    pub(in crate::guest) fn activate(
        self: &Arc<Self>,
        number: u64,
        guest: Guest,
        settings: GuestSettings,
    ) {
        let guest = Arc::new(guest.numbered(number, self.metrics.version(number)));
        let mut ledger = self.ledger();
        if let Some(record) = ledger.record(number) {
            record.component = Some(guest.component().clone());
        }
        ledger.settings = settings;
        ledger.refusal = None;
        let canary = ledger.settings.rollout.canary;
        let mut serving = Serving::clone(&self.serving.load());
        self.end_canary(&mut ledger, &mut serving, State::Draining);
        match canary.filter(|_| serving.live.is_some()) {
            Some(canary) => {
                ledger.set_state(number, State::Canary);
                ledger.canary_watch = Some(watch::over_canary(self, &guest, canary.duration));
                tracing::info!(
                    guest = &*self.name, version = number, share = %canary.share,
                    duration = ?canary.duration, "a canary serves its share of the visitors"
                );
                serving.canary = Some((guest, canary));
                self.serving.store(Arc::new(serving));
            }
            None => self.go_live(&mut ledger, serving, guest),
        }
    }

    /// Goes back to the version before the live one, or drops the canary if there is one. Takes microseconds: the
    /// earlier version was kept compiled. `expected` is the live version the caller wants replaced, if it cares.
    ///
    /// Returns the version that is live then.
    ///
    /// # Errors
    /// [`RollbackError`]
    pub fn roll_back(self: &Arc<Self>, expected: Option<u64>) -> Result<u64, RollbackError> {
        let mut ledger = self.ledger();
        let live = self.live_version();
        if let Some(expected) = expected.filter(|expected| *expected != live) {
            return Err(RollbackError::Stale { expected, live });
        }
        let mut serving = Serving::clone(&self.serving.load());
        if serving.canary.is_some() {
            self.end_canary(&mut ledger, &mut serving, State::Draining);
            self.serving.store(Arc::new(serving));
            self.metrics.rolled_back(RollbackCause::Asked);
            return Ok(live);
        }
        self.step_back(&mut ledger, serving, State::Draining)
            .inspect(|_| self.metrics.rolled_back(RollbackCause::Asked))
    }

    /// Ends the canary's service, if one serves: what is live is wanted.
    ///
    /// Needs a tokio runtime around it.
    pub(in crate::guest) fn drop_canary(self: &Arc<Self>) {
        let mut ledger = self.ledger();
        let mut serving = Serving::clone(&self.serving.load());
        self.end_canary(&mut ledger, &mut serving, State::Draining);
        self.serving.store(Arc::new(serving));
    }

    /// Takes back a version that failed too often.
    pub(super) fn take_back(self: &Arc<Self>, number: u64) {
        let mut ledger = self.ledger();
        let mut serving = Serving::clone(&self.serving.load());
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
        let reason = guest.health().tally().to_string();
        let (guest, version) = (&*self.name, number);
        if !is_canary && ledger.previous.is_none() {
            tracing::warn!(guest, version, %reason, "a version fails too often, and there is none to go back to");
            return;
        }
        tracing::warn!(guest, version, %reason, "a version fails too often: taking it back");
        let failed = State::Failed { reason };
        self.metrics.rolled_back(RollbackCause::Failures);
        if is_canary {
            self.end_canary(&mut ledger, &mut serving, failed);
            self.serving.store(Arc::new(serving));
        } else if let Err(error) = self.step_back(&mut ledger, serving, failed) {
            tracing::error!(guest, version, %error, "the version stays");
        }
    }

    /// Makes the canary serve everybody.
    pub(super) fn promote(self: &Arc<Self>, number: u64) {
        let mut ledger = self.ledger();
        let mut serving = Serving::clone(&self.serving.load());
        match serving.canary.take() {
            Some((guest, _)) if guest.version() == number => {
                ledger.canary_watch = None;
                self.go_live(&mut ledger, serving, guest);
            }
            _ => {}
        }
    }

    /// Notes that the last request of a version has ended.
    pub(super) fn has_drained(&self, number: u64) {
        let mut ledger = self.ledger();
        if let Some(record) = ledger.record(number)
            && record.state == State::Draining
        {
            record.state = State::Retired;
        }
        tracing::info!(
            guest = &*self.name,
            version = number,
            "the last request of an old version has ended"
        );
    }

    fn go_live(self: &Arc<Self>, ledger: &mut Ledger, mut serving: Serving, guest: Arc<Guest>) {
        let number = guest.version();
        let rollback = ledger.settings.rollout.rollback;
        ledger.live_watch =
            rollback.map(|rollback| watch::over_live(self, &guest, rollback.probation));
        ledger.set_state(number, State::Live);
        let old = serving.live.replace(guest);
        let replaced = old.as_ref().map(|old| old.version());
        if let Some(old) = old {
            self.metrics.swapped();
            ledger.previous = Some(old.renewed());
            self.see_out(ledger, &old, State::Draining);
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
        ledger: &mut Ledger,
        mut serving: Serving,
        fate: State,
    ) -> Result<u64, RollbackError> {
        let previous = ledger.previous.take().ok_or(RollbackError::NoPrevious)?;
        let previous = Arc::new(previous);
        let number = previous.version();
        // It has proven itself before, and there is none behind it: nothing watches over it.
        ledger.live_watch = None;
        ledger.set_state(number, State::Live);
        let replaced = serving.live.replace(previous);
        let left = replaced.as_ref().map(|guest| guest.version());
        if let Some(old) = replaced {
            self.see_out(ledger, &old, fate);
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

    fn end_canary(self: &Arc<Self>, ledger: &mut Ledger, serving: &mut Serving, fate: State) {
        ledger.canary_watch = None;
        if let Some((canary, _)) = serving.canary.take() {
            tracing::info!(
                guest = &*self.name,
                version = canary.version(),
                "the canary serves no more"
            );
            self.see_out(ledger, &canary, fate);
        }
    }

    fn see_out(self: &Arc<Self>, ledger: &mut Ledger, old: &Guest, fate: State) {
        ledger.set_state(old.version(), fate);
        old.keep_no_instances();
        watch::over_draining(self, old, ledger.settings.rollout.drain_max);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing in here panics half-way; a poisoned lock would still hold what it says.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

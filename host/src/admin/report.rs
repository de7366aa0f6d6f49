//! What the admin interface says in JSON to the commands of the shell, which read it: of guests, and of the store's server.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::guest;

/// `GET /guests`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listing {
    pub(super) guests: Vec<Guest>,
}

/// `GET /guests/NAME`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Guest {
    pub(super) name: String,
    /// The live version's number; 0 before the first.
    pub(super) live: u64,
    /// The newest first.
    pub(super) versions: Vec<Version>,
}

/// One version of a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) number: u64,
    /// candidate, canary, live, draining, retired or failed.
    pub(super) state: String,
    /// Why it failed.
    pub(super) reason: Option<String>,
    /// config, file, or admin and the caller's address.
    pub(super) origin: String,
    /// RFC 3339, in UTC.
    pub(super) since: String,
    /// Known once it was examined.
    #[serde(flatten)]
    pub(super) component: Option<Component>,
    /// Of the last seconds, while it serves.
    pub(super) tally: Option<Tally>,
    /// Whether it is kept compiled, to be live again at once.
    pub(super) kept: bool,
}

/// A component, as it was found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Component {
    /// SHA-256, in hexadecimal.
    pub(super) digest: String,
    pub(super) bytes: u64,
    pub(super) world: String,
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

/// What a version did within its window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) traps: u32,
    pub(super) deadline_misses: u32,
}

/// What became of a component that was put, or of a rollback.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) guest: String,
    /// The version that was put, or that is live again.
    pub(super) version: u64,
    /// Its state.
    pub(super) state: String,
    /// The version that is live now.
    pub(super) live: u64,
    /// Whether it was what is live already.
    pub(super) unchanged: bool,
}

/// What a component is that was only tried.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    pub(super) guest: String,
    pub(super) dry_run: bool,
    pub(super) live: u64,
    /// Whether it is what is live already.
    pub(super) unchanged: bool,
    #[serde(flatten)]
    pub(super) component: Component,
}

/// The server that the session store uses by the operator's word.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Preferred {
    pub(super) in_use: String,
}

/// What is wrong.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Problem {
    pub(super) error: String,
}

impl Guest {
    pub(super) fn of(deployment: &guest::Deployment) -> Self {
        Self {
            name: deployment.name().to_owned(),
            live: deployment.live_version(),
            versions: deployment.versions().iter().map(Version::of).collect(),
        }
    }
}

impl Version {
    fn of(report: &guest::VersionReport) -> Self {
        let since_ms = u64::try_from(report.since_ms).unwrap_or(0);
        let since = UNIX_EPOCH + Duration::from_millis(since_ms);
        let reason = match &report.state {
            guest::State::Failed { reason } => Some(reason.clone()),
            guest::State::Candidate
            | guest::State::Canary
            | guest::State::Live
            | guest::State::Draining
            | guest::State::Retired => None,
        };
        Self {
            number: report.number,
            state: report.state.name().to_owned(),
            reason,
            origin: report.origin.to_string(),
            since: humantime::format_rfc3339_millis(since).to_string(),
            component: report.component.as_ref().map(Component::of),
            tally: report.tally.map(|tally| Tally {
                requests: tally.requests,
                errors: tally.errors,
                traps: tally.traps,
                deadline_misses: tally.deadline_misses,
            }),
            kept: report.is_kept,
        }
    }
}

impl Component {
    pub(super) fn of(info: &guest::ComponentInfo) -> Self {
        Self {
            digest: info.digest.to_string(),
            bytes: info.bytes,
            world: info.world.to_string(),
            imports: info.imports.clone(),
            exports: info.exports.clone(),
        }
    }
}

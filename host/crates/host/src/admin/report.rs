//! The JSON bodies of the admin interface, which the commands of the command line also read: guests and the server of the store.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use cloakroom_runtime as guest;

/// The response to `GET /guests`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GuestListing {
    pub(crate) guests: Vec<GuestReport>,
}

/// The response to `GET /guests/NAME`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GuestReport {
    pub(crate) name: String,
    /// The number of the live version. It is 0 before the first one.
    pub(crate) live: u64,
    /// The versions, newest first.
    pub(crate) versions: Vec<VersionEntry>,
}

/// A version of a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VersionEntry {
    pub(crate) number: u64,
    /// candidate, canary, live, draining, retired or failed.
    pub(crate) state: String,
    /// The reason for the failure.
    pub(crate) reason: Option<String>,
    /// config, file, or admin and the address of the client.
    pub(crate) origin: String,
    /// RFC 3339, in UTC.
    pub(crate) since: String,
    /// Present once the component was inspected.
    #[serde(flatten)]
    pub(crate) component: Option<ComponentReport>,
    /// The counts of the last seconds, while the version serves.
    pub(crate) tally: Option<WindowReport>,
    /// Whether the version is kept compiled, so that it can be live again at once.
    pub(crate) kept: bool,
}

/// The properties of a component.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ComponentReport {
    /// The SHA-256 hash in hexadecimal.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    pub(crate) world: String,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// The counts of a version within its window.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WindowReport {
    pub(crate) requests: u32,
    pub(crate) errors: u32,
    pub(crate) traps: u32,
    pub(crate) deadline_misses: u32,
}

/// The result of a deployment or a rollback.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeployReport {
    pub(crate) guest: String,
    /// The version that was deployed, or that is live again.
    pub(crate) version: u64,
    /// The state of that version.
    pub(crate) state: String,
    /// The version that is live now.
    pub(crate) live: u64,
    /// Whether the component was already live.
    pub(crate) unchanged: bool,
}

/// The result of a dry run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DryRunReport {
    pub(crate) guest: String,
    pub(crate) dry_run: bool,
    pub(crate) live: u64,
    /// Whether the component is already live.
    pub(crate) unchanged: bool,
    #[serde(flatten)]
    pub(crate) component: ComponentReport,
}

/// The server that the session store uses after the operator's request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PreferredServer {
    pub(crate) in_use: String,
}

impl GuestReport {
    pub(crate) fn of(deployment: &guest::Deployment) -> Self {
        Self {
            name: deployment.name().to_owned(),
            live: deployment.live_version(),
            versions: deployment.versions().iter().map(VersionEntry::of).collect(),
        }
    }
}

impl VersionEntry {
    fn of(report: &guest::VersionReport) -> Self {
        let since_ms = u64::try_from(report.since_ms).unwrap_or(0);
        let since = UNIX_EPOCH + Duration::from_millis(since_ms);
        let reason = match &report.state {
            guest::VersionState::Failed { reason } => Some(reason.clone()),
            guest::VersionState::Candidate
            | guest::VersionState::Canary
            | guest::VersionState::Live
            | guest::VersionState::Draining
            | guest::VersionState::Retired => None,
        };
        Self {
            number: report.number,
            state: report.state.name().to_owned(),
            reason,
            origin: report.origin.to_string(),
            since: humantime::format_rfc3339_millis(since).to_string(),
            component: report.component.as_ref().map(ComponentReport::of),
            tally: report.tally.map(|tally| WindowReport {
                requests: tally.requests,
                errors: tally.errors,
                traps: tally.traps,
                deadline_misses: tally.deadline_misses,
            }),
            kept: report.is_kept,
        }
    }
}

impl ComponentReport {
    pub(crate) fn of(info: &guest::ComponentInfo) -> Self {
        Self {
            digest: info.digest.to_string(),
            bytes: info.bytes,
            world: info.world.to_string(),
            imports: info.imports.clone(),
            exports: info.exports.clone(),
        }
    }
}

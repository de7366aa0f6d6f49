//! The description of a guest's version, kept while it serves and afterwards. It contains only strings and numbers, so
//! that it keeps no compiled code in memory.

use std::fmt;

use crate::load::loader::ComponentInfo;
use crate::run::health::WindowCounts;

/// The source of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionOrigin {
    /// The configuration, when the host started or reloaded it.
    Config,
    /// The component's file, after it changed.
    File,
    /// The admin interface.
    Admin {
        /// The address that the call came from.
        peer: String,
    },
    /// A test by the guest author. It makes a new version even if the live one has the same component.
    Test,
}

impl fmt::Display for VersionOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::File => f.write_str("file"),
            Self::Admin { peer } => write!(f, "admin {peer}"),
            Self::Test => f.write_str("test"),
        }
    }
}

/// The state of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// It is being validated and compiled.
    Candidate,
    /// It serves a share of the visitors.
    Canary,
    /// It serves.
    Live,
    /// It serves no new requests, but some earlier ones are still in progress.
    Draining,
    /// Its last request has ended.
    Retired,
    /// It was refused, or it was rolled back because it failed too often.
    Failed {
        /// The reason.
        reason: String,
    },
}

impl VersionState {
    /// Returns the state's one-word name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Canary => "canary",
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Retired => "retired",
            Self::Failed { .. } => "failed",
        }
    }
}

/// One version of a guest, for a listing.
#[derive(Clone, Debug)]
pub struct VersionReport {
    /// The version number, counted from 1 since the host started. Refused versions have a number, too.
    pub number: u64,
    /// The state of the version.
    pub state: VersionState,
    /// The source of the version.
    pub origin: VersionOrigin,
    /// When it was proposed, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Digest, size, imports and exports, once they are known.
    pub component: Option<ComponentInfo>,
    /// Its request outcomes within the window, while it serves.
    pub tally: Option<WindowCounts>,
    /// Whether it is kept compiled, so that a rollback to it is immediate.
    pub is_kept: bool,
}

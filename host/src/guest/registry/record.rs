//! What is remembered of each version of a guest, while it serves and after. Strings and numbers alone: nothing here keeps
//! compiled code in memory.

use std::fmt;

use crate::guest::health::Tally;
use crate::guest::loader::ComponentInfo;

/// Who brought a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration, when the host started or was told to read it again.
    Config,
    /// The component's file, which changed.
    File,
    /// The admin interface.
    Admin {
        /// The address the call came from.
        peer: String,
    },
    /// A test of whoever writes the guest: a new version even of what is live.
    Test,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::File => f.write_str("file"),
            Self::Admin { peer } => write!(f, "admin {peer}"),
            Self::Test => f.write_str("test"),
        }
    }
}

/// Where a version stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being looked at, compiled and tried.
    Candidate,
    /// It serves a share of the visitors.
    Canary,
    /// It serves.
    Live,
    /// It serves no new requests; some that it took are still under way.
    Draining,
    /// Its last request has ended.
    Retired,
    /// It was refused, or taken back after it had failed too often.
    Failed {
        /// Why.
        reason: String,
    },
}

impl State {
    /// Its one-word name.
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
    /// Counted from 1 since the host started, refused ones included.
    pub number: u64,
    /// Where it stands.
    pub state: State,
    /// Who brought it.
    pub origin: Origin,
    /// When, in milliseconds since the epoch.
    pub since_ms: i64,
    /// Digest, size, imports and exports, once they are known.
    pub component: Option<ComponentInfo>,
    /// What it did within its window, while it serves.
    pub tally: Option<Tally>,
    /// Whether it is kept compiled, to be live again at once.
    pub is_kept: bool,
}

//! The WebAssembly runtime: loads components, runs each request in an instance that serves no other request at the same time, and decides
//! which party is to blame when a run fails.
//!
//! - `engine`: engines, instance pools and memory accounting.
//! - `load`: files to compiled code, with the code cache and the compiler's child process.
//! - `run`: one [`GuestRequest`] on one instance, up to the point where its response may be released.
//! - `interfaces`: one file for each interface that guests may import, and the table that joins them.
//! - `versions`: each guest's versions, their deployment, canaries and rollback.
//! - `watch`: deploys a guest's file when it changes.
//!
//! This crate knows a [`Session`] but no store, and a [`CookieJar`] with the guests' own cookies but not the session's. It knows no
//! connections and no status codes.
//!
//! [`Session`]: cloakroom_session::Session
//! [`CookieJar`]: cloakroom_session::cookie::CookieJar

mod engine;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod hex;
mod interfaces;
mod load;
mod run;
mod runtime;
mod settings;
#[cfg(test)]
mod tests;
mod versions;
mod watch;

pub use engine::GuestWorld;
pub use interfaces::outbound::{
    BadHost, NonPublicKind, OutboundHost, OutboundUsage, private_today,
};
pub use interfaces::{GrantSummary, GrantValue, GuestGrants, INTERFACES, Interface, Services};
pub use load::compiler::{CompileError, compile};
pub use load::digest::ComponentDigest;
pub use load::inspection::{ComponentInspection, ProducerField, SectionBytes, inspect};
pub use load::loader::{COMPONENT_BYTES_MAX, ComponentInfo, LoadError};
pub use run::blame::{Blame, RequestBodyState, RunEnd, blame};
pub use run::body::GuestBody;
pub use run::concurrency::LimitUsage;
pub use run::error::{FaultParty, GuestFailure};
pub use run::guest::Guest;
pub use run::guest_settings::{Canary, GuestSettings, Rollback, Rollout};
pub use run::health::{CLIENTS_MAX, FailureThresholds, RequestOutcome, WindowCounts};
pub use run::request::{GuestRequest, ReplayBody, read_ahead_cost_max};
pub use run::{Invocation, ReleasedResponse};
pub use runtime::Runtime;
pub use settings::{Compiler, GuestLimits, RuntimeOptions, StreamPolicy};
pub use versions::deploy::{
    ComponentSource, DeployError, DeployOutcome, DeployRequest, Deployer, ProbeRequest,
    ReadyCandidate,
};
pub use versions::{
    Deployment, Deployments, GuestRegistry, RollbackError, VersionOrigin, VersionReport,
    VersionState,
};
pub use watch::{DirectoryEvent, DirectoryWatcher, FileStamp, Identity, watch};

//! Guests: loads components, runs each request in an instance that serves no other request at the same time, and decides which party is to
//! blame when a run fails. This module knows a [`Session`](crate::session::Session) but no store, and a [`CookieJar`](crate::cookie::CookieJar) with
//! the guests' own cookies but not the session's. It knows no connections and no status codes.
//!
//! `runtime` owns the engines and loads a [`Guest`]. `invoke` drives one [`GuestRequest`] to the release point, as an
//! [`Attempt`](crate::session::Attempt) that can be repeated. `session_host` is a guest's only way to its session, and `cookies_host` its
//! only way to its cookies.

mod account;
mod admission;
mod bindings;
mod blame;
mod body;
mod budget;
mod caller;
mod code;
mod code_cache;
mod compiler;
mod context;
mod cookies_host;
mod denials;
mod digest;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod gate;
mod health;
mod holdings;
mod http_types;
mod inspection;
mod instance;
mod invoke;
mod lane;
mod loaded;
mod loader;
mod log;
mod outbound;
mod queue;
mod registry;
mod request;
mod runtime;
mod session_host;
mod settings;
mod shelf;
mod tally;
#[cfg(test)]
mod tests;
mod watch;

pub use admission::{
    ComponentSource, DeployError, DeployOutcome, DeployRequest, Deployer, ProbeRequest,
    ReadyCandidate,
};
pub use blame::{Blame, RequestBodyState, RunEnd, blame};
pub use body::GuestBody;
pub use compiler::{CompileError, Compiler, compile};
pub use digest::ComponentDigest;
pub use engine::GuestWorld;
pub use error::{FaultParty, GuestFailure};
pub use gate::LimitUsage;
pub use health::{CLIENTS_MAX, FailureThresholds, RequestOutcome, WindowCounts};
pub use inspection::{ComponentInspection, ProducerField, SectionBytes, inspect};
pub use invoke::{Invocation, ReleasedResponse};
pub use loaded::Guest;
pub use loader::{COMPONENT_BYTES_MAX, ComponentInfo, LoadError};
pub use outbound::{BadHost, NonPublicKind, OutboundHost, OutboundUsage, private_today};
pub use registry::{
    Deployment, Deployments, GuestRegistry, RollbackError, VersionOrigin, VersionReport,
    VersionState,
};
pub use request::{BodyTooSlow, GuestRequest, ReplayBody, read_ahead_cost_max};
pub use runtime::Runtime;
pub use settings::{
    Canary, GuestLimits, GuestSettings, Rollback, Rollout, RuntimeOptions, StreamPolicy,
};
pub use watch::watch;

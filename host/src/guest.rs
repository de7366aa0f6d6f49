//! Guests: loading components, running one request on an instance of its own, and whose fault it is when that fails. Knows a
//! [`Session`](crate::session::Session) and no store, a [`Jar`](crate::cookie::Jar) of the guests' own cookies and not the session's,
//! no connection, no status code.
//!
//! `runtime` has the engines and loads a [`Guest`]; `invoke` drives one [`GuestRequest`] on it to the release point, as an
//! [`Attempt`](crate::session::Attempt) that can be repeated; `session_host` is the only way from a guest to its session,
//! `cookies_host` to its cookies.

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

pub use admission::{Admission, AdmissionError, Admitted, Passed, Probe, Proposal, Source};
pub use blame::{Blame, BodyState, End, blame};
pub use body::GuestBody;
pub use compiler::{CompileFault, Compiler, compile};
pub use digest::Digest;
pub use engine::World;
pub use error::{Fault, GuestFailure};
pub use gate::Usage;
pub use health::{CLIENTS_MAX, Conduct, Tally, Thresholds};
pub use inspection::{Inspection, Parts, Tool, inspect};
pub use invoke::{Invocation, Released};
pub use loaded::Guest;
pub use loader::{COMPONENT_BYTES_MAX, ComponentInfo, LoadError};
pub use outbound::{AddressKind, NotAHost, OutboundHost, OutboundUsage, private_today};
pub use registry::{
    Deployment, Deployments, GuestRegistry, Origin, RollbackError, State, VersionReport,
};
pub use request::{BodyTooSlow, GuestRequest, ReplayBody, read_ahead_cost_max};
pub use runtime::Runtime;
pub use settings::{Canary, GuestSettings, Limits, Options, Rollback, Rollout, StreamPolicy};
pub use watch::watch;

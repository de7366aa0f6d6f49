//! Sessions as transactions. The calls of a guest form a log over a snapshot of the session's row. One compare-and-swap
//! commits the log before the response leaves.
//!
//! This module works on rows, cookie values and the store. It does not depend on HTTP, on guests or on the configuration file.
//!
//! [`SessionManager::transact`] is the entry point. It runs an [`Attempt`] with a [`Session`], and runs it again if another
//! request changed data that the first run had read.
//!
//! Imports have no circles, so that each part can be read after the parts below it. From the top:
//!
//! - `manager`: the sessions as the rest of the host sees them
//! - `transact`: the loop that runs an attempt until it commits or is refused
//! - `handle`: a guest's calls
//! - `run`: one run, which loads, waits for the session lock and commits
//! - `start`, `load`: the state that a run starts from
//! - `shared`: the parts that all visits use
//! - `visit_lock`, `lock`, `fold`, `snapshots`, `settle`, `touches`: mechanisms that know nothing of runs
//! - `transaction`, `policy`: the session's content and the decision tables, without I/O

mod attempt;
pub mod cookie;
mod counters;
mod denial;
mod error;
mod fold;
mod grant;
mod handle;
mod load;
mod lock;
mod manager;
mod options;
mod outcome;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod property;
pub mod record;
mod rivals;
mod run;
mod seed;
mod settle;
mod shared;
mod snapshots;
mod start;
pub mod store;
mod touches;
mod transact;
mod transaction;
mod visit;
mod visit_lock;

pub use attempt::{Attempt, ReplayPolicy};
pub use counters::SessionCounters;
pub use denial::SessionDenial;
pub use error::{SessionCallError, SessionError};
pub use grant::{KeyPatterns, SessionAccessLevel, SessionGrant};
pub use handle::Session;
pub use manager::SessionManager;
pub use options::{
    CookieOptions, SameSitePolicy, SecurePolicy, SessionOptions, TouchPolicy, UnsetPolicy,
};
pub use outcome::{CookieChange, TransactionOutcome, TransactionRefusal};
pub use seed::{SeedError, SessionSeed};
pub use visit::{Visit, VisitStart};

#[cfg(test)]
mod tests;

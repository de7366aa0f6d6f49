//! Sessions as transactions. The calls of a guest form a log over a snapshot of the session's row. One compare-and-swap
//! commits the log before the response leaves.
//!
//! This module works on rows, cookie values and the store. It does not depend on HTTP, on guests or on the configuration file.
//!
//! [`SessionManager::transact`] is the entry point. It runs an [`Attempt`] with a [`Session`], and runs it again if another
//! request changed data that the first run had read.

mod attempt;
pub mod cookie;
mod counters;
mod denial;
mod error;
mod fold;
mod grant;
mod handle;
mod lock;
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
pub use options::{
    CookieOptions, SameSitePolicy, SecurePolicy, SessionOptions, TouchPolicy, UnsetPolicy,
};
pub use outcome::{CookieChange, TransactionOutcome, TransactionRefusal};
pub use seed::{SeedError, SessionSeed};
pub use transact::SessionManager;
pub use visit::{Visit, VisitStart};

#[cfg(test)]
mod tests;

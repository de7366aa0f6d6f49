//! Sessions as transactions. The calls of a guest form a log over a snapshot of the session's row. One compare-and-swap
//! commits the log before the response leaves.
//!
//! This module works on rows, cookie values and the store. It does not depend on HTTP, on guests or on the configuration file.
//!
//! [`SessionManager::transact`] is the entry point. It runs an [`Attempt`] with a [`Session`], and runs it again if another
//! request changed data that the first run had read.

pub mod cookie;
mod counters;
mod denial;
mod fold;
mod grant;
mod handle;
mod lock;
mod manager;
mod options;
mod policy;
#[cfg(any(test, feature = "testing"))]
pub mod property;
pub mod record;
mod rivals;
mod run;
mod seed;
mod settle;
mod snapshots;
pub mod store;
mod touches;
mod transaction;

pub use counters::SessionCounters;
pub use denial::SessionDenial;
pub use grant::{KeyPatterns, SessionAccessLevel, SessionGrant};
pub use handle::Session;
pub use manager::SessionManager;
pub use options::{
    CookieOptions, SameSitePolicy, SecurePolicy, SessionOptions, TouchPolicy, UnsetPolicy,
};
pub use seed::{SeedError, SessionSeed};

use std::sync::Arc;

use crate::cookie::PresentedCookies;
use crate::record::CookieAttributes;
use cloakroom_base::deadline::Deadline;
use cloakroom_base::quota::Reservation;

/// A request, reduced to the facts that its session depends on.
pub struct Visit {
    /// The values of the session cookie in the request.
    pub presented: PresentedCookies,
    /// The host that the request names, possibly with a port. Browsers keep cookies for this host and for its parent domains.
    pub host: String,
    /// The request's path. A request outside of the cookie's path has no session.
    pub path: String,
    /// Whether the visitor's link is secure.
    pub is_secure: bool,
    /// The guest's permissions on the session.
    pub grant: Arc<SessionGrant>,
    /// The time at which all waiting and re-running ends. A commit that has been sent is settled even after the deadline.
    pub deadline: Deadline,
    /// Whether the visit waits for the session lock before it starts.
    pub start: VisitStart,
    /// The request's reservation among the requests under way. While the visit waits for the session lock, a request of
    /// another client may take the reservation; the visit is then refused.
    pub place: Option<Reservation>,
}

/// How the first run of a visit starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum VisitStart {
    /// At once, on the assumption that no other request is using the session. The run starts on the row that this process
    /// remembers, if there is one.
    #[default]
    Optimistic,
    /// At once, on the row as the store has it now. This is for a guest that could not be run again if the remembered row were stale.
    Fresh,
    /// With the session lock held. No other exclusive visit of the session runs in this process at the same time.
    Exclusive,
}

/// The work of one request: the guest, which is run as often as its session requires.
pub trait Attempt: Send {
    /// The value that is released once the session is committed. Dropping it ends the run behind it.
    type Answer: Send;
    /// The reason why a run gave no answer.
    type Failure: Send;

    /// Runs the guest once, from the start, on its own instance, up to the release point. `number` counts from 1.
    ///
    /// When a call on `session` returns [`SessionCallError::Interrupted`], the run must end. It may return any failure, because
    /// the caller knows the reason.
    ///
    /// # Errors
    /// Fails when the guest gave no answer. Such a run commits only changes that the guest has saved.
    fn run(
        &mut self,
        session: Session,
        number: u32,
    ) -> impl Future<Output = Result<Self::Answer, Self::Failure>> + Send;

    /// Returns whether the attempt may be run again. Called after a conflict, when the last run has ended.
    fn replay(&self) -> ReplayPolicy;
}

/// Whether an [`Attempt`] may be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayPolicy {
    /// The run had no effect outside of the sandbox, and the request can be given to the guest again.
    Possible,
    /// The guest had an effect on the outside that must not happen twice.
    EffectMade,
    /// The request's body was too long to be kept.
    BodyGone,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum TransactionOutcome<A, F> {
    /// The session was committed; the answer may be released.
    Answered {
        /// The attempt's answer.
        answer: A,
        /// What to do about the visitor's cookie.
        cookie: CookieChange,
    },
    /// The attempt itself failed. Only changes that the guest had saved were committed.
    Failed {
        /// The attempt's failure.
        failure: F,
        /// The cookie change that a `save` before the failure requires.
        cookie: CookieChange,
    },
    /// The session could not be committed; nothing may be released.
    Refused {
        /// The reason.
        refusal: TransactionRefusal,
        /// The cookie change that a `save` before the refusal requires.
        cookie: CookieChange,
    },
}

/// Why a transaction was given up. The numbers are the status codes of the responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionRefusal {
    /// Another request changed data that this one had read, and the guest had an effect (or saved) that must not happen twice: 409.
    Conflict,
    /// Like [`TransactionRefusal::Conflict`], but the guest could be run again if its request's body had been kept: 503.
    BodyGone,
    /// The session's queue was full, or the deadline passed while the request waited or was run again: 503.
    Busy,
    /// The store failed, or the reply to a commit was lost and its outcome cannot be determined: 503.
    StoreUnavailable,
    /// The valid cookies of the request name several sessions, and the guest wrote: 409.
    SeveralSessions,
    /// The session does not fit into the store's column: 507.
    TooLarge,
    /// The store's table permanently refuses the session (its character set, a constraint, a column of another program): 500.
    StoreRefused,
}

/// The change that a response must make to the visitor's cookie.
#[derive(Clone, PartialEq, Eq)]
pub enum CookieChange {
    /// No change.
    Keep,
    /// Sets the cookie.
    Set {
        /// The signed value, percent-encoded.
        value: String,
        /// The attributes to send with the value; `expires_at_ms` is up to date.
        attributes: CookieAttributes,
    },
    /// Makes the browser drop the cookie.
    Expire {
        /// The attributes that the cookie was set with.
        attributes: CookieAttributes,
    },
    /// Changes the session's own cookie, and makes the browser drop the duplicate cookies of the same name that the request contained.
    WithStrays {
        /// The change to the session's own cookie. Never `WithStrays` itself.
        own: Box<CookieChange>,
        /// The domains and paths where the duplicates may be stored. Together with the cookie that `own` sets or expires
        /// there are at most 16.
        strays: Vec<CookieAttributes>,
    },
}

/// Hides the value, which is a credential.
impl std::fmt::Debug for CookieChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Set { .. } => "Set(..)",
            Self::Expire { .. } => "Expire",
            Self::WithStrays { .. } => "WithStrays",
        })
    }
}

/// Why a call was refused, as reported to the guest: `error` in the WIT interface. A refused call has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The grant does not cover this key or this operation.
    #[error("denied: {0}")]
    Denied(SessionDenial),
    /// The call is not valid: the value is not JSON, the key is reserved or too long, the entry is not an integer, or the
    /// session was destroyed.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The session would exceed its limit, given in bytes.
    #[error("too large: the session's limit is {0} bytes")]
    TooLarge(u64),
    /// The response has been released: the session is read-only.
    #[error("committed: the response has been released")]
    Committed,
    /// The store did not answer in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Why a call on a [`Session`] returned no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionCallError {
    /// An error to be returned to the guest.
    #[error(transparent)]
    Guest(#[from] SessionError),
    /// The run must end now. `transact` knows the reason and decides how to continue.
    #[error("the run was interrupted by the session's transaction")]
    Interrupted,
}

#[cfg(test)]
mod tests;

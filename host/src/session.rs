//! Sessions as transactions: a guest's calls are a log over a snapshot, committed by one compare-and-swap before its answer
//! leaves. Knows rows, cookies' values and the store; knows no HTTP, no guests, no configuration file.
//!
//! [`SessionManager::transact`] is the whole of it: it runs an [`Attempt`] with a [`Session`], and again where another
//! request changed what the first run had read.

mod counters;
mod denial;
mod fold;
mod grant;
mod handle;
mod manager;
mod options;
mod policy;
#[cfg(any(test, feature = "contract"))]
pub mod property;
mod rivals;
mod run;
mod seed;
mod settle;
mod slot;
mod snapshots;
mod touches;
mod transaction;

pub use counters::Counters;
pub use denial::Denial;
pub use grant::{Access, Grant, KeyPatterns};
pub use handle::Session;
pub use manager::SessionManager;
pub use options::{CookieOptions, Options, SameSiteOption, Secure, TouchPolicy, Unset};
pub use seed::{Seed, SeedError};

use std::sync::Arc;

use crate::cookie::Presented;
use crate::deadline::Deadline;
use crate::quota::Reservation;
use crate::record::CookieAttributes;

/// One request, as far as its session is concerned.
pub struct Visit {
    /// The values of our cookie in the request.
    pub presented: Presented,
    /// The host that the request names, perhaps with a port: a browser keeps cookies for it and for its parent domains.
    pub host: String,
    /// The request's path: outside of the cookie's path there is no session.
    pub path: String,
    /// Whether the visitor's link is secure.
    pub is_secure: bool,
    /// What the guest may do.
    pub grant: Arc<Grant>,
    /// When all waiting and all re-running ends. A commit that has been sent is settled all the same.
    pub deadline: Deadline,
    /// Whether the visit waits for its turn before it starts.
    pub start: Start,
    /// The request's place among those under way. While the visit waits for its turn, another client's request may take it;
    /// the visit is refused then.
    pub place: Option<Reservation>,
}

/// How a visit's first run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// At once, on the assumption that no other request meets it: on what this process remembers of the session, if it does.
    #[default]
    Optimistic,
    /// At once, on the row as the store has it: for a guest that could not be run again if that were another one.
    Fresh,
    /// With the session's slot in hand: no other such visit runs in this process at the same time.
    Exclusive,
}

/// What one request runs: the guest, as often as its session asks for.
pub trait Attempt: Send {
    /// What is released once the session is committed. Dropping it drops the run behind it.
    type Answer: Send;
    /// Why a run gave no answer.
    type Failure: Send;

    /// One run from the start on an instance of its own, up to the release point. `number` counts from 1.
    ///
    /// When a call on `session` is [`CallError::Interrupted`] the run must end, with any failure: the caller knows why.
    ///
    /// # Errors
    /// When the guest gave no answer; then the run commits nothing but what the guest saved.
    fn run(
        &mut self,
        session: Session,
        number: u32,
    ) -> impl Future<Output = Result<Self::Answer, Self::Failure>> + Send;

    /// Whether it may be run again; asked after a conflict, when the last run has ended.
    fn replay(&self) -> Replay;
}

/// Whether an [`Attempt`] may be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing happened outside of the sandbox, and the request can be given once more.
    Possible,
    /// The guest had an effect on the outside that must not happen twice.
    EffectMade,
    /// The request's body was too long to be kept.
    BodyGone,
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Outcome<A, F> {
    /// Committed: release the answer.
    Answered {
        /// What the attempt gave.
        answer: A,
        /// What to do about the visitor's cookie.
        cookie: CookieChange,
    },
    /// The attempt failed by itself; nothing was committed but what the guest saved.
    Failed {
        /// What the attempt gave.
        failure: F,
        /// What a `save` before the failure asks for.
        cookie: CookieChange,
    },
    /// The session could not be committed; nothing may be released.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What a `save` before the refusal asks for.
        cookie: CookieChange,
    },
}

/// Why a transaction was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another request changed what this one had read, and the guest had made an effect (or saved) that must not be made
    /// twice: 409.
    Conflict,
    /// As [`Refusal::Conflict`], but the guest could be run again if its request's body had been kept: 503.
    BodyGone,
    /// The session's queue was full, or its deadline passed while it waited or was run again: 503.
    Busy,
    /// The store failed, or a commit's reply was lost and nothing can tell what became of it: 503.
    StoreUnavailable,
    /// The request's valid cookies name several sessions, and the guest wrote: 409.
    SeveralSessions,
    /// The session does not fit the store's column: 507.
    TooLarge,
    /// The store's table refuses the session for good (its character set, a constraint, a column of another program): 500.
    StoreRefused,
}

/// What an answer must do to the visitor's cookie.
#[derive(Clone, PartialEq, Eq)]
pub enum CookieChange {
    /// Nothing.
    Keep,
    /// Set it.
    Set {
        /// The signed value, percent-encoded.
        value: String,
        /// What to send with it; `expires_at_ms` is up to date.
        attributes: CookieAttributes,
    },
    /// Have the browser drop it.
    Expire {
        /// What it was set with.
        attributes: CookieAttributes,
    },
    /// Do what is to be done about the session's own cookie, and have the browser drop the others of its name that the request
    /// came with.
    WithStrays {
        /// About the session's own: never this variant again.
        own: Box<CookieChange>,
        /// The places where the others may be. With what `own` sets or expires they are 16 at most.
        strays: Vec<CookieAttributes>,
    },
}

/// Shows no value: it is a credential.
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

/// Why a call was refused, as the guest is told: the WIT interface's `error`. A refused call has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The grant does not cover this key or this operation.
    #[error("denied: {0}")]
    Denied(Denial),
    /// The call cannot be right: not JSON, a reserved or overlong key, not an integer, a destroyed session.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The session would pass the limit of this many bytes.
    #[error("too large: the session's limit is {0} bytes")]
    TooLarge(u64),
    /// The response has been released: the session is read-only.
    #[error("committed: the response has been released")]
    Committed,
    /// The store did not answer in time.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Why a call on a [`Session`] gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// To be handed to the guest.
    #[error(transparent)]
    Guest(#[from] Error),
    /// The run must end now; `transact` knows why and decides what comes next.
    #[error("the run was interrupted by the session's transaction")]
    Interrupted,
}

#[cfg(test)]
mod tests;

//! The result of a transaction: the answer or the reason why there is none, and the change to the visitor's cookie.

use crate::record::CookieAttributes;
use crate::store::StoreErrorKind;

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

/// Whether the store was to load, commit or delete makes no difference.
impl From<StoreErrorKind> for TransactionRefusal {
    fn from(kind: StoreErrorKind) -> Self {
        match kind {
            StoreErrorKind::TooLarge => Self::TooLarge,
            StoreErrorKind::Refused => Self::StoreRefused,
            StoreErrorKind::Unavailable | StoreErrorKind::Broken => Self::StoreUnavailable,
        }
    }
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
    WithDuplicates {
        /// The change to the session's own cookie. Never `WithDuplicates` itself.
        own: Box<CookieChange>,
        /// The domains and paths where the duplicates may be stored. Together with the cookie that `own` sets or expires
        /// there are at most 16.
        duplicates: Vec<CookieAttributes>,
    },
}

/// Hides the value, which is a credential.
impl std::fmt::Debug for CookieChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Set { .. } => "Set(..)",
            Self::Expire { .. } => "Expire",
            Self::WithDuplicates { .. } => "WithDuplicates",
        })
    }
}

//! The errors of a guest's session calls.

use crate::denial::SessionDenial;

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

/// Why a call on a [`Session`](crate::Session) returned no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionCallError {
    /// An error to be returned to the guest.
    #[error(transparent)]
    Guest(#[from] SessionError),
    /// The run must end now. `transact` knows the reason and decides how to continue.
    #[error("the run was interrupted by the session's transaction")]
    Interrupted,
}

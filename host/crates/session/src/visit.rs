//! The facts about a request that its session depends on.

use std::sync::Arc;

use cloakroom_base::deadline::Deadline;
use cloakroom_base::quota::Reservation;

use crate::cookie::PresentedCookies;
use crate::grant::SessionGrant;

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
    pub reservation: Option<Reservation>,
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

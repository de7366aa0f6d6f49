//! The sessions that a visit's valid cookies name: none, one, or several, of which at most one can be the visitor's. Does
//! not use the store.
//!
//! The store is asked for up to four ids in one call, without snapshots. The id that has a row is the session. If several have
//! one, the request does not show which session the visitor means: the guest sees none, and a run that writes is refused with
//! 409. Its row would be an orphan, because the browser would go on to send the other cookies. A request with more than 16 values
//! of the name counts as one with several sessions.

use std::sync::Arc;

use crate::record::SessionId;
use crate::visit::Visit;
use cloakroom_base::limits::SESSION_IDS_MAX;

/// The sessions that a visit's valid cookies name.
#[derive(Clone)]
pub(crate) enum RowClaim {
    Nothing,
    One(SessionId),
    Several(Arc<RivalSessions>),
}

/// The ids of several sessions in one request, and the facts that determine where their cookies may be stored.
pub(crate) struct RivalSessions {
    /// The distinct ids. Empty if the request had more values than are verified.
    pub(crate) ids: Vec<SessionId>,
    pub(crate) host: String,
    pub(crate) path: String,
}

impl RowClaim {
    /// Returns the ids that the cookies name.
    pub(crate) fn ids(&self) -> &[SessionId] {
        match self {
            Self::Nothing => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(rivals) => &rivals.ids,
        }
    }
}

impl RivalSessions {
    /// Creates the claim of a request with several ids.
    pub(crate) fn claim(ids: Vec<SessionId>, visit: &Visit) -> RowClaim {
        RowClaim::Several(Arc::new(Self {
            ids,
            host: visit.host.clone(),
            path: visit.path.clone(),
        }))
    }

    /// Returns whether there are more ids than the store is asked for. None of them is used as the visitor's session then.
    pub(crate) fn are_too_many(&self) -> bool {
        self.ids.is_empty() || self.ids.len() > SESSION_IDS_MAX
    }

    /// Returns whether the request had more values than are verified. A logout cannot end the sessions that they name then.
    pub(crate) fn are_unknown(&self) -> bool {
        self.ids.is_empty()
    }
}

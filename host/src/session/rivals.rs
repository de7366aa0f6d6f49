//! What a visit's valid cookies name: nothing, one session, or several of which one at most can be the visitor's. Knows no store.

use std::sync::Arc;

use super::Visit;
use crate::limits::SESSION_IDS_MAX;
use crate::record::SessionId;

/// See the module.
#[derive(Clone)]
pub(super) enum Claim {
    Nothing,
    One(SessionId),
    Several(Arc<Rivals>),
}

/// Several sessions' ids in one request, and what tells where their cookies may be kept.
pub(super) struct Rivals {
    /// Each once. Empty where the request had more values than are verified.
    pub(super) ids: Vec<SessionId>,
    pub(super) host: String,
    pub(super) path: String,
}

impl Claim {
    /// The ids that it names.
    pub(super) fn ids(&self) -> &[SessionId] {
        match self {
            Self::Nothing => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(rivals) => &rivals.ids,
        }
    }
}

impl Rivals {
    /// Several ids of one request.
    pub(super) fn claim(ids: Vec<SessionId>, visit: &Visit) -> Claim {
        Claim::Several(Arc::new(Self {
            ids,
            host: visit.host.clone(),
            path: visit.path.clone(),
        }))
    }

    /// Whether they are more than the store is asked for. Then none of them is the visitor's.
    pub(super) fn are_too_many(&self) -> bool {
        self.ids.is_empty() || self.ids.len() > SESSION_IDS_MAX
    }

    /// Whether the request had more values than are verified: then a logout cannot end what they name.
    pub(super) fn are_unknown(&self) -> bool {
        self.ids.is_empty()
    }
}

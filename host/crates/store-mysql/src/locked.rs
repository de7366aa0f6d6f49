//! Detects that all rows of a server are locked (by a backup or on a donor), from changes that timed out waiting for a
//! lock. Stores no ids: a session is a hash here.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use cloakroom_session::record::SessionId;

/// Number of different sessions, without a successful change in between, after which all rows count as locked. One or
/// two rows may be locked by other transactions.
const SESSIONS_MAX: usize = 3;

/// The sessions whose changes timed out waiting for a lock since the last successful change.
#[derive(Debug, Default)]
pub(crate) struct LockedServer {
    hasher: RandomState,
    sessions: HashSet<u64>,
}

impl LockedServer {
    /// Records that a change of this session timed out waiting for a lock. Returns true, and starts over, if all rows
    /// now count as locked.
    pub(crate) fn waited(&mut self, id: &SessionId) -> bool {
        let session = self.hasher.hash_one(id.as_str());
        self.sessions.insert(session);
        let is_all = self.sessions.len() >= SESSIONS_MAX;
        if is_all {
            self.sessions.clear();
        }
        is_all
    }

    /// Records a successful change.
    pub(crate) fn changed(&mut self) {
        self.sessions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_different_sessions_without_a_success_are_a_locked_server() {
        let ids = [(); 3].map(|()| SessionId::generate());
        let mut locked = LockedServer::default();
        for _ in 0..10 {
            assert!(!locked.waited(&ids[0]), "one session is one row");
        }
        assert!(!locked.waited(&ids[1]));
        assert!(locked.waited(&ids[2]));

        assert!(!locked.waited(&ids[0]));
        assert!(!locked.waited(&ids[1]));
        locked.changed();
        assert!(!locked.waited(&ids[2]));
    }
}

//! Whether all rows of a server are locked (a backup, a donor), told from changes that waited for a lock in vain. Knows no ids: a
//! session is a hash here.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use crate::record::SessionId;

/// Different sessions without a success in between after which all rows count as locked: one or two may be locked by others.
const SESSIONS_MAX: usize = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Locked {
    hasher: RandomState,
    sessions: HashSet<u64>,
}

impl Locked {
    /// A change of this session waited for a lock in vain; true if all rows count as locked now. It begins anew then.
    pub(super) fn waited(&mut self, id: &SessionId) -> bool {
        let session = self.hasher.hash_one(id.as_str());
        self.sessions.insert(session);
        let is_all = self.sessions.len() >= SESSIONS_MAX;
        if is_all {
            self.sessions.clear();
        }
        is_all
    }

    /// A change was made.
    pub(super) fn changed(&mut self) {
        self.sessions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_different_sessions_without_a_success_are_a_locked_server() {
        let ids = [(); 3].map(|()| SessionId::generate());
        let mut locked = Locked::default();
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

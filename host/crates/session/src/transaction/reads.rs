//! The parts of the row that a guest has seen. If they are the same in a newer row, the run is valid there as well.
//!
//! A successful `add` is not a read. A `reload` makes it one: that the change fitted depended on the rest of the session.

use std::collections::HashSet;

use crate::record::Document;
use cloakroom_base::limits::SESSION_LOG_OPS_MAX;

use super::log::ChangeLog;

/// The reads of one segment.
///
/// Only the names of keys are stored. The values that the guest saw are those of the transaction's base, at the time of the
/// read and after every rebase.
#[derive(Default)]
pub(crate) struct ReadSet {
    keys: HashSet<String>,
    all: bool,
    cookie: bool,
    id: bool,
}

impl ReadSet {
    pub(crate) fn note(&mut self, key: &str) {
        if self.all || self.keys.contains(key) {
            return;
        }
        self.keys.insert(key.to_owned());
        if self.keys.len() > SESSION_LOG_OPS_MAX {
            self.note_all();
        }
    }

    pub(crate) fn note_all(&mut self) {
        self.all = true;
        self.keys = HashSet::new();
    }

    pub(crate) fn note_cookie(&mut self) {
        self.cookie = true;
    }

    /// Notes that the guest saw the id. The id of a row never changes, so this matters only to a blind deletion.
    pub(crate) fn note_id(&mut self) {
        self.id = true;
    }

    /// Notes what the success of these changes revealed to the guest: that they fit, which depends on all entries.
    pub(crate) fn note_log(&mut self, log: &ChangeLog) {
        if log.depends_on_base() {
            self.note_all();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.all && !self.cookie && !self.id
    }

    /// Returns whether everything that was seen in `old` is the same in `new`.
    pub(crate) fn hold(&self, old: &Document, new: &Document) -> bool {
        let keys_hold = self.keys.iter().all(|key| old.get(key) == new.get(key));
        let all_holds = !self.all || old.has_same_entries(new);
        let attributes = |document: &Document| document.cookie().attributes().clone();
        let cookie_holds = !self.cookie || attributes(old) == attributes(new);
        keys_hold && all_holds && cookie_holds
    }
}

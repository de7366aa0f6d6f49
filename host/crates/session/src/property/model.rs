//! A second, naive implementation of sessions for sequential requests, without logs, conflicts or stores. The real
//! implementation is compared with it.

mod visit;

use std::collections::BTreeMap;

use super::super::SessionOptions;
use super::script::Call;
use cloakroom_base::clock::round_to_seconds;
pub(crate) use visit::Reply;

/// The name of a session in the model. The real ids are chosen by the implementation under test.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Name {
    /// The session whose cookie all requests present.
    Shared,
    /// The n-th session that a request created.
    Own(usize, usize),
}

/// A session's content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Content {
    pub(crate) entries: Vec<(String, String)>,
    pub(crate) max_age_ms: Option<i64>,
    pub(crate) cookie_ends_at_ms: Option<i64>,
}

/// A session's row.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Row {
    pub(crate) content: Content,
    pub(crate) expires_at_s: i64,
}

/// The change to a visitor's cookie.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fate {
    Keep,
    /// The cookie is set for this session, with this lifetime and end.
    Set(Name, Option<i64>, Option<i64>),
    Expire,
}

/// The state of a visit's session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum SessionState {
    Unopened,
    New,
    Loaded(Name),
    Detached,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ending {
    Alive,
    Destroyed,
    Dropped,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Visit {
    number: usize,
    state: SessionState,
    had_dead_cookie: bool,
    /// Whether its cookie names a row that it has not seen. Its `destroy` deletes that row nevertheless, after its segment.
    has_unseen: bool,
    removes_unseen: bool,
    ending: Ending,
    /// Whether `destroy` was called, even if the guest continued with a new session.
    was_destroyed: bool,
    working: Content,
    before: Content,
    moves_to: Option<Name>,
    is_regenerated: bool,
    is_cookie_changed: bool,
    is_saved: bool,
    was_modified: bool,
    minted: usize,
    pub(crate) fate: Fate,
}

/// How a request finds the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// Without a cookie.
    WithoutCookie,
    /// With the shared session's cookie.
    First,
    /// With the shared session's cookie, after a run that started from a row. If there is no row now, it vanished meanwhile.
    Again,
}

/// The whole state of the model.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) now_ms: i64,
    pub(crate) rows: BTreeMap<Name, Row>,
    pub(crate) visits: Vec<Visit>,
}

/// The event is not possible at this point.
#[derive(Debug)]
pub(crate) struct Impossible;

impl World {
    pub(crate) fn valid(&self, name: Name) -> Option<&Row> {
        let row = self.rows.get(&name)?;
        (row.expires_at_s >= round_to_seconds(self.now_ms)).then_some(row)
    }

    pub(crate) fn add_visit(&mut self, options: &SessionOptions) {
        let empty = self.empty(options);
        self.visits.push(Visit {
            number: self.visits.len(),
            state: SessionState::Unopened,
            had_dead_cookie: false,
            has_unseen: false,
            removes_unseen: false,
            ending: Ending::Alive,
            was_destroyed: false,
            working: empty.clone(),
            before: empty,
            moves_to: None,
            is_regenerated: false,
            is_cookie_changed: false,
            is_saved: false,
            was_modified: false,
            minted: 0,
            fate: Fate::Keep,
        });
    }

    fn empty(&self, options: &SessionOptions) -> Content {
        let max_age_ms = options.cookie.max_age.map(|age| age.as_millis() as i64);
        Content {
            entries: Vec::new(),
            max_age_ms,
            cookie_ends_at_ms: max_age_ms.map(|ms| self.now_ms + ms),
        }
    }

    /// Begins a segment of a request, which sees the session's current state.
    ///
    /// # Errors
    /// Fails when the segment continues with a session that is gone.
    pub(crate) fn begin(
        &mut self,
        of: usize,
        opening: Opening,
        options: &SessionOptions,
    ) -> Result<(), Impossible> {
        let fresh = self.empty(options);
        let shared = self.valid(Name::Shared).cloned();
        let state = self.visits[of].state;
        match state {
            SessionState::Unopened => {
                let row = shared.filter(|_| opening != Opening::WithoutCookie);
                let visit = &mut self.visits[of];
                (visit.state, visit.before) = match row {
                    Some(row) => (SessionState::Loaded(Name::Shared), row.content),
                    None if opening == Opening::Again => (SessionState::Detached, fresh),
                    None => (SessionState::New, fresh),
                };
                visit.had_dead_cookie =
                    opening != Opening::WithoutCookie && visit.state == SessionState::New;
                let has_seen = matches!(visit.state, SessionState::Loaded(_));
                visit.has_unseen = opening != Opening::WithoutCookie && !has_seen;
                visit.working = visit.before.clone();
            }
            SessionState::Loaded(name) => {
                // A session that expired at its own `save` can still be read by the request that knows it, but not written.
                let row = self.rows.get(&name).cloned().ok_or(Impossible)?;
                let visit = &mut self.visits[of];
                visit.before = row.content.clone();
                visit.working = row.content;
            }
            SessionState::New | SessionState::Detached => {}
        }
        Ok(())
    }

    /// Ends a segment and stores its changes.
    ///
    /// # Errors
    /// Fails when the segment changes a session that has expired.
    pub(crate) fn end(
        &mut self,
        of: usize,
        is_save: bool,
        options: &SessionOptions,
    ) -> Result<(), Impossible> {
        let mut visit = self.visits[of].clone();
        if visit.was_destroyed {
            visit.removes_unseen |= std::mem::take(&mut visit.has_unseen);
        }
        let is_modified = visit.working.entries != visit.before.entries;
        let is_asked = is_save || is_modified || visit.is_cookie_changed;
        match (visit.state, visit.ending) {
            (SessionState::New, Ending::Dropped)
                if visit.had_dead_cookie && !visit.is_saved && !is_save =>
            {
                visit.expire_cookie(options);
            }
            (SessionState::Detached, _) | (_, Ending::Dropped) => {}
            (SessionState::Loaded(name), Ending::Destroyed) => {
                self.rows.remove(&name);
                visit.is_saved |= is_save;
                visit.state = SessionState::New;
                visit.working = self.empty(options);
                visit.before = visit.working.clone();
                visit.expire_cookie(options);
            }
            (SessionState::New | SessionState::Unopened, Ending::Destroyed) => {
                if visit.had_dead_cookie && !visit.is_saved {
                    visit.expire_cookie(options);
                }
            }
            (SessionState::New | SessionState::Unopened, Ending::Alive) => {
                if is_asked || visit.is_regenerated || options.save_uninitialized {
                    let name = visit.mint();
                    self.write(&mut visit, name, is_modified, is_save, options);
                    visit.set_cookie(name);
                } else if visit.had_dead_cookie && !visit.is_saved {
                    visit.expire_cookie(options);
                }
            }
            (SessionState::Loaded(name), Ending::Alive) => {
                let is_resaved = options.resave && !visit.is_saved && !is_save;
                let is_written = is_asked || is_resaved || visit.moves_to.is_some();
                if is_written && self.valid(name).is_none() {
                    return Err(Impossible);
                }
                self.end_loaded(&mut visit, name, is_written, is_modified, is_save, options);
            }
        }
        self.visits[of] = visit;
        Ok(())
    }

    /// Keeps the cookie of a logout that could not delete the row that its cookie names. Such a logout is refused.
    pub(crate) fn keeps_cookie(&mut self, of: usize) {
        let visit = &mut self.visits[of];
        if visit.removes_unseen {
            visit.fate = Fate::Keep;
        }
    }

    /// Deletes the row that the cookie of a request names, if the request has ended its session without seeing that row.
    pub(crate) fn remove_unseen(&mut self, of: usize) {
        if std::mem::take(&mut self.visits[of].removes_unseen) {
            self.rows.remove(&Name::Shared);
        }
    }

    fn end_loaded(
        &mut self,
        visit: &mut Visit,
        name: Name,
        is_written: bool,
        is_modified: bool,
        is_save: bool,
        options: &SessionOptions,
    ) {
        if let Some(new_name) = visit.moves_to {
            self.rows.remove(&name);
            self.write(visit, new_name, is_modified, is_save, options);
            visit.set_cookie(new_name);
            return;
        }
        let is_cookie_changed = visit.is_cookie_changed;
        if is_written {
            self.write(visit, name, is_modified, is_save, options);
        } else {
            let ends_at_ms = visit.working.max_age_ms.map(|ms| self.now_ms + ms);
            visit.working.cookie_ends_at_ms = ends_at_ms;
        }
        let is_sent_for_change = visit.working.max_age_ms.is_some() && visit.was_modified;
        let is_pending = matches!(visit.fate, Fate::Set(..));
        if options.rolling || is_sent_for_change || is_cookie_changed || is_pending {
            visit.set_cookie(name);
        }
    }

    fn write(
        &mut self,
        visit: &mut Visit,
        name: Name,
        is_modified: bool,
        is_save: bool,
        options: &SessionOptions,
    ) {
        let idle_ms = options.idle_expiration.as_millis() as i64;
        let max_age_ms = visit.working.max_age_ms;
        visit.working.cookie_ends_at_ms = max_age_ms.map(|ms| self.now_ms + ms);
        let row = Row {
            content: visit.working.clone(),
            expires_at_s: round_to_seconds(self.now_ms + max_age_ms.unwrap_or(idle_ms)),
        };
        self.rows.insert(name, row);
        visit.state = SessionState::Loaded(name);
        visit.before = visit.working.clone();
        visit.is_saved |= is_save;
        visit.was_modified |= is_modified;
        visit.moves_to = None;
        visit.is_regenerated = false;
        visit.is_cookie_changed = false;
    }

    /// Performs one call of a request.
    pub(crate) fn call(&mut self, of: usize, call: &Call, options: &SessionOptions) -> Reply {
        let fresh = self.empty(options);
        let now_ms = self.now_ms;
        self.visits[of].call(call, options, fresh, now_ms)
    }
}

//! Sessions as they would be if requests came one after the other: a second, naive implementation without logs, conflicts
//! or stores, against which the real one is judged.

mod visit;

use std::collections::BTreeMap;

use super::super::Options;
use super::script::Call;
use crate::clock::round_to_seconds;
pub(super) use visit::Reply;

/// A session's name in the model; the real id is somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Name {
    /// The one that all requests came with.
    Shared,
    /// The n-th that a request made.
    Own(usize, usize),
}

/// A session's content.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Content {
    pub(super) entries: Vec<(String, String)>,
    pub(super) max_age_ms: Option<i64>,
    pub(super) cookie_ends_at_ms: Option<i64>,
}

/// A session's row.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Row {
    pub(super) content: Content,
    pub(super) expires_at_s: i64,
}

/// What a visitor's cookie becomes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Fate {
    Keep,
    /// For this session, with this lifetime and end.
    Set(Name, Option<i64>, Option<i64>),
    Expire,
}

/// What a visit stands on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Standing {
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
pub(super) struct Visit {
    number: usize,
    standing: Standing,
    had_dead_cookie: bool,
    /// Whether its cookie names a row that it has not seen: its `destroy` deletes that all the same, after its segment.
    has_unseen: bool,
    removes_unseen: bool,
    ending: Ending,
    /// Whether `destroy` was called, though the guest may have gone on with a new session.
    was_destroyed: bool,
    working: Content,
    before: Content,
    moves_to: Option<Name>,
    is_regenerated: bool,
    is_cookie_changed: bool,
    is_saved: bool,
    was_modified: bool,
    minted: usize,
    pub(super) fate: Fate,
}

/// How a request meets the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opening {
    /// With no cookie.
    WithoutCookie,
    /// With the shared session's cookie.
    First,
    /// With the shared session's cookie, after a run that began on a row: if there is none now, it vanished meanwhile.
    Again,
}

/// Everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) now_ms: i64,
    pub(super) rows: BTreeMap<Name, Row>,
    pub(super) visits: Vec<Visit>,
}

/// This cannot have happened here.
#[derive(Debug)]
pub(super) struct Impossible;

impl World {
    pub(super) fn valid(&self, name: Name) -> Option<&Row> {
        let row = self.rows.get(&name)?;
        (row.expires_at_s >= round_to_seconds(self.now_ms)).then_some(row)
    }

    pub(super) fn add_visit(&mut self, options: &Options) {
        let empty = self.empty(options);
        self.visits.push(Visit {
            number: self.visits.len(),
            standing: Standing::Unopened,
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

    fn empty(&self, options: &Options) -> Content {
        let max_age_ms = options.cookie.max_age.map(|age| age.as_millis() as i64);
        Content {
            entries: Vec::new(),
            max_age_ms,
            cookie_ends_at_ms: max_age_ms.map(|ms| self.now_ms + ms),
        }
    }

    /// A segment of a request begins: it sees the session as it is.
    ///
    /// # Errors
    /// When it goes on with a session that is gone.
    pub(super) fn begin(
        &mut self,
        of: usize,
        opening: Opening,
        options: &Options,
    ) -> Result<(), Impossible> {
        let fresh = self.empty(options);
        let shared = self.valid(Name::Shared).cloned();
        let standing = self.visits[of].standing;
        match standing {
            Standing::Unopened => {
                let row = shared.filter(|_| opening != Opening::WithoutCookie);
                let visit = &mut self.visits[of];
                (visit.standing, visit.before) = match row {
                    Some(row) => (Standing::Loaded(Name::Shared), row.content),
                    None if opening == Opening::Again => (Standing::Detached, fresh),
                    None => (Standing::New, fresh),
                };
                visit.had_dead_cookie =
                    opening != Opening::WithoutCookie && visit.standing == Standing::New;
                let has_seen = matches!(visit.standing, Standing::Loaded(_));
                visit.has_unseen = opening != Opening::WithoutCookie && !has_seen;
                visit.working = visit.before.clone();
            }
            Standing::Loaded(name) => {
                // One that died at its own `save` can be read by the one who knows it, and not be written.
                let row = self.rows.get(&name).cloned().ok_or(Impossible)?;
                let visit = &mut self.visits[of];
                visit.before = row.content.clone();
                visit.working = row.content;
            }
            Standing::New | Standing::Detached => {}
        }
        Ok(())
    }

    /// A segment ends: what is to be stored is stored.
    ///
    /// # Errors
    /// When it changes a session that has expired.
    pub(super) fn end(
        &mut self,
        of: usize,
        is_save: bool,
        options: &Options,
    ) -> Result<(), Impossible> {
        let mut visit = self.visits[of].clone();
        if visit.was_destroyed {
            visit.removes_unseen |= std::mem::take(&mut visit.has_unseen);
        }
        let is_modified = visit.working.entries != visit.before.entries;
        let is_asked = is_save || is_modified || visit.is_cookie_changed;
        match (visit.standing, visit.ending) {
            (Standing::New, Ending::Dropped)
                if visit.had_dead_cookie && !visit.is_saved && !is_save =>
            {
                visit.expire_cookie(options);
            }
            (Standing::Detached, _) | (_, Ending::Dropped) => {}
            (Standing::Loaded(name), Ending::Destroyed) => {
                self.rows.remove(&name);
                visit.is_saved |= is_save;
                visit.standing = Standing::New;
                visit.working = self.empty(options);
                visit.before = visit.working.clone();
                visit.expire_cookie(options);
            }
            (Standing::New | Standing::Unopened, Ending::Destroyed) => {
                if visit.had_dead_cookie && !visit.is_saved {
                    visit.expire_cookie(options);
                }
            }
            (Standing::New | Standing::Unopened, Ending::Alive) => {
                if is_asked || visit.is_regenerated || options.save_uninitialized {
                    let name = visit.mint();
                    self.write(&mut visit, name, is_modified, is_save, options);
                    visit.set_cookie(name);
                } else if visit.had_dead_cookie && !visit.is_saved {
                    visit.expire_cookie(options);
                }
            }
            (Standing::Loaded(name), Ending::Alive) => {
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

    /// A logout that could not delete the row that its cookie names is refused, and the browser keeps that cookie.
    pub(super) fn keeps_cookie(&mut self, of: usize) {
        let visit = &mut self.visits[of];
        if visit.removes_unseen {
            visit.fate = Fate::Keep;
        }
    }

    /// A request that has ended its session deletes the row that its cookie names, if it has seen none.
    pub(super) fn remove_unseen(&mut self, of: usize) {
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
        options: &Options,
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
        options: &Options,
    ) {
        let idle_ms = options.idle_expiration.as_millis() as i64;
        let max_age_ms = visit.working.max_age_ms;
        visit.working.cookie_ends_at_ms = max_age_ms.map(|ms| self.now_ms + ms);
        let row = Row {
            content: visit.working.clone(),
            expires_at_s: round_to_seconds(self.now_ms + max_age_ms.unwrap_or(idle_ms)),
        };
        self.rows.insert(name, row);
        visit.standing = Standing::Loaded(name);
        visit.before = visit.working.clone();
        visit.is_saved |= is_save;
        visit.was_modified |= is_modified;
        visit.moves_to = None;
        visit.is_regenerated = false;
        visit.is_cookie_changed = false;
    }

    /// One call of a request.
    pub(super) fn call(&mut self, of: usize, call: &Call, options: &Options) -> Reply {
        let fresh = self.empty(options);
        let now_ms = self.now_ms;
        self.visits[of].call(call, options, fresh, now_ms)
    }
}

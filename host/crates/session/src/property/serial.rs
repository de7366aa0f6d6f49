//! Searches for a sequential order of concurrent requests that gives the same answers and the same rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::SessionOptions;
use super::model::{Fate, Name, Opening, Reply, Row, World};
use super::script::{Call, Line, Said};
use crate::record::SessionId;

/// An event that happened at one moment between `from` and `to`.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: What,
}

/// The kinds of [`Event`].
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The calls of a request up to a `save`, or up to its end.
    Segment {
        visit: usize,
        lines: Vec<Line>,
        is_save: bool,
        /// Whether the segment may not have happened, because its reply was lost.
        is_doubtful: bool,
    },
    /// A request that ended its session without having seen its row deleted the row by its id.
    RemoveUnseen { visit: usize, is_doubtful: bool },
    /// A blind writer wrote the shared row, regardless of its content.
    Upsert(Row),
    /// Another program deleted the shared row.
    Remove,
    /// Time passed, in milliseconds.
    Passed(i64),
}

/// The change to a request's cookie.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Cookie {
    Keep,
    Set(SessionId, Option<i64>, Option<i64>),
    Expire,
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keep => f.write_str("Keep"),
            Self::Set(_, age, end) => write!(f, "Set({age:?}, {end:?})"),
            Self::Expire => f.write_str("Expire"),
        }
    }
}

/// All known facts about a round.
pub(crate) struct History {
    /// The events of each actor, in their order.
    pub(crate) actors: Vec<Vec<Event>>,
    /// For each request, how it found the session and the change to its cookie.
    pub(crate) visits: Vec<(Opening, Cookie)>,
    pub(crate) shared: SessionId,
    pub(crate) shared_name: String,
    /// The rows at the end; `true` if the row may exist because of a lost reply.
    pub(crate) rows: HashMap<SessionId, (Row, bool)>,
    /// Whether a run on an old snapshot may have been followed by a run that started as if the first had never happened.
    pub(crate) may_begin_anew: bool,
    /// Whether the ends of cookies are compared.
    pub(crate) compares_cookie_ends: bool,
    pub(crate) compares_row_ends: bool,
}

/// A state of the search.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Point {
    placed: Vec<usize>,
    world: World,
    /// The fingerprints of sessions that guests have seen.
    names: BTreeMap<Name, String>,
}

/// Returns whether there is such an order, starting from `world`.
pub(crate) fn is_serial(history: &History, world: World, options: &SessionOptions) -> bool {
    let names = BTreeMap::from([(Name::Shared, history.shared_name.clone())]);
    let start = Point {
        placed: vec![0; history.actors.len()],
        world,
        names,
    };
    let mut search = Search {
        history,
        options,
        seen: HashSet::new(),
    };
    search.from(start)
}

struct Search<'a> {
    history: &'a History,
    options: &'a SessionOptions,
    seen: HashSet<Point>,
}

impl Search<'_> {
    fn from(&mut self, point: Point) -> bool {
        let next: Vec<(usize, &Event)> = self
            .history
            .actors
            .iter()
            .zip(&point.placed)
            .enumerate()
            .filter_map(|(actor, (events, placed))| Some((actor, events.get(*placed)?)))
            .collect();
        if next.is_empty() {
            return self.is_end(&point);
        }
        if !self.seen.insert(point.clone()) {
            return false;
        }
        // An event that ended before another one began comes before it.
        let first_end = next.iter().map(|(_, event)| event.to).min();
        let possible = next
            .iter()
            .filter(|(_, event)| first_end.is_none_or(|end| event.from <= end));
        for (actor, event) in possible {
            for mut after in self.after(&point, &event.what) {
                after.placed[*actor] += 1;
                if self.from(after) {
                    return true;
                }
            }
        }
        false
    }

    /// Returns the states that an event may lead to.
    fn after(&self, point: &Point, what: &What) -> Vec<Point> {
        let mut after = point.clone();
        match what {
            What::Upsert(row) => {
                after.world.rows.insert(Name::Shared, row.clone());
                vec![after]
            }
            What::Remove => {
                after.world.rows.remove(&Name::Shared);
                vec![after]
            }
            What::RemoveUnseen { visit, is_doubtful } => {
                let mut points = Vec::new();
                if *is_doubtful {
                    // The deletion was not tried, because the outcome for the session's own row is unknown.
                    points.push(after.clone());
                    after.world.keeps_cookie(*visit);
                    points.push(after.clone());
                }
                after.world.remove_unseen(*visit);
                points.push(after);
                points
            }
            What::Passed(ms) => {
                after.world.now_ms += ms;
                vec![after]
            }
            What::Segment {
                visit,
                lines,
                is_save,
                is_doubtful,
            } => {
                let opening = self.history.visits[*visit].0;
                let mut points = Vec::new();
                points.extend(self.run(&after, *visit, opening, lines, *is_save, *is_doubtful));
                // A blind deletion does not notice that there is no row.
                let is_open = self.history.may_begin_anew || is_blind_end(lines);
                if opening == Opening::Again && is_open {
                    let first = Opening::First;
                    points.extend(self.run(&after, *visit, first, lines, *is_save, *is_doubtful));
                }
                // A guest that made no call on a snapshot is not run again when its session turns out to be gone.
                if self.history.may_begin_anew && opening == Opening::First && lines.is_empty() {
                    let again = Opening::Again;
                    points.extend(self.run(&after, *visit, again, lines, *is_save, *is_doubtful));
                }
                if *is_doubtful {
                    points.push(after);
                }
                points
            }
        }
    }

    fn run(
        &self,
        point: &Point,
        visit: usize,
        opening: Opening,
        lines: &[Line],
        is_save: bool,
        is_doubtful: bool,
    ) -> Option<Point> {
        let mut point = point.clone();
        let fate = point.world.visits[visit].fate.clone();
        let begun = point.world.begin(visit, opening, self.options);
        if begun.is_err() && !is_blind_end(lines) {
            return None;
        }
        for line in lines {
            let reply = point.world.call(visit, &line.call, self.options);
            if !reply.is_like(&line.said, self.history.compares_cookie_ends) {
                return None;
            }
            if let (Reply::Named(Some(name)), Said::Name(Some(real))) = (reply, &line.said) {
                let known = point.names.entry(name).or_insert_with(|| real.clone());
                if known != real {
                    return None;
                }
            }
        }
        point.world.end(visit, is_save, self.options).ok()?;
        if is_doubtful {
            // The request did not learn the result.
            point.world.visits[visit].fate = fate;
        }
        Some(point)
    }

    /// Returns whether the cookies and rows match the observed ones.
    fn is_end(&self, point: &Point) -> bool {
        let mut left = self.history.rows.clone();
        let mut ids: BTreeMap<Name, SessionId> = BTreeMap::new();
        ids.insert(Name::Shared, self.history.shared.clone());
        for (visit, (_, cookie)) in point.world.visits.iter().zip(&self.history.visits) {
            match (&visit.fate, cookie) {
                (Fate::Keep, Cookie::Keep) | (Fate::Expire, Cookie::Expire) => {}
                (Fate::Set(name, age, end), Cookie::Set(id, real_age, real_end)) => {
                    let ends_differ = self.history.compares_cookie_ends && end != real_end;
                    if age != real_age || ends_differ || ids.get(name).is_some_and(|i| i != id) {
                        return false;
                    }
                    if *name != Name::Shared && *id == self.history.shared {
                        return false;
                    }
                    ids.insert(*name, id.clone());
                }
                _ => return false,
            }
        }
        let mut unnamed = Vec::new();
        for name in point.world.rows.keys() {
            let Some(row) = point.world.valid(*name) else {
                continue;
            };
            match ids.get(name) {
                Some(id) => match left.remove(id) {
                    Some((real, _)) if self.is_same(row, &real) => {}
                    _ => return false,
                },
                None => unnamed.push(row),
            }
        }
        for row in unnamed {
            let found = left.iter().find(|(_, (real, _))| self.is_same(row, real));
            let Some(id) = found.map(|(id, _)| id.clone()) else {
                return false;
            };
            left.remove(&id);
        }
        left.values().all(|(_, is_lost)| *is_lost)
    }

    fn is_same(&self, model: &Row, real: &Row) -> bool {
        let content = &model.content;
        let ends_are_same = content.cookie_ends_at_ms == real.content.cookie_ends_at_ms;
        content.entries == real.content.entries
            && content.max_age_ms == real.content.max_age_ms
            && (ends_are_same || !self.history.compares_row_ends)
            && (model.expires_at_s == real.expires_at_s || !self.history.compares_row_ends)
    }
}

/// Returns whether these calls end the session without having revealed any of its content: their results depend only on the
/// guest's own calls.
fn is_blind_end(lines: &[Line]) -> bool {
    let mut decided: HashSet<&str> = HashSet::new();
    let (mut decides_all, mut is_regenerated, mut is_ended) = (false, false, false);
    for line in lines {
        match &line.call {
            Call::Destroy | Call::Unset => (decides_all, is_ended) = (true, true),
            Call::Regenerate => {
                (decides_all, is_regenerated, is_ended) = (true, true, false);
            }
            Call::Reload if line.said == Said::Done => {
                (decides_all, is_regenerated, is_ended) = (false, false, false);
                decided.clear();
            }
            Call::Cookie if is_regenerated => {}
            Call::Cookie => return false,
            _ if is_ended => {}
            Call::Delete(key) => {
                decided.insert(key);
            }
            Call::Clear => decides_all = true,
            Call::Touch | Call::Renew => {}
            Call::Get(key) if decides_all || decided.contains(key) => {}
            Call::ListKeys if decides_all => {}
            _ => return false,
        }
    }
    is_ended
}

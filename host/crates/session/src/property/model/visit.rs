//! One request in the model: the effect and the result of each of its calls.

use super::super::super::{SessionOptions, UnsetPolicy};
use super::super::script::{Call, Said};
use super::{Content, Ending, Fate, Name, SessionState, Visit};

/// The result of a call in the model. Ids are replaced by their names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Said(SaidKind),
    Named(Option<Name>),
}

/// The comparable part of [`Said`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SaidKind {
    Done,
    Text(Option<String>),
    Keys(Vec<String>),
    Sum(i64),
    Cookie(Option<i64>, Option<i64>),
    Invalid,
}

impl Reply {
    /// Returns whether a real guest received the same result. The caller compares the names.
    pub(crate) fn is_like(&self, said: &Said, compares_ends: bool) -> bool {
        match (self, said) {
            (Self::Named(name), Said::Name(real)) => name.is_some() == real.is_some(),
            (Self::Said(SaidKind::Done), Said::Done) => true,
            (Self::Said(SaidKind::Text(model)), Said::Text(real)) => model == real,
            (Self::Said(SaidKind::Keys(model)), Said::Keys(real)) => model == real,
            (Self::Said(SaidKind::Sum(model)), Said::Sum(real)) => model == real,
            (Self::Said(SaidKind::Cookie(age, end)), Said::Cookie(real_age, real_end)) => {
                age == real_age && (!compares_ends || end == real_end)
            }
            (Self::Said(SaidKind::Invalid), Said::Invalid) => true,
            _ => false,
        }
    }
}

impl Visit {
    pub(crate) fn mint(&mut self) -> Name {
        self.minted += 1;
        Name::Own(self.number, self.minted)
    }

    pub(crate) fn set_cookie(&mut self, name: Name) {
        self.fate = Fate::Set(
            name,
            self.working.max_age_ms,
            self.working.cookie_ends_at_ms,
        );
    }

    pub(crate) fn expire_cookie(&mut self, options: &SessionOptions) {
        self.fate = if options.expire_on_destroy {
            Fate::Expire
        } else {
            Fate::Keep
        };
    }

    fn value(&self, key: &str) -> Option<&String> {
        let entry = self.working.entries.iter().find(|(name, _)| name == key);
        entry.map(|(_, value)| value)
    }

    fn put(&mut self, key: &str, value: String) {
        match self
            .working
            .entries
            .iter_mut()
            .find(|(name, _)| name == key)
        {
            Some((_, old)) => *old = value,
            None => self.working.entries.push((key.to_owned(), value)),
        }
    }

    pub(crate) fn call(
        &mut self,
        call: &Call,
        options: &SessionOptions,
        fresh: Content,
        now_ms: i64,
    ) -> Reply {
        let is_alive = self.ending == Ending::Alive;
        let said = match call {
            Call::Get(key) => SaidKind::Text(self.value(key).filter(|_| is_alive).cloned()),
            Call::ListKeys if is_alive => {
                let names = self.working.entries.iter().map(|(name, _)| name.clone());
                SaidKind::Keys(names.collect())
            }
            Call::ListKeys => SaidKind::Keys(Vec::new()),
            Call::Cookie => {
                let content = &self.working;
                SaidKind::Cookie(content.max_age_ms, content.cookie_ends_at_ms)
            }
            Call::Fingerprint => {
                return Reply::Named(match self.state {
                    SessionState::Loaded(name) if is_alive => Some(self.moves_to.unwrap_or(name)),
                    _ => None,
                });
            }
            Call::Destroy => {
                self.destroy();
                SaidKind::Done
            }
            Call::Unset => {
                match (options.unset, self.ending) {
                    (UnsetPolicy::Destroy, _) => self.destroy(),
                    (UnsetPolicy::Keep, Ending::Alive) => self.ending = Ending::Dropped,
                    (UnsetPolicy::Keep, _) => {}
                }
                SaidKind::Done
            }
            Call::Regenerate => {
                self.regenerate(fresh);
                SaidKind::Done
            }
            Call::Save | Call::Effect | Call::Trap | Call::Bump(_) => SaidKind::Done,
            Call::Reload if self.ending == Ending::Destroyed => SaidKind::Invalid,
            Call::Reload => {
                self.reload(fresh);
                SaidKind::Done
            }
            _ if !is_alive => SaidKind::Invalid,
            call => self.write_call(call, options, now_ms),
        };
        Reply::Said(said)
    }

    fn destroy(&mut self) {
        self.ending = Ending::Destroyed;
        self.was_destroyed = true;
    }

    fn regenerate(&mut self, fresh: Content) {
        self.ending = Ending::Alive;
        self.working = fresh;
        self.is_regenerated = true;
        self.is_cookie_changed = false;
        if matches!(self.state, SessionState::Loaded(_)) {
            self.moves_to = Some(self.mint());
        }
    }

    fn reload(&mut self, fresh: Content) {
        self.ending = Ending::Alive;
        self.was_destroyed = false;
        self.moves_to = None;
        self.is_regenerated = false;
        self.is_cookie_changed = false;
        self.working = match self.state {
            SessionState::Loaded(_) => self.before.clone(),
            _ => fresh,
        };
    }

    fn write_call(&mut self, call: &Call, options: &SessionOptions, now_ms: i64) -> SaidKind {
        match call {
            Call::Set(key, value) => {
                if self.value(key).is_none() && self.working.entries.len() >= options.keys_max {
                    return SaidKind::Invalid;
                }
                self.put(key, value.clone());
                SaidKind::Done
            }
            Call::Delete(key) => {
                self.working.entries.retain(|(name, _)| name != key);
                SaidKind::Done
            }
            Call::Add(key, delta) | Call::Increment(key, delta) => {
                let is_new = self.value(key).is_none();
                let term = self.value(key).map_or(Some(0), |text| text.parse().ok());
                let sum = term.and_then(|term: i64| term.checked_add(*delta));
                let Some(sum) = sum else {
                    return SaidKind::Invalid;
                };
                if is_new && self.working.entries.len() >= options.keys_max {
                    return SaidKind::Invalid;
                }
                self.put(key, sum.to_string());
                match call {
                    Call::Increment(..) => SaidKind::Sum(sum),
                    _ => SaidKind::Done,
                }
            }
            Call::Clear => {
                self.working.entries.clear();
                SaidKind::Done
            }
            Call::Renew => {
                if matches!(self.state, SessionState::Loaded(_)) {
                    self.moves_to = Some(self.mint());
                }
                SaidKind::Done
            }
            Call::SetMaxAge(max_age_ms) => {
                self.working.max_age_ms = *max_age_ms;
                self.working.cookie_ends_at_ms = max_age_ms.map(|ms| now_ms + ms);
                self.is_cookie_changed = true;
                SaidKind::Done
            }
            _ => {
                let age = self.working.max_age_ms;
                self.working.cookie_ends_at_ms = age.map(|ms| now_ms + ms);
                SaidKind::Done
            }
        }
    }
}

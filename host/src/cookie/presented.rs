//! Takes our cookie out of a request's headers and decides which session it stands for. Knows no stores: a valid id may
//! still have no row.

use std::fmt;

use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::key_ring::KeyRing;
use super::pair::{pairs, split, trim};
use crate::record::SessionId;

/// Different values of our cookie that are worth verifying. Honest browsers send one per path and domain it was ever set
/// for; a request with more is a cookie bomb and costs no cryptography at all.
const VALUES_MAX: usize = 16;

/// What a request presented under our cookie's name. A credential: `Debug` shows numbers alone.
#[derive(Clone, Default, Hash)]
pub struct Presented {
    /// Each once, as found; not yet UTF-8.
    values: Vec<Box<[u8]>>,
    is_overfull: bool,
}

/// Which session a request's cookies stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// No cookie of our name.
    Absent,
    /// Cookies of our name, none of them signed by us.
    Invalid,
    /// All that are valid name this session.
    Valid(SessionId),
    /// The valid ones name these sessions, each once: two at least, 16 at most. Only the store can tell which of them exist.
    /// Empty where the values are more than are verified: no session can be told from them, nor that there is none.
    Several(Vec<SessionId>),
}

/// Removes every pair named `name` (byte for byte) from all `Cookie` headers. Other pairs stay byte for byte, as do
/// headers without one of ours; a header that becomes empty goes.
pub fn take_from(headers: &mut HeaderMap, name: &str) -> Presented {
    let mut presented = Presented::default();
    let found = |header: &HeaderValue| pairs(header).any(|(own, _)| own == name.as_bytes());
    if !headers.get_all(COOKIE).iter().any(found) {
        return presented;
    }
    let kept: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| presented.take_from_one(header, name))
        .collect();
    headers.remove(COOKIE);
    for header in kept {
        headers.append(COOKIE, header);
    }
    presented
}

impl Presented {
    /// Whether the request had no cookie of our name.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Verifies what was presented: at most 16 values times the number of secrets.
    pub fn resolve(&self, keys: &KeyRing) -> Resolution {
        if self.is_empty() {
            return Resolution::Absent;
        }
        if self.is_overfull {
            return Resolution::Several(Vec::new());
        }
        let texts = self.values.iter().map(|v| std::str::from_utf8(v));
        let mut valid = texts.flatten().filter_map(|text| keys.verify(text));
        let Some(first) = valid.next() else {
            return Resolution::Invalid;
        };
        // Without another id this allocates nothing.
        let mut others: Vec<SessionId> = Vec::new();
        for id in valid.filter(|id| *id != first) {
            if !others.contains(&id) {
                others.push(id);
            }
        }
        if others.is_empty() {
            return Resolution::Valid(first);
        }
        others.insert(0, first);
        Resolution::Several(others)
    }

    /// What is left of one header without our pairs, if anything.
    fn take_from_one(&mut self, header: &HeaderValue, name: &str) -> Option<HeaderValue> {
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut taken = false;
        for pair in header.as_bytes().split(|b| *b == b';') {
            match value_of(pair, name) {
                Some(value) => {
                    self.keep_value(value);
                    taken = true;
                }
                None => kept.push(pair),
            }
        }
        if !taken {
            return Some(header.clone());
        }
        if kept.iter().all(|pair| trim(pair).is_empty()) {
            return None;
        }
        let rest = kept.join(&b';');
        let start = rest.iter().position(|b| !matches!(b, b' ' | b'\t'));
        let mut rest = HeaderValue::from_bytes(&rest[start.unwrap_or(0)..])
            .expect("parts of a header value are one again");
        rest.set_sensitive(header.is_sensitive());
        Some(rest)
    }

    fn keep_value(&mut self, value: &[u8]) {
        if self.values.iter().any(|known| **known == *value) {
            return;
        }
        if self.values.len() == VALUES_MAX {
            self.is_overfull = true;
        } else {
            self.values.push(value.into());
        }
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("values", &self.values.len())
            .field("is_overfull", &self.is_overfull)
            .finish()
    }
}

/// The value of a pair, if it is named `name`; a pair without `=` has no name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    split(pair).and_then(|(own, value)| (own == name.as_bytes()).then_some(value))
}

#[cfg(test)]
mod tests;

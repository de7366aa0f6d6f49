//! Removal of the session's cookie from a request's headers, and the session ID that it identifies. This module does not access
//! stores, so a valid ID may have no row.

use std::fmt;

use http::header::{COOKIE, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::key_ring::KeyRing;
use super::pair::{pairs, split, trim};
use crate::record::SessionId;

/// Most different values of the session's cookie that are verified. A normal browser sends one per path and domain that the
/// cookie was ever set for. A request with more is a cookie bomb, and none of its values is verified.
const VALUES_MAX: usize = 16;

/// The values of the session's cookie in a request. They are credentials: `Debug` shows only numbers.
#[derive(Clone, Default)]
pub struct PresentedCookies {
    /// Each value once, as found. They may not be UTF-8.
    values: Vec<Box<[u8]>>,
    is_overfull: bool,
}

/// The session that a request's cookies identify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieResolution {
    /// There is no session cookie.
    Absent,
    /// There are session cookies, but none has a valid signature.
    Invalid,
    /// All valid cookies identify this session.
    Valid(SessionId),
    /// The valid cookies identify these sessions, each listed once: at least 2 and at most 16. Only the store knows which of
    /// them exist. The list is empty if there are more values than are verified. Then neither a session nor its absence can be
    /// determined.
    Several(Vec<SessionId>),
}

/// Removes every pair named `name` (byte for byte) from all `Cookie` headers. Other pairs stay byte for byte, and so do headers
/// without such a pair. A header that becomes empty is removed.
pub fn take_from(headers: &mut HeaderMap, name: &str) -> PresentedCookies {
    let mut presented = PresentedCookies::default();
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

impl PresentedCookies {
    /// Returns whether the request had no session cookie.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns a hash of the values. It is the same on every host and in every version of Cloakroom.
    pub fn fixed_hash(&self) -> u64 {
        let mut hasher = Sha256::new();
        for value in &self.values {
            // With its length, no two lists of values are the same bytes.
            hasher.update((value.len() as u64).to_be_bytes());
            hasher.update(value);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Verifies the values, which takes at most 16 times the number of secrets.
    pub fn resolve(&self, keys: &KeyRing) -> CookieResolution {
        if self.is_empty() {
            return CookieResolution::Absent;
        }
        if self.is_overfull {
            return CookieResolution::Several(Vec::new());
        }
        let texts = self.values.iter().map(|v| std::str::from_utf8(v));
        let mut valid = texts.flatten().filter_map(|text| keys.verify(text));
        let Some(first) = valid.next() else {
            return CookieResolution::Invalid;
        };
        // Without another ID, this allocates nothing.
        let mut others: Vec<SessionId> = Vec::new();
        for id in valid.filter(|id| *id != first) {
            if !others.contains(&id) {
                others.push(id);
            }
        }
        if others.is_empty() {
            return CookieResolution::Valid(first);
        }
        others.insert(0, first);
        CookieResolution::Several(others)
    }

    /// Returns the rest of one header without the session's pairs, if anything is left.
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

impl fmt::Debug for PresentedCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedCookies")
            .field("values", &self.values.len())
            .field("is_overfull", &self.is_overfull)
            .finish()
    }
}

/// Returns the value of a pair if it is named `name`. A pair without `=` has no name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    split(pair).and_then(|(own, value)| (own == name.as_bytes()).then_some(value))
}

#[cfg(test)]
mod tests;

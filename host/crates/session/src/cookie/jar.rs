//! An application's own cookies, in addition to the session's. They are read like cookie-parser 1.4 reads them and written like
//! `res.cookie` of Express 4 writes them, byte for byte. This module does not depend on guests, nor on requests except for
//! their `Cookie` headers.
//!
//! A value signed with the session's secrets could be used as a session's cookie. So the jar neither signs nor accepts a text
//! with the form of a session ID, unless it has its own secrets.
//!
//! The jar reads the headers that the request validation has left, and only if the guest asks. A request for a guest that does
//! not import the interface has no jar. One secret in common with the session's is enough for the rule about session ids.
//! Decision 17 in `host/docs/decisions` has the reasons.

mod write;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::key_ring::{KeyRing, SIGNED};
use super::pair::pairs;
use super::value::{decode, text_of, unquote};
use crate::record::{SessionId, check_value, is_truthy};
use cloakroom_base::clock::Clock;

pub use write::CookieWriteError;

/// Prefix of a JSON value.
const JSON: &str = "j:";
/// Most signed values of one request that are verified. Browsers keep 180 cookies for a site. A request with more than that is
/// a cookie bomb, and its further values count as forged.
const SIGNED_VALUES_MAX: usize = 200;
/// The name that no JavaScript object can have a cookie under. cookie-parser loses such a cookie, so the jar does the same.
const NEVER_SEEN: &str = "__proto__";

/// Reads and writes the cookies of this host's applications. One per host.
pub struct CookieJar {
    session_cookie: String,
    keys: ArcSwap<CookieJarKeys>,
    clock: Clock,
}

/// The keys with which a jar signs and verifies.
#[derive(Debug)]
pub struct CookieJarKeys {
    ring: Arc<KeyRing>,
    /// Whether a value signed with these keys could be accepted as a session's cookie, or the reverse.
    reaches_sessions: bool,
    ids: IdComparison,
}

/// How the store compares session IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdComparison {
    /// Byte for byte, except for trailing spaces.
    Exact,
    /// By a collation. Texts that differ in case, accents, width or weightless characters may be equal.
    Loose,
}

impl CookieJarKeys {
    /// Creates keys from `ring`. `sessions` signs the host's session cookies, and may be the same ring. `ids` says how the
    /// store compares session IDs.
    pub fn new(ring: Arc<KeyRing>, sessions: &KeyRing, ids: IdComparison) -> Self {
        Self {
            reaches_sessions: ring.shares_a_secret_with(sessions),
            ring,
            ids,
        }
    }

    /// Returns whether an Express app on the same table might find this text, signed with these keys, as a session ID, although
    /// it does not have the form of one. Under a collation, printable ASCII characters are distinct except for their case. Any
    /// other character may count as one character of an ID, as several, or as none.
    fn might_equal_an_id(&self, text: &str) -> bool {
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
        self.reaches_sessions && self.ids == IdComparison::Loose && !text.bytes().all(is_plain)
    }

    /// Returns whether a text signed with these keys might be a session ID. Trailing spaces are ignored: MySQL collations that
    /// pad ignore them as well, so an Express app on the same table would find the session's row.
    fn is_like_a_session(&self, text: &str) -> bool {
        self.reaches_sessions && SessionId::could_be(text.trim_end_matches(' '))
    }
}

/// A cookie of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCookie {
    /// Its name, as sent.
    pub name: String,
    /// Its value, or `None` if it claims to be signed but the signature is not valid.
    pub value: Option<CookieValue>,
    /// Whether it claims to be signed.
    pub is_signed: bool,
}

/// The value of a cookie. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub enum CookieValue {
    /// A text.
    Text(String),
    /// A JSON text. When read, it is truthy in JavaScript.
    Json(String),
}

impl fmt::Debug for CookieValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Json(_) => "Json(..)",
        })
    }
}

/// Omits the keys.
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").finish_non_exhaustive()
    }
}

impl CookieJar {
    /// Creates a jar on a host whose session cookie has the name `session_cookie`.
    pub fn new(session_cookie: &str, keys: CookieJarKeys, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            session_cookie: session_cookie.to_owned(),
            keys: ArcSwap::from_pointee(keys),
            clock,
        })
    }

    /// Replaces the keys. All later calls sign and verify with the new ones.
    pub fn replace_keys(&self, keys: CookieJarKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Returns the cookies in these `Cookie` headers, in order. If a name is repeated, the first one counts. The session's own
    /// cookie must have been removed before ([`take_from`](super::take_from)).
    pub fn read<'h>(
        &self,
        headers: impl IntoIterator<Item = &'h HeaderValue>,
    ) -> Vec<RequestCookie> {
        let keys = self.keys.load();
        let mut names = HashSet::new();
        let mut signed_values = 0;
        let mut cookies = Vec::new();
        for (name, value) in headers.into_iter().flat_map(pairs) {
            if name == NEVER_SEEN.as_bytes() || !names.insert(name) {
                continue;
            }
            let text = text_of(value);
            let text = decode(unquote(&text));
            let is_signed = text.starts_with(SIGNED);
            signed_values += usize::from(is_signed);
            let vouched = match is_signed {
                false => Some(text.as_ref()),
                true if signed_values > SIGNED_VALUES_MAX => None,
                true => keys.verify(&text),
            };
            cookies.push(RequestCookie {
                name: text_of(name).into_owned(),
                value: vouched.map(CookieValue::of_text),
                is_signed,
            });
        }
        cookies
    }
}

impl CookieJarKeys {
    fn verify<'a>(&self, signed: &'a str) -> Option<&'a str> {
        let text = self.ring.verify_text(signed)?;
        (!self.is_like_a_session(text)).then_some(text)
    }
}

impl CookieValue {
    /// Returns JSON in the cases where cookie-parser does: after `j:`, if the whole rest is JSON and truthy in JavaScript.
    fn of_text(text: &str) -> Self {
        let json = text
            .strip_prefix(JSON)
            .and_then(|rest| check_value(rest).ok());
        match json.filter(|json| is_truthy(json)) {
            Some(json) => Self::Json(json.to_owned()),
            None => Self::Text(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;

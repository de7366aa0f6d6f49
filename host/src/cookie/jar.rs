//! Cookies of an application's own, beside the session's: read as cookie-parser 1.4 reads them, written as Express 4's
//! `res.cookie` writes them, to the byte. Knows no guests and no requests but their `Cookie` headers.
//!
//! What is signed with the session's secrets could be a session's cookie, so the jar neither signs nor believes a text that
//! has the shape of a session's id, unless it has secrets of its own.

mod write;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::key_ring::{KeyRing, SIGNED};
use super::pair::pairs;
use super::value::{decode, text_of, unquote};
use crate::clock::Clock;
use crate::record::{SessionId, check_value, is_truthy};

pub use write::WriteError;

/// How a JSON value begins.
const JSON: &str = "j:";
/// Signed values of one request that are worth verifying. Browsers keep 180 cookies for a site; a request with more is a
/// cookie bomb, and what comes later in it counts as forged.
const SIGNED_VALUES_MAX: usize = 200;
/// The name that no JavaScript object can have a cookie under: cookie-parser loses it, and so do we.
const NEVER_SEEN: &str = "__proto__";

/// Reads and writes cookies of this host's applications. One per host.
pub struct Jar {
    session_cookie: String,
    keys: ArcSwap<JarKeys>,
    clock: Clock,
}

/// What a jar signs with and verifies by.
#[derive(Debug)]
pub struct JarKeys {
    ring: Arc<KeyRing>,
    /// Whether it could make what the session's ring takes for a session's cookie, or believe one.
    reaches_sessions: bool,
    ids: IdComparison,
}

/// How the store compares session ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdComparison {
    /// Byte for byte, but for spaces at the end.
    Exact,
    /// By a collation: texts that differ in case, in accents, in width or in characters without weight may be equal.
    Loose,
}

impl JarKeys {
    /// Keys of these secrets, on a host whose sessions are signed with those of `sessions` (the two may be the same) and whose
    /// store compares their ids like this.
    pub fn new(ring: Arc<KeyRing>, sessions: &KeyRing, ids: IdComparison) -> Self {
        Self {
            reaches_sessions: ring.shares_a_secret_with(sessions),
            ring,
            ids,
        }
    }

    /// Whether a text, signed with these keys, might be found as a session's id by an Express app on the same table, although
    /// it has not the shape of one. A collation leaves printable ASCII characters distinct but for their case; of all others
    /// any may count as one of an id's characters, as several of them, or as nothing.
    fn might_equal_an_id(&self, text: &str) -> bool {
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte);
        self.reaches_sessions && self.ids == IdComparison::Loose && !text.bytes().all(is_plain)
    }

    /// Whether a text under these keys might be a session's id. Spaces behind it do not save it: MySQL's collations that pad
    /// compare without them, so an Express app on the same table finds the session's row.
    fn is_like_a_session(&self, text: &str) -> bool {
        self.reaches_sessions && SessionId::could_be(text.trim_end_matches(' '))
    }
}

/// A cookie that came with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Its name, as sent.
    pub name: String,
    /// What it holds; `None` if it claims to be signed and is not.
    pub value: Option<Value>,
    /// Whether it claims to be signed.
    pub is_signed: bool,
}

/// What a cookie holds. `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A JSON text; when read, one that is true for JavaScript.
    Json(String),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Json(_) => "Json(..)",
        })
    }
}

/// Shows no keys.
impl fmt::Debug for Jar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jar").finish_non_exhaustive()
    }
}

impl Jar {
    /// A jar on a host whose session cookie has the name `session_cookie`.
    pub fn new(session_cookie: &str, keys: JarKeys, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            session_cookie: session_cookie.to_owned(),
            keys: ArcSwap::from_pointee(keys),
            clock,
        })
    }

    /// Signs and verifies with other secrets from now on.
    pub fn replace_keys(&self, keys: JarKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// The cookies in these `Cookie` headers, in their order; of several with one name the first. The session's own has been
    /// taken out before ([`take_from`](super::take_from)).
    pub fn read<'h>(&self, headers: impl IntoIterator<Item = &'h HeaderValue>) -> Vec<Cookie> {
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
            cookies.push(Cookie {
                name: text_of(name).into_owned(),
                value: vouched.map(Value::of_text),
                is_signed,
            });
        }
        cookies
    }
}

impl JarKeys {
    fn verify<'a>(&self, signed: &'a str) -> Option<&'a str> {
        let text = self.ring.verify_text(signed)?;
        (!self.is_like_a_session(text)).then_some(text)
    }
}

impl Value {
    /// JSON where cookie-parser finds some: behind `j:`, whole, and true for JavaScript.
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

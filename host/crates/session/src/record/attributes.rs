//! The `cookie` object in a session's row: the attributes that the session's cookie is sent with, and their text as Express
//! writes it. This module does not depend on signatures or headers.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::json::{self, NotAnObject};
use super::timestamp;

/// The attributes of one session's cookie. They belong to the session, not to the configuration: a loaded session keeps the
/// attributes it was created with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CookieAttributes {
    /// The lifetime that every touch restarts, in milliseconds. With `None`, the cookie ends with the browser session.
    pub original_max_age_ms: Option<i64>,
    /// When the cookie ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// The `Path` attribute. Empty if the row says that there is none.
    pub path: String,
    /// The `Domain` attribute.
    pub domain: Option<String>,
    /// Whether the cookie is hidden from scripts.
    pub http_only: bool,
    /// Whether the cookie is sent only over TLS.
    pub secure: bool,
    /// The `SameSite` attribute.
    pub same_site: Option<SameSite>,
    /// Whether the cookie is stored separately per top-level site.
    pub partitioned: bool,
    /// The `Priority` attribute.
    pub priority: Option<Priority>,
}

/// The meaning that a cookie object without members has in Express.
impl Default for CookieAttributes {
    fn default() -> Self {
        Self {
            original_max_age_ms: None,
            expires_at_ms: None,
            path: "/".to_owned(),
            domain: None,
            http_only: true,
            secure: false,
            same_site: None,
            partitioned: false,
            priority: None,
        }
    }
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SameSite {
    /// Sent only with same-site requests.
    Strict,
    /// Also sent with top-level navigations from other sites.
    Lax,
    /// Sent with all requests.
    None,
}

impl SameSite {
    /// Returns the value's spelling in a row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lax => "lax",
            Self::None => "none",
        }
    }

    /// Parses the value, ignoring case.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Strict, Self::Lax, Self::None]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(word))
    }
}

/// The `Priority` attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Priority {
    /// Evicted first.
    Low,
    /// The browser's default.
    Medium,
    /// Evicted last.
    High,
}

impl Priority {
    /// Returns the value's spelling in a row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Parses the value, ignoring case.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(word))
    }
}

/// The `cookie` object of a row: its attributes, and the text they were read from, so that unknown members keep their bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCookieObject {
    /// One JSON object in UTF-8.
    text: Bytes,
    attributes: CookieAttributes,
}

impl StoredCookieObject {
    /// Creates a cookie object with the members and the order of Express. Members without a value are left out.
    pub fn new(attributes: &CookieAttributes) -> Self {
        Self {
            text: Bytes::from(write(attributes)),
            attributes: attributes.clone(),
        }
    }

    /// Parses the object as tolerantly as Express: invalid members count as absent. Returns `None` if it is not an object.
    pub(crate) fn parse(text: Bytes) -> Option<Self> {
        let attributes = read(std::str::from_utf8(&text).ok()?).ok()?;
        Some(Self { text, attributes })
    }

    /// Returns the object's attributes.
    pub fn attributes(&self) -> &CookieAttributes {
        &self.attributes
    }

    /// Returns the object as JSON. If nothing was set, it is byte for byte the parsed text.
    pub fn as_json(&self) -> &str {
        std::str::from_utf8(&self.text).expect("a cookie's text is UTF-8 from the start")
    }

    /// Sets the lifetime (milliseconds) and the end (milliseconds since the epoch). Only these two members change, and each
    /// only if its meaning changes: an absent, `false` or odd member with the same meaning stays as written.
    pub fn set_expiry(&mut self, original_max_age_ms: Option<i64>, expires_at_ms: Option<i64>) {
        if self.attributes.original_max_age_ms != original_max_age_ms {
            self.attributes.original_max_age_ms = original_max_age_ms;
            self.replace("originalMaxAge", &write_age(original_max_age_ms));
        }
        if self.attributes.expires_at_ms != expires_at_ms {
            self.attributes.expires_at_ms = expires_at_ms;
            self.replace("expires", &write_time(expires_at_ms));
        }
    }

    /// Replaces the value of the member `key` in its place, or adds the member at the end.
    fn replace(&mut self, key: &str, value: &str) {
        let text = self.as_json();
        let (place, value) = match value_range(text, key) {
            Some(range) => (range, value.to_owned()),
            None => addition(text, key, value),
        };
        let mut replaced = String::with_capacity(text.len() + value.len());
        replaced.push_str(&text[..place.start]);
        replaced.push_str(&value);
        replaced.push_str(&text[place.end..]);
        self.text = Bytes::from(replaced);
    }
}

impl fmt::Debug for StoredCookieObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCookieObject")
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

fn read(text: &str) -> Result<CookieAttributes, NotAnObject> {
    let mut attributes = CookieAttributes::default();
    for member in json::object_members(text)? {
        let Some(key) = json::decode_string(member.key) else {
            continue;
        };
        let value = member.value;
        let word = || json::decode_string(value);
        match &*key {
            "originalMaxAge" => attributes.original_max_age_ms = whole_milliseconds(value),
            "expires" => attributes.expires_at_ms = read_time(value),
            "path" => attributes.path = word().unwrap_or_default().into_owned(),
            "domain" => {
                attributes.domain = word().filter(|d| !d.is_empty()).map(|d| d.into_owned());
            }
            "httpOnly" => attributes.http_only = json::is_truthy(value),
            "secure" => attributes.secure = json::is_truthy(value),
            "sameSite" if value == "true" => attributes.same_site = Some(SameSite::Strict),
            "sameSite" => attributes.same_site = word().and_then(|w| SameSite::from_word(&w)),
            "partitioned" => attributes.partitioned = json::is_truthy(value),
            "priority" => attributes.priority = word().and_then(|w| Priority::from_word(&w)),
            _ => {}
        }
    }
    Ok(attributes)
}

/// Express writes an ISO string. Its MySQL store also accepts a number of milliseconds.
fn read_time(value: &str) -> Option<i64> {
    match json::decode_string(value) {
        Some(text) => timestamp::parse(&text),
        None => whole_milliseconds(value),
    }
}

/// Parses a number of milliseconds and truncates its fraction. Returns `None` if it is not a number, or beyond every date.
fn whole_milliseconds(value: &str) -> Option<i64> {
    let ms: f64 = value.parse().ok()?;
    (ms.abs() <= timestamp::LAST_MS as f64).then_some(ms as i64)
}

fn write(attributes: &CookieAttributes) -> String {
    let mut members = vec![("originalMaxAge", write_age(attributes.original_max_age_ms))];
    if attributes.partitioned {
        members.push(("partitioned", "true".to_owned()));
    }
    if let Some(priority) = attributes.priority {
        members.push(("priority", json::encode_string(priority.as_str())));
    }
    members.push(("expires", write_time(attributes.expires_at_ms)));
    if attributes.secure {
        members.push(("secure", "true".to_owned()));
    }
    members.push(("httpOnly", attributes.http_only.to_string()));
    if let Some(domain) = &attributes.domain {
        members.push(("domain", json::encode_string(domain)));
    }
    members.push(("path", json::encode_string(&attributes.path)));
    if let Some(same_site) = attributes.same_site {
        members.push(("sameSite", json::encode_string(same_site.as_str())));
    }
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!("\"{key}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn write_age(age_ms: Option<i64>) -> String {
    age_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string())
}

fn write_time(time_ms: Option<i64>) -> String {
    time_ms.map_or_else(
        || "null".to_owned(),
        |ms| json::encode_string(&timestamp::to_iso(ms)),
    )
}

/// Returns the range of the value of `key`. If the key is repeated, the last one counts.
fn value_range(text: &str, key: &str) -> Option<Range<usize>> {
    let members = json::object_members(text).ok()?;
    let member = members
        .iter()
        .rev()
        .find(|m| json::decode_string(m.key).is_some_and(|k| k == key))?;
    let start = json::offset(text, member.value);
    Some(start..start + member.value.len())
}

/// Returns the position before the closing brace, and the text to insert there in order to add a member.
fn addition(text: &str, key: &str, value: &str) -> (Range<usize>, String) {
    let end = text.rfind('}').expect("a cookie's text is an object");
    let comma = match json::object_members(text) {
        Ok(members) if members.is_empty() => "",
        _ => ",",
    };
    (end..end, format!("{comma}\"{key}\":{value}"))
}

#[cfg(test)]
mod tests;

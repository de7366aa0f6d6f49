//! The `cookie` object inside a session's row: the attributes a session's cookie is sent with, and Express's text of them.
//! Knows no signatures and no headers.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::json::{self, NotAnObject};
use super::timestamp;

/// The attributes of one session's cookie. They belong to the session, not to the configuration: a loaded session keeps
/// those it was created with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CookieAttributes {
    /// The lifetime that every touch starts anew, in milliseconds; `None` ends the cookie with the browser.
    pub original_max_age_ms: Option<i64>,
    /// When the cookie ends, in milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// The `Path` attribute; empty where a row says there is none.
    pub path: String,
    /// The `Domain` attribute.
    pub domain: Option<String>,
    /// Whether scripts are kept from the cookie.
    pub http_only: bool,
    /// Whether the cookie travels over TLS only.
    pub secure: bool,
    /// The `SameSite` attribute.
    pub same_site: Option<SameSite>,
    /// Whether the cookie is kept apart per top-level site.
    pub partitioned: bool,
    /// The `Priority` attribute.
    pub priority: Option<Priority>,
}

/// What a cookie object without members means to Express.
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
    /// Sent on same-site requests alone.
    Strict,
    /// Sent on top-level navigations from elsewhere, too.
    Lax,
    /// Sent everywhere.
    None,
}

impl SameSite {
    /// The word for it in a row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lax => "lax",
            Self::None => "none",
        }
    }

    /// Reads the word, in any case.
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
    /// The word for it in a row.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Reads the word, in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(word))
    }
}

/// The `cookie` object of a row: its attributes beside the text they were read from, so that members nobody knows keep
/// their bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCookie {
    /// One JSON object; UTF-8.
    text: Bytes,
    attributes: CookieAttributes,
}

impl StoredCookie {
    /// A cookie object with Express's members in Express's order; those that say nothing are left out.
    pub fn new(attributes: &CookieAttributes) -> Self {
        Self {
            text: Bytes::from(write(attributes)),
            attributes: attributes.clone(),
        }
    }

    /// Reads the object, as tolerantly as Express: members that make no sense count as absent. `None` if it is no object.
    pub(super) fn parse(text: Bytes) -> Option<Self> {
        let attributes = read(std::str::from_utf8(&text).ok()?).ok()?;
        Some(Self { text, attributes })
    }

    /// What the object says.
    pub fn attributes(&self) -> &CookieAttributes {
        &self.attributes
    }

    /// The object as JSON; byte for byte what was read, as long as nothing was set.
    pub fn as_json(&self) -> &str {
        std::str::from_utf8(&self.text).expect("a cookie's text is UTF-8 from the start")
    }

    /// Sets lifetime (milliseconds) and end (milliseconds since the epoch). Only these two members change, and each only
    /// where it says something else: an absent, `false` or odd one stays as it is while its meaning does.
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

    /// Gives the member `key` another value in its place; at the end if there is none.
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

impl fmt::Debug for StoredCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCookie")
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

/// Express writes an ISO string; its MySQL store takes a number of milliseconds as well.
fn read_time(value: &str) -> Option<i64> {
    match json::decode_string(value) {
        Some(text) => timestamp::parse(&text),
        None => whole_milliseconds(value),
    }
}

/// A number of milliseconds, its fraction cut; `None` for what is no number or farther off than any date.
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

/// Where the value of `key` stands; of several the last, which is the one that counts.
fn value_range(text: &str, key: &str) -> Option<Range<usize>> {
    let members = json::object_members(text).ok()?;
    let member = members
        .iter()
        .rev()
        .find(|m| json::decode_string(m.key).is_some_and(|k| k == key))?;
    let start = json::offset(text, member.value);
    Some(start..start + member.value.len())
}

/// The place before the closing brace and what to write there so that the object gains a member.
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

//! `[session]` and `[session.cookie]`: express-session's options under the names and defaults of this host.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// `[session]`.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// The cookie's name.
    pub name: String,
    /// Where the secrets come from that sign the cookie.
    pub secrets: SecretSource,
    /// Whose defaults, and whose behaviour where the two differ.
    pub compat: Compat,
    /// Whether an unchanged session is written again.
    pub resave: bool,
    /// Whether each answer renews the cookie.
    pub rolling: bool,
    /// Whether a new session that nothing wrote to is kept.
    pub save_uninitialized: bool,
    /// What `unset` does.
    pub unset: Unset,
    /// Whether `X-Forwarded-Proto` is believed.
    pub proxy: Proxy,
    /// The peers whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest life of a session, however much it is used.
    pub absolute_lifetime: Option<Duration>,
    /// The cookie's attributes.
    pub cookie: CookieSettings,
}

/// Whose defaults hold, and whose behaviour where express-session 1.19 and its coming version 2 differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// This host's: version 2's where they are the safer ones.
    Cloakroom,
    /// express-session 1.19's.
    Express1,
}

/// What `unset` does with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// Drops this request's changes.
    Keep,
    /// Deletes the session.
    Destroy,
}

/// Whether `X-Forwarded-Proto` is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// From `trusted_proxies`, which may be empty.
    Unset,
    /// Never.
    Off,
    /// From `trusted_proxies`; from everybody where that list is empty, which only [`Compat::Express1`] allows.
    On,
}

/// Where the secrets come from.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// From the configuration: the first signs, all verify. Never empty.
    Given(Vec<Vec<u8>>),
    /// From this file, which is made with a random secret if it is absent.
    KeptAt(PathBuf),
    /// A random one that dies with this process.
    PerProcess,
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(secrets) => write!(f, "Given({} secrets)", secrets.len()),
            Self::KeptAt(path) => f.debug_tuple("KeptAt").field(path).finish(),
            Self::PerProcess => f.write_str("PerProcess"),
        }
    }
}

/// `[session.cookie]`: the attributes of new sessions' cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// `Path`.
    pub path: String,
    /// `Domain`.
    pub domain: Option<String>,
    /// Lifetime since the last use.
    pub max_age: Option<Duration>,
    /// A fixed end, in milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `Secure`.
    pub secure: CookieSecure,
    /// `SameSite`.
    pub same_site: CookieSameSite,
    /// `Partitioned`.
    pub partitioned: bool,
    /// `Priority`.
    pub priority: Option<CookiePriority>,
}

/// `secure` of the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieSecure {
    /// Not given: no attribute, sent on every link.
    Unset,
    /// No attribute, sent on every link.
    Off,
    /// `Secure`; only sent on a secure link.
    On,
    /// As the link on which the session was made.
    Auto,
}

/// `same_site` of the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieSameSite {
    /// No attribute.
    Unset,
    /// `Strict`.
    Strict,
    /// `Lax`.
    Lax,
    /// `None`.
    None,
    /// `None` on a secure link, `Lax` otherwise.
    Auto,
}

/// `priority` of the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookiePriority {
    /// `Low`.
    Low,
    /// `Medium`.
    Medium,
    /// `High`.
    High,
}

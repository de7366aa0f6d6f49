//! The options of express-session that decide about sessions, under this host's names, with this host's defaults.

use std::time::Duration;

use crate::limits;
use crate::record::Charset;

/// How sessions live. The defaults are the host's; `compat = "express-1"` fills in others.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether an unchanged session is written again on every visit.
    pub resave: bool,
    /// Whether every answer sets the cookie anew.
    pub rolling: bool,
    /// Whether a new session that nothing was written to is stored.
    pub save_uninitialized: bool,
    /// What the guest's `unset` does.
    pub unset: Unset,
    /// Whether the browser is told to drop the cookie of a destroyed or dead session.
    pub expire_on_destroy: bool,
    /// The cookie of new sessions.
    pub cookie: CookieOptions,
    /// How long a session without a max age lives unused.
    pub idle_expiration: Duration,
    /// How long any session lives, counted from the first time Cloakroom wrote it.
    pub absolute_lifetime: Option<Duration>,
    /// When a visit that writes nothing moves the row's expiry.
    pub touch: TouchPolicy,
    /// Largest session, as the JSON text in its row, in bytes.
    pub session_bytes_max: usize,
    /// Most keys.
    pub keys_max: usize,
    /// Longest key, in bytes of UTF-8.
    pub key_bytes_max: usize,
    /// Requests that may wait for one session's slot.
    pub slot_waiters_max: usize,
    /// What is remembered of sessions between their visits, in bytes; none: each visit waits for the store first.
    pub snapshots_bytes_max: usize,
    /// Conflicts that one request answers at once, before it starts to wait between its tries.
    pub eager_reruns_max: u32,
    /// What the store can hold of the JSON text: other characters are written as `\uXXXX`.
    pub charset: Charset,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resave: false,
            rolling: false,
            save_uninitialized: false,
            unset: Unset::Destroy,
            expire_on_destroy: true,
            cookie: CookieOptions::default(),
            idle_expiration: Duration::from_secs(86_400),
            absolute_lifetime: None,
            touch: TouchPolicy::Throttled,
            session_bytes_max: limits::SESSION_BYTES_MAX,
            keys_max: limits::SESSION_KEYS_MAX,
            key_bytes_max: limits::SESSION_KEY_BYTES_MAX,
            slot_waiters_max: limits::SLOT_WAITERS_MAX,
            snapshots_bytes_max: limits::SNAPSHOTS_BYTES_MAX,
            eager_reruns_max: limits::EAGER_RERUNS_MAX,
            charset: Charset::Unicode,
        }
    }
}

/// What `unset` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// Drops the request's changes; the row is not even touched.
    Keep,
    /// Destroys the session.
    Destroy,
}

/// When a visit that writes nothing moves the row's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchPolicy {
    /// Never (express-mysql-session's `disableTouch`).
    Never,
    /// When it would move by more than a twentieth of the lifetime or a minute, whichever is less, or the guest asks.
    Throttled,
    /// On every such visit (express-session 1).
    Always,
}

/// The cookie of new sessions; a loaded session keeps what its row says.
#[derive(Clone, Debug)]
pub struct CookieOptions {
    /// Its name. Browsers bind some names to one domain and path.
    pub name: String,
    /// `Path`; below it there are sessions.
    pub path: String,
    /// `Domain`.
    pub domain: Option<String>,
    /// Lifetime since the last use; `None` ends the cookie with the browser.
    pub max_age: Option<Duration>,
    /// A fixed end, in milliseconds since the epoch; what remains until then is a new session's lifetime. `max_age` wins.
    pub expires_at_ms: Option<i64>,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `Secure`.
    pub secure: Secure,
    /// `SameSite`.
    pub same_site: Option<SameSiteOption>,
    /// `Partitioned`.
    pub partitioned: bool,
    /// `Priority`.
    pub priority: Option<crate::record::Priority>,
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self {
            name: "connect.sid".to_owned(),
            path: "/".to_owned(),
            domain: None,
            max_age: None,
            expires_at_ms: None,
            http_only: true,
            secure: Secure::Auto,
            same_site: Some(SameSiteOption::Lax),
            partitioned: false,
            priority: None,
        }
    }
}

/// The option `secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// `Secure` is sent, and sessions exist over secure links alone.
    Always,
    /// Not sent.
    Never,
    /// As the link is on which the session is created.
    Auto,
}

/// The option `same_site`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSiteOption {
    /// `Strict`.
    Strict,
    /// `Lax`.
    Lax,
    /// `None`.
    None,
    /// `None` where the session is created on a secure link, otherwise `Lax`.
    Auto,
}

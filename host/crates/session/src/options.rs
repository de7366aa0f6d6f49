//! The options of express-session that concern sessions, with this host's names and defaults.

use std::time::Duration;

use crate::record::Charset;
use cloakroom_base::limits;

cloakroom_base::options! {
    /// The session options. The defaults are the host's own; `compat = "express-1"` fills in other values.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SessionOptions {
        /// Whether an unchanged session is written again on every visit.
        pub resave: bool = false,
        /// Whether every response sets the cookie again.
        pub rolling: bool = false,
        /// Whether a new session is stored even if nothing was written to it.
        pub save_uninitialized: bool = false,
        /// The effect of the guest's `unset`.
        pub unset: UnsetPolicy = UnsetPolicy::Destroy,
        /// Whether the browser is made to drop the cookie of a destroyed or dead session.
        pub expire_on_destroy: bool = true,
        /// The cookie of new sessions.
        pub cookie: CookieOptions = CookieOptions::default(),
        /// How long a session without a max age lives after its last use.
        pub idle_expiration: Duration = limits::SESSION_EXPIRATION,
        /// How long any session lives, counted from the first time that Cloakroom wrote it.
        pub absolute_lifetime: Option<Duration> = None,
        /// When a visit that writes nothing moves the row's expiry.
        pub touch: TouchPolicy = TouchPolicy::Throttled,
        /// The largest session, in bytes of the JSON text in its row.
        pub session_bytes_max: usize = limits::SESSION_BYTES_MAX,
        /// The largest number of keys.
        pub keys_max: usize = limits::SESSION_KEYS_MAX,
        /// The longest key, in bytes of UTF-8.
        pub key_bytes_max: usize = limits::SESSION_KEY_BYTES_MAX,
        /// How many requests may wait for one session lock.
        pub lock_waiters_max: usize = limits::SLOT_WAITERS_MAX,
        /// The memory for session snapshots between visits, in bytes. With 0, each visit waits for the store first.
        pub snapshots_bytes_max: usize = limits::SNAPSHOTS_BYTES_MAX,
        /// How many conflicts one request retries at once, before it waits between its tries.
        pub eager_reruns_max: u32 = limits::EAGER_RERUNS_MAX,
        /// Whether one row write commits the changes of several requests that wait for the same session. Only measurements turn
        /// this off; the configuration has no key for it.
        pub fold_commits: bool = true,
        /// The characters that the store can hold in the JSON text. Other characters are written as `\uXXXX`.
        pub charset: Charset = Charset::Unicode,
    }
}

/// The effect of `unset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsetPolicy {
    /// Drops the request's changes. The row is not even touched.
    Keep,
    /// Destroys the session.
    Destroy,
}

/// When a visit that writes nothing moves the row's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchPolicy {
    /// Never (express-mysql-session's `disableTouch`).
    Never,
    /// If the expiry would move by more than a twentieth of the lifetime or a minute, whichever is less, or the guest asks for it.
    Throttled,
    /// On every such visit (express-session 1).
    Always,
}

cloakroom_base::options! {
    /// The cookie of new sessions. A loaded session keeps the attributes in its row.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CookieOptions {
        /// The cookie's name. Browsers bind some names to one domain and path.
        pub name: String = "connect.sid".to_owned(),
        /// `Path`. Only requests below it have sessions.
        pub path: String = "/".to_owned(),
        /// `Domain`.
        pub domain: Option<String> = None,
        /// The lifetime since the last use. With `None`, the cookie ends when the browser is closed.
        pub max_age: Option<Duration> = None,
        /// A fixed end, in milliseconds since the epoch. The time until then is the lifetime of a new session. `max_age` takes precedence.
        pub expires_at_ms: Option<i64> = None,
        /// `HttpOnly`.
        pub http_only: bool = true,
        /// `Secure`.
        pub secure: SecurePolicy = SecurePolicy::Auto,
        /// `SameSite`.
        pub same_site: Option<SameSitePolicy> = Some(SameSitePolicy::Lax),
        /// `Partitioned`.
        pub partitioned: bool = false,
        /// `Priority`.
        pub priority: Option<crate::record::Priority> = None,
    }
}

/// The option `secure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurePolicy {
    /// `Secure` is sent, and sessions exist only over secure links.
    Always,
    /// `Secure` is not sent.
    Never,
    /// `Secure` is sent if the session is created over a secure link.
    Auto,
}

/// The option `same_site`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSitePolicy {
    /// `Strict`.
    Strict,
    /// `Lax`.
    Lax,
    /// `None`.
    None,
    /// `None` if the session is created over a secure link, otherwise `Lax`.
    Auto,
}

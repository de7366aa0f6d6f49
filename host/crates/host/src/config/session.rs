//! `[session]` and its subsections: the options of express-session, with the names and defaults of this host.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::cookie::{self, Compat, CookieSettings};
use super::secrets::{self, SecretSource};
use crate::config_reader::Section;
use crate::config_reader::kinds::{
    Field, ValueError, boolean, count_in, duration, items, size_in, text, word,
};
use crate::stores::ConfiguredStore;
use cloakroom_base::limits;
use cloakroom_session::cookie::is_valid_name;

/// The `[session]` section.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// The name of the cookie.
    pub name: String,
    /// The source of the secrets that sign the cookie.
    pub secrets: SecretSource,
    /// Selects the defaults, and the behaviour where it differs between versions of express-session.
    pub compat: Compat,
    /// Whether an unchanged session is written again.
    pub resave: bool,
    /// Whether every response renews the cookie.
    pub rolling: bool,
    /// Whether a new session without data is stored.
    pub save_uninitialized: bool,
    /// The effect of `unset`.
    pub unset: Unset,
    /// Whether `X-Forwarded-Proto` is trusted.
    pub proxy: Proxy,
    /// The peers whose `X-Forwarded-*` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest lifetime of a session, even if it is used constantly.
    pub absolute_lifetime: Option<Duration>,
    /// The attributes of the cookie.
    pub cookie: CookieSettings,
    /// The size limits of sessions.
    pub limits: SessionLimits,
}

/// The `limits` table of `[session]`. Guests share sessions, so these limits do not belong to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Largest session in bytes, measured as the JSON text in its row.
    pub session_bytes_max: usize,
    /// Maximum number of keys.
    pub keys_max: usize,
    /// Longest key, in bytes.
    pub key_bytes_max: usize,
    /// Maximum number of requests that wait for the lock of one session.
    pub slot_waiters_max: usize,
    /// Maximum memory for session snapshots between requests, in bytes.
    pub snapshots_bytes_max: usize,
}

/// The effect of `unset` on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// Discards the changes of this request.
    Keep,
    /// Deletes the session.
    Destroy,
}

/// Whether `X-Forwarded-Proto` is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Trusted from `trusted_proxies`, which may be empty.
    Unset,
    /// Never trusted.
    Off,
    /// Trusted from `trusted_proxies`. If that list is empty, it is trusted from every peer, which only [`Compat::Express1`]
    /// allows.
    On,
}

/// Reads `[session]`. The store determines where the host stores its own secret.
pub(crate) fn read(
    mut section: Section<'_>,
    store: Option<&dyn ConfiguredStore>,
) -> SessionSettings {
    let compat = section
        .get(
            "compat",
            word(&[
                ("cloakroom", Compat::Cloakroom),
                ("express-1", Compat::Express1),
            ]),
        )
        .unwrap_or(Compat::Cloakroom);
    let is_express_1 = compat == Compat::Express1;
    let default_unset = if is_express_1 {
        Unset::Keep
    } else {
        Unset::Destroy
    };
    let name = section.get("name", cookie_name);
    let name = name.unwrap_or_else(|| "connect.sid".to_owned());
    let proxy = section.get("proxy", boolean);
    let trusted_proxies = section.get("trusted_proxies", items(network));
    check_proxy(&section, compat, proxy, trusted_proxies.as_deref());
    let trusted_proxies = trusted_proxies.unwrap_or_default();
    let cookie = cookie::read(section.section("cookie"), compat, &name);
    let is_secure_possible = proxy != Some(false) && !trusted_proxies.is_empty()
        || (is_express_1 && proxy == Some(true));
    cookie::warn_of_never_secure(&section, &cookie, is_secure_possible);
    SessionSettings {
        secrets: secrets::read(&mut section, store),
        resave: section.get("resave", boolean).unwrap_or(is_express_1),
        rolling: section.get("rolling", boolean).unwrap_or(false),
        save_uninitialized: section
            .get("save_uninitialized", boolean)
            .unwrap_or(is_express_1),
        unset: section
            .get(
                "unset",
                word(&[("keep", Unset::Keep), ("destroy", Unset::Destroy)]),
            )
            .unwrap_or(default_unset),
        proxy: match proxy {
            None => Proxy::Unset,
            Some(false) => Proxy::Off,
            Some(true) => Proxy::On,
        },
        absolute_lifetime: section.get("absolute_lifetime", duration),
        name,
        compat,
        trusted_proxies,
        cookie,
        limits: read_limits(section.section("limits")),
    }
}

fn read_limits(mut section: Section<'_>) -> SessionLimits {
    SessionLimits {
        // A MEDIUMTEXT column, as in the tables of express-mysql-session, holds 16 MiB.
        session_bytes_max: section
            .get("session", size_in(1 << 10, 16 << 20))
            .unwrap_or(limits::SESSION_BYTES_MAX),
        keys_max: section
            .get("keys", count_in(1, 100_000))
            .unwrap_or(limits::SESSION_KEYS_MAX),
        key_bytes_max: section
            .get("key", size_in(1, 64 << 10))
            .unwrap_or(limits::SESSION_KEY_BYTES_MAX),
        slot_waiters_max: section
            .get("slot_waiters", count_in(0, 1 << 20))
            .unwrap_or(limits::SLOT_WAITERS_MAX),
        snapshots_bytes_max: section
            .get("snapshots", size_in(0, 64 << 30))
            .unwrap_or(limits::SNAPSHOTS_BYTES_MAX),
    }
}

fn cookie_name(field: &Field<'_>) -> Result<String, ValueError> {
    let name = text(field)?;
    if is_valid_name(&name) {
        return Ok(name);
    }
    Err(ValueError::new(
        format!("{name:?} is not a valid cookie name"),
        "use at most 256 letters, digits and !#$%&'*+-.^_`|~ (RFC 6265, section 4.1.1)",
    ))
}

/// Parses a network or a single address.
fn network(text: &str) -> Result<IpNet, ValueError> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or(address).map_err(|_| {
        ValueError::new(
            format!("{text:?} is not a network"),
            "write an address or a network: \"10.0.0.0/8\", \"127.0.0.1\", \"fd00::/8\"",
        )
    })
}

fn check_proxy(
    section: &Section<'_>,
    compat: Compat,
    proxy: Option<bool>,
    trusted: Option<&[IpNet]>,
) {
    // A list with an invalid item is neither missing nor empty.
    let is_nobody_trusted = match trusted {
        Some(networks) => networks.is_empty(),
        None => section.is_missing("trusted_proxies"),
    };
    match proxy {
        Some(true) if is_nobody_trusted => {
            if compat == Compat::Express1 {
                section.warn(
                    "proxy",
                    "without trusted_proxies every client can claim a secure connection with X-Forwarded-Proto",
                );
            } else {
                section.fault(
                    "proxy",
                    "proxy = true without trusted_proxies would trust X-Forwarded-Proto from every client",
                    "name your proxies: trusted_proxies = [\"10.0.0.0/8\"], or set compat = \"express-1\"",
                );
            }
        }
        Some(false) if trusted.is_some_and(|networks| !networks.is_empty()) => section.fault(
            "trusted_proxies",
            "no proxy is trusted while proxy = false",
            "leave out one of the two",
        ),
        _ => {}
    }
}

//! `[session]` and its subsections: the options of express-session, with the names and defaults of this host.

use std::net::IpAddr;

use ipnet::IpNet;

use super::cookie::{self, Compat};
use super::secrets::{self, SecretSource};
use crate::config_reader::Section;
use crate::config_reader::kinds::{
    Field, ValueError, boolean, count_in, duration, items, size_in, text, word,
};
use crate::handler::ProxyTrust;
use crate::stores::ConfiguredStore;
use cloakroom_session::cookie::is_valid_name;
use cloakroom_session::{CookieOptions, SecurePolicy, SessionOptions, TouchPolicy, UnsetPolicy};

/// The `[session]` section.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// The source of the secrets that sign the cookie.
    pub secrets: SecretSource,
    /// Selects the defaults, and the behaviour where it differs between versions of express-session.
    pub compat: Compat,
    /// Whether `X-Forwarded-Proto` is trusted. `None` if the key is not given.
    pub proxy: Option<bool>,
    /// The peers whose `X-Forwarded-*` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The options of the sessions. [`Config::session_options`](super::Config::session_options) completes them with those that depend
    /// on the store.
    pub options: SessionOptions,
}

impl SessionSettings {
    /// Returns the peers whose forwarding headers are trusted.
    pub(crate) fn proxy_trust(&self) -> ProxyTrust {
        match self.proxy {
            Some(false) => ProxyTrust::None,
            // This is the behaviour of express-session. The configuration allows it only with `compat = "express-1"`.
            Some(true) if self.trusted_proxies.is_empty() => ProxyTrust::All,
            Some(true) | None => ProxyTrust::Networks(self.trusted_proxies.clone()),
        }
    }
}

/// Reads `[session]`. The store determines where the host stores its own secret.
pub(crate) fn read(
    mut section: Section<'_>,
    store: Option<&dyn ConfiguredStore>,
) -> SessionSettings {
    let compat = section.get(
        "compat",
        word(&[
            ("cloakroom", Compat::Cloakroom),
            ("express-1", Compat::Express1),
        ]),
    );
    let compat = compat.unwrap_or(Compat::Cloakroom);
    let mut options = defaults(compat);
    section.set("name", &mut options.cookie.name, cookie_name);
    let proxy = section.get("proxy", boolean);
    let trusted_proxies = section.get("trusted_proxies", items(network));
    check_proxy(&section, compat, proxy, trusted_proxies.as_deref());
    let trusted_proxies = trusted_proxies.unwrap_or_default();
    cookie::read(section.section("cookie"), compat, &mut options.cookie);
    let is_secure_possible = proxy != Some(false) && !trusted_proxies.is_empty()
        || (compat == Compat::Express1 && proxy == Some(true));
    cookie::warn_of_never_secure(&section, &options.cookie, is_secure_possible);
    let secrets = secrets::read(&mut section, store);
    read_options(&mut section, &mut options);
    SessionSettings {
        secrets,
        compat,
        proxy,
        trusted_proxies,
        options,
    }
}

/// Returns the options of a configuration without any of their keys.
fn defaults(compat: Compat) -> SessionOptions {
    let own = SessionOptions::default();
    match compat {
        Compat::Cloakroom => own,
        Compat::Express1 => SessionOptions {
            resave: true,
            save_uninitialized: true,
            unset: UnsetPolicy::Keep,
            expire_on_destroy: false,
            touch: TouchPolicy::Always,
            cookie: CookieOptions {
                secure: SecurePolicy::Never,
                same_site: None,
                ..own.cookie
            },
            ..own
        },
    }
}

fn read_options(section: &mut Section<'_>, options: &mut SessionOptions) {
    section.set("resave", &mut options.resave, boolean);
    section.set("rolling", &mut options.rolling, boolean);
    let save_uninitialized = &mut options.save_uninitialized;
    section.set("save_uninitialized", save_uninitialized, boolean);
    let unset = word(&[
        ("keep", UnsetPolicy::Keep),
        ("destroy", UnsetPolicy::Destroy),
    ]);
    section.set("unset", &mut options.unset, unset);
    options.absolute_lifetime = section.get("absolute_lifetime", duration);
    let mut limits = section.section("limits");
    // A MEDIUMTEXT column, as in the tables of express-mysql-session, holds 16 MiB.
    let bytes = &mut options.session_bytes_max;
    limits.set("session", bytes, size_in(1 << 10, 16 << 20));
    limits.set("keys", &mut options.keys_max, count_in(1, 100_000));
    limits.set("key", &mut options.key_bytes_max, size_in(1, 64 << 10));
    let waiters = &mut options.lock_waiters_max;
    limits.set("slot_waiters", waiters, count_in(0, 1 << 20));
    let snapshots = &mut options.snapshots_bytes_max;
    limits.set("snapshots", snapshots, size_in(0, 64 << 30));
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

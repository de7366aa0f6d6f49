//! Converts the configuration into the options of each part. Every field is named, so that a new option cannot be forgotten
//! here.

use crate::config;
use crate::config::{Compat, Config, CookiePriority, CookieSameSite, CookieSecure, Proxy};
use crate::handler;
use crate::handler::ProxyTrust;
use crate::stores::StoreLocation;
use cloakroom_base::limits;
use cloakroom_session as session;
use cloakroom_session::record::{Charset, Priority};
use cloakroom_session::{CookieOptions, SameSitePolicy, SecurePolicy, TouchPolicy};

pub(crate) fn session(config: &Config) -> session::SessionOptions {
    let settings = &config.session;
    let is_express_1 = settings.compat == Compat::Express1;
    session::SessionOptions {
        resave: settings.resave,
        rolling: settings.rolling,
        save_uninitialized: settings.save_uninitialized,
        unset: match settings.unset {
            config::Unset::Keep => session::UnsetPolicy::Keep,
            config::Unset::Destroy => session::UnsetPolicy::Destroy,
        },
        expire_on_destroy: !is_express_1,
        cookie: cookie(&settings.name, &settings.cookie),
        idle_expiration: config.store.expiration,
        absolute_lifetime: settings.absolute_lifetime,
        touch: match (config.store.disable_touch, is_express_1) {
            (true, _) => TouchPolicy::Never,
            (false, true) => TouchPolicy::Always,
            (false, false) => TouchPolicy::Throttled,
        },
        session_bytes_max: settings.limits.session_bytes_max,
        keys_max: settings.limits.keys_max,
        key_bytes_max: settings.limits.key_bytes_max,
        lock_waiters_max: settings.limits.slot_waiters_max,
        snapshots_bytes_max: match config.store.backend.location() {
            // Reading the rows themselves is as fast as reading a snapshot.
            StoreLocation::Memory => 0,
            StoreLocation::File(_) | StoreLocation::Server => settings.limits.snapshots_bytes_max,
        },
        eager_reruns_max: limits::EAGER_RERUNS_MAX,
        fold_commits: true,
        // Replaced by the store's value once it is open.
        charset: Charset::Unicode,
    }
}

fn cookie(name: &str, settings: &config::CookieSettings) -> CookieOptions {
    CookieOptions {
        name: name.to_owned(),
        path: settings.path.clone(),
        domain: settings.domain.clone(),
        max_age: settings.max_age,
        expires_at_ms: settings.expires_at_ms,
        http_only: settings.http_only,
        secure: match settings.secure {
            CookieSecure::Unset | CookieSecure::Off => SecurePolicy::Never,
            CookieSecure::On => SecurePolicy::Always,
            CookieSecure::Auto => SecurePolicy::Auto,
        },
        same_site: match settings.same_site {
            CookieSameSite::Unset => None,
            CookieSameSite::Strict => Some(SameSitePolicy::Strict),
            CookieSameSite::Lax => Some(SameSitePolicy::Lax),
            CookieSameSite::None => Some(SameSitePolicy::None),
            CookieSameSite::Auto => Some(SameSitePolicy::Auto),
        },
        partitioned: settings.partitioned,
        priority: settings.priority.map(|priority| match priority {
            CookiePriority::Low => Priority::Low,
            CookiePriority::Medium => Priority::Medium,
            CookiePriority::High => Priority::High,
        }),
    }
}

pub(crate) fn handler(config: &Config) -> handler::Options {
    let networks = &config.session.trusted_proxies;
    handler::Options {
        cookie_name: config.session.name.clone(),
        proxy_trust: match config.session.proxy {
            Proxy::Off => ProxyTrust::Nobody,
            // This is the behaviour of express-session. The configuration allows it only with `compat = "express-1"`.
            Proxy::On if networks.is_empty() => ProxyTrust::Everybody,
            Proxy::On | Proxy::Unset => ProxyTrust::Networks(networks.clone()),
        },
        head_bytes_max: config.server.listener.head_bytes_max,
        headers_max: config.server.listener.headers_max,
        target_bytes_max: config.server.request_target_bytes_max,
    }
}

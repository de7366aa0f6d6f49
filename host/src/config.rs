//! The host's configuration: a TOML file, the environment and flags become one checked [`Config`], or a list of every fault.
//!
//! Precedence: flags, then environment, then file, then defaults. Below this module nobody sees a `Config`: each module has
//! `Options` of its own, which `app` fills from here. Nothing outside this module reads the environment.

pub mod fault;
mod guest;
mod route;
mod server;
mod session;
mod store;

use std::net::SocketAddr;

pub use fault::{Fault, Origin};
pub use guest::{GuestLimits, GuestSettings, SessionAccess};
pub use route::RouteSettings;
pub use server::{LimitSettings, LogFormat, LogSettings, ServerSettings};
pub use session::{
    Compat, CookiePriority, CookieSameSite, CookieSecure, CookieSettings, Proxy, SecretSource,
    SessionSettings, Unset,
};
pub use store::{
    Backend, ColumnNames, MysqlSettings, SchemaNames, SecretText, StoreSettings, TlsMode,
};

/// Everything the host was told, checked. Holds secrets: `Debug` shows none of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The listener's connections and timeouts.
    pub server: ServerSettings,
    /// The limits that all guests share.
    pub limits: LimitSettings,
    /// Sessions and their cookie.
    pub session: SessionSettings,
    /// Where sessions are kept.
    pub store: StoreSettings,
    /// The guests, by name in alphabetical order; never empty.
    pub guests: Vec<GuestSettings>,
    /// The routes in the file's order; never empty, each names one of `guests`.
    pub routes: Vec<RouteSettings>,
    /// The log.
    pub log: LogSettings,
    /// What is allowed and probably not meant: one log line each at start.
    pub warnings: Vec<String>,
}

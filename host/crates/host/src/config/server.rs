//! `listen`, `[server]` and `[log]`: the listener, the resources that all guests share, and the log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::config_reader::Section;
use crate::config_reader::kinds::{
    Field, ValueError, boolean, count_in, duration, path, size_in, text, word,
};
use crate::stores::{ConfiguredStore, DEFAULT_SQLITE_PATH, StoreLocation};
use cloakroom_base::quota::QuotaTotals;
use cloakroom_base::{limits, telemetry};
use cloakroom_runtime::RuntimeOptions;
use cloakroom_server as server;

/// The default address to listen on.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);

cloakroom_base::options! {
    /// The `[server]` section: the listener, and the resources that all guests share.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ServerSettings {
        /// The listener's connections, heads and timeouts.
        pub listener: server::ServerOptions = server::ServerOptions::default(),
        /// Longest request target (path and query), in bytes.
        pub request_target_bytes_max: usize = limits::REQUEST_TARGET_BYTES_MAX,
        /// The limits that all clients share.
        pub totals: QuotaTotals = QuotaTotals::default(),
        /// The runtime of the guests. There is no key for its compiler, which the program sets, nor for the largest memory of a guest,
        /// which is that of the guests' limits.
        pub runtime: RuntimeOptions = RuntimeOptions::default(),
        /// Whether a component is deployed automatically when its file changes.
        pub watch: bool = true,
    }
}

/// Reads `[server]`.
pub(crate) fn read(
    mut section: Section<'_>,
    store: Option<&dyn ConfiguredStore>,
) -> ServerSettings {
    let mut settings = ServerSettings::default();
    read_listener(&mut section, &mut settings.listener);
    read_totals(&mut section, &mut settings.totals);
    settings.runtime.code_cache = Some(default_code_cache(store));
    read_runtime(&mut section, &mut settings.runtime);
    let target = &mut settings.request_target_bytes_max;
    section.set("request_target", target, size_in(256, 1 << 20));
    section.set("watch", &mut settings.watch, boolean);
    settings
}

fn read_listener(section: &mut Section<'_>, listener: &mut server::ServerOptions) {
    let pace = &mut listener.body_pace;
    section.set("body_timeout", &mut pace.grace, duration);
    section.set("body_rate", &mut pace.bytes_per_s, size_in(1, 1 << 30));
    section.set("header_timeout", &mut listener.header_timeout, duration);
    section.set("idle_timeout", &mut listener.idle_timeout, duration);
    section.set("grace", &mut listener.grace, duration);
    let head = &mut listener.head_bytes_max;
    section.set("request_head", head, size_in(8 << 10, 1 << 20));
    section.set(
        "request_headers",
        &mut listener.headers_max,
        count_in(1, 1024),
    );
}

fn read_totals(section: &mut Section<'_>, totals: &mut QuotaTotals) {
    section.set("connections", &mut totals.connections, count_in(1, 1 << 20));
    section.set("requests", &mut totals.requests, count_in(1, 1 << 20));
    let bytes = || size_in(1 << 20, 1 << 40);
    section.set("waiting_bodies", &mut totals.request_bytes, bytes());
    section.set("untaken", &mut totals.response_bytes, bytes());
}

fn read_runtime(section: &mut Section<'_>, runtime: &mut RuntimeOptions) {
    let instances = &mut runtime.instances_max;
    section.set("instances", instances, count_in(1, 1 << 16));
    let waiters = &mut runtime.instance_waiters_max;
    section.set("instance_waiters", waiters, count_in(0, 1 << 20));
    section.set("instance_wait", &mut runtime.instance_wait_max, duration);
    let connections = &mut runtime.outbound_connections_max;
    section.set("outbound_connections", connections, count_in(1, 1 << 16));
    section.set("code_cache", &mut runtime.code_cache, code_cache);
    section.set("compile_timeout", &mut runtime.compile_timeout, duration);
}

/// Reads a directory, or `off` for none.
fn code_cache(field: &Field<'_>) -> Result<Option<PathBuf>, ValueError> {
    match text(field)?.as_str() {
        "off" => Ok(None),
        _ => path(field).map(Some),
    }
}

/// Returns a directory next to the embedded store, because the host can write there. Without an embedded store, it is next to
/// the default path of one.
fn default_code_cache(store: Option<&dyn ConfiguredStore>) -> PathBuf {
    let store = match store.map(ConfiguredStore::location) {
        Some(StoreLocation::File(path)) => path.parent(),
        Some(StoreLocation::Memory | StoreLocation::Server) | None => None,
    };
    let usual = || Path::new(DEFAULT_SQLITE_PATH).parent();
    let folder = store.filter(|folder| !folder.as_os_str().is_empty());
    folder.or_else(usual).unwrap_or(Path::new("")).join("code")
}

/// Reads `[log]`.
pub(crate) fn read_log(mut section: Section<'_>) -> telemetry::TelemetryOptions {
    let default = telemetry::TelemetryOptions::default();
    let formats = word(&[
        ("text", telemetry::LogFormat::Text),
        ("json", telemetry::LogFormat::Json),
    ]);
    telemetry::TelemetryOptions {
        format: section.get("format", formats).unwrap_or(default.format),
        filter: section.get("level", filter).unwrap_or(default.filter),
    }
}

fn filter(field: &Field<'_>) -> Result<String, ValueError> {
    let filter = text(field)?;
    match telemetry::check_filter(&filter) {
        Ok(()) => Ok(filter),
        Err(error) => Err(ValueError::new(
            error.to_string(),
            "write error, warn, info, debug or trace, or per part: \"info,guest=debug\"",
        )),
    }
}

/// Reads an address and a port. `localhost` is 127.0.0.1.
pub(crate) fn listen(field: &Field<'_>) -> Result<SocketAddr, ValueError> {
    const REMEDY: &str =
        "write an address and a port: \"127.0.0.1:3000\", or \"0.0.0.0:3000\" for every interface";
    let text = text(field).map_err(|error| ValueError {
        remedy: REMEDY.to_owned(),
        ..error
    })?;
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    let address = address.parse();
    address.map_err(|_| ValueError::new(format!("{text:?} is not an address to listen on"), REMEDY))
}

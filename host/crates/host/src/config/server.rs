//! `listen`, `[server]` and `[log]`: the listener, the resources that all guests share, and the log.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    settings.runtime.code_cache = section
        .get("code_cache", code_cache)
        .unwrap_or_else(|| Some(default_code_cache(store)));
    read_counts(&mut section, &mut settings);
    read_times_and_sizes(&mut section, &mut settings);
    if let Some(watch) = section.get("watch", boolean) {
        settings.watch = watch;
    }
    settings
}

fn read_counts(section: &mut Section<'_>, settings: &mut ServerSettings) {
    let listener = &mut settings.listener;
    let counts: [(&'static str, &mut usize, usize); 4] = [
        ("request_headers", &mut listener.headers_max, 1024),
        ("instances", &mut settings.runtime.instances_max, 1 << 16),
        (
            "instance_waiters",
            &mut settings.runtime.instance_waiters_max,
            1 << 20,
        ),
        (
            "outbound_connections",
            &mut settings.runtime.outbound_connections_max,
            1 << 16,
        ),
    ];
    for (key, setting, most) in counts {
        let least = usize::from(key != "instance_waiters");
        if let Some(number) = section.get(key, count_in(least, most)) {
            *setting = number;
        }
    }
    let shared = [
        ("connections", &mut settings.totals.connections),
        ("requests", &mut settings.totals.requests),
    ];
    for (key, setting) in shared {
        if let Some(number) = section.get(key, count_in(1, 1 << 20)) {
            *setting = number;
        }
    }
    let shared_bytes = [
        ("waiting_bodies", &mut settings.totals.request_bytes),
        ("untaken", &mut settings.totals.response_bytes),
    ];
    for (key, setting) in shared_bytes {
        if let Some(bytes) = section.get(key, size_in(1 << 20, 1 << 40)) {
            *setting = bytes;
        }
    }
}

fn read_times_and_sizes(section: &mut Section<'_>, settings: &mut ServerSettings) {
    let listener = &mut settings.listener;
    let durations: [(&'static str, &mut Duration); 6] = [
        ("body_timeout", &mut listener.body_pace.grace),
        ("header_timeout", &mut listener.header_timeout),
        ("idle_timeout", &mut listener.idle_timeout),
        ("grace", &mut listener.grace),
        ("instance_wait", &mut settings.runtime.instance_wait_max),
        ("compile_timeout", &mut settings.runtime.compile_timeout),
    ];
    for (key, setting) in durations {
        if let Some(time) = section.get(key, duration) {
            *setting = time;
        }
    }
    if let Some(bytes) = section.get("body_rate", size_in(1, 1 << 30)) {
        listener.body_pace.bytes_per_s = bytes;
    }
    let sizes: [(&'static str, &mut usize, usize); 2] = [
        ("request_head", &mut listener.head_bytes_max, 8 << 10),
        (
            "request_target",
            &mut settings.request_target_bytes_max,
            256,
        ),
    ];
    for (key, setting, least) in sizes {
        if let Some(bytes) = section.get(key, size_in(least, 1 << 20)) {
            *setting = bytes;
        }
    }
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
    let text = text(field).map_err(|complaint| ValueError {
        remedy: REMEDY.to_owned(),
        ..complaint
    })?;
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    let address = address.parse();
    address.map_err(|_| ValueError::new(format!("{text:?} is not an address to listen on"), REMEDY))
}

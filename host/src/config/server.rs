//! `listen`, `[server]` and `[log]`: the listener, what all guests share, and the log.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::kinds::{Complaint, Field, boolean, count_in, duration, size_in, text, word};
use super::reader::Section;
use crate::{limits, server, telemetry};

/// Where to listen when nothing says otherwise.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);

/// `[server]`: the listener, and what all guests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The listener's connections, heads and timeouts.
    pub listener: server::Options,
    /// Longest request target (path and query), in bytes.
    pub request_target_bytes_max: usize,
    /// Guest instances at once.
    pub instances_max: usize,
    /// Requests that may wait for an instance.
    pub instance_waiters_max: usize,
    /// Longest wait for an instance.
    pub instance_wait_max: Duration,
    /// Whether a component whose file changes is brought in by itself.
    pub watch: bool,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listener: server::Options::default(),
            request_target_bytes_max: limits::REQUEST_TARGET_BYTES_MAX,
            instances_max: limits::INSTANCES_MAX,
            instance_waiters_max: limits::INSTANCE_WAITERS_MAX,
            instance_wait_max: limits::INSTANCE_WAIT_MAX,
            watch: true,
        }
    }
}

/// Reads `[server]`.
pub(super) fn read(mut section: Section<'_>) -> ServerSettings {
    let mut settings = ServerSettings::default();
    let listener = &mut settings.listener;
    let counts: [(&'static str, &mut usize, usize); 4] = [
        ("connections", &mut listener.connections_max, 1 << 20),
        ("request_headers", &mut listener.headers_max, 1024),
        ("instances", &mut settings.instances_max, 1 << 16),
        (
            "instance_waiters",
            &mut settings.instance_waiters_max,
            1 << 20,
        ),
    ];
    for (key, setting, most) in counts {
        let least = usize::from(key != "instance_waiters");
        if let Some(number) = section.get(key, count_in(least, most)) {
            *setting = number;
        }
    }
    let durations: [(&'static str, &mut Duration); 4] = [
        ("header_timeout", &mut listener.header_timeout),
        ("idle_timeout", &mut listener.idle_timeout),
        ("grace", &mut listener.grace),
        ("instance_wait", &mut settings.instance_wait_max),
    ];
    for (key, setting) in durations {
        if let Some(time) = section.get(key, duration) {
            *setting = time;
        }
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
    if let Some(watch) = section.get("watch", boolean) {
        settings.watch = watch;
    }
    settings
}

/// Reads `[log]`.
pub(super) fn read_log(mut section: Section<'_>) -> telemetry::Options {
    let default = telemetry::Options::default();
    let formats = word(&[
        ("text", telemetry::Format::Text),
        ("json", telemetry::Format::Json),
    ]);
    telemetry::Options {
        format: section.get("format", formats).unwrap_or(default.format),
        filter: section.get("level", filter).unwrap_or(default.filter),
    }
}

fn filter(field: &Field<'_>) -> Result<String, Complaint> {
    let filter = text(field)?;
    match telemetry::check_filter(&filter) {
        Ok(()) => Ok(filter),
        Err(error) => Err(Complaint::new(
            error.to_string(),
            "write error, warn, info, debug or trace, or per part: \"info,guest=debug\"",
        )),
    }
}

/// An address and a port; `localhost` is 127.0.0.1.
pub(super) fn listen(field: &Field<'_>) -> Result<SocketAddr, Complaint> {
    const REMEDY: &str =
        "write an address and a port: \"127.0.0.1:3000\", or \"0.0.0.0:3000\" for every interface";
    let text = text(field).map_err(|complaint| Complaint {
        remedy: REMEDY.to_owned(),
        ..complaint
    })?;
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    let address = address.parse();
    address.map_err(|_| Complaint::new(format!("{text:?} is no address to listen on"), REMEDY))
}

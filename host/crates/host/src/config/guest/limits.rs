//! `[guest.NAME.limits]`: the limits of one guest. Refuses values that exceed the host's own limits.

use std::time::Duration;

use super::super::server::ServerSettings;
use super::super::session::SessionSettings;
use crate::config_reader::Section;
use crate::config_reader::kinds::{Field, ValueError, count_in, duration, size, size_in};
use crate::config_reader::source::TomlValue;
use cloakroom_base::limits;
use cloakroom_runtime::read_ahead_cost_max;

/// The `limits` table of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    /// Longest time from a request's head to the release of its response.
    pub deadline: Duration,
    /// Longest CPU time of all runs for one request. `None` for no limit other than the deadline.
    pub cpu_time: Option<Duration>,
    /// Largest linear memory of an instance, in bytes.
    pub memory_bytes_max: usize,
    /// Maximum number of instances at the same time.
    pub instances_max: usize,
    /// Maximum number of requests that wait for an instance.
    pub waiters_max: usize,
    /// Longest wait for an instance.
    pub wait_max: Duration,
    /// Largest request head, in bytes. With `None`, the limit of `[server]` applies.
    pub request_head_bytes_max: Option<usize>,
    /// Maximum number of header fields of a request. With `None`, the limit of `[server]` applies.
    pub request_headers_max: Option<usize>,
    /// Largest request body, in bytes.
    pub request_body_bytes_max: u64,
    /// Largest response body, in bytes. `None` for no limit.
    pub response_body_bytes_max: Option<u64>,
    /// Largest part of a request body that is kept for a second run, in bytes.
    pub replay_bytes_max: usize,
    /// Largest session that the guest may write, in bytes. With `None`, the limit of `[session.limits]` applies.
    pub session_bytes_max: Option<usize>,
    /// Maximum number of keys in a session to which the guest adds a key. With `None`, the limit of `[session.limits]` applies.
    pub session_keys_max: Option<usize>,
    /// Maximum number of outbound requests for one request of a visitor.
    pub outbound_calls_max: u32,
    /// Maximum number of outbound connections at the same time, over all requests of the guest.
    pub outbound_connections_max: usize,
    /// Maximum number of log lines of one run. For a released stream, the number of lines per minute.
    pub log_lines_max: usize,
    /// Longest log line, in bytes.
    pub log_line_bytes_max: usize,
    /// Maximum number of log bytes of one run. For a released stream, the number of bytes per minute.
    pub log_bytes_max: usize,
    /// Maximum number of log bytes per second, over all runs of the guest.
    pub log_bytes_per_s_max: usize,
    /// Longest time without data in a released response body.
    pub stream_silence_max: Duration,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            deadline: limits::DEADLINE,
            cpu_time: None,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            instances_max: limits::GUEST_INSTANCES_MAX,
            waiters_max: limits::GUEST_WAITERS_MAX,
            wait_max: limits::INSTANCE_WAIT_MAX,
            request_head_bytes_max: None,
            request_headers_max: None,
            request_body_bytes_max: limits::REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: None,
            replay_bytes_max: limits::REPLAY_BYTES_MAX,
            session_bytes_max: None,
            session_keys_max: None,
            outbound_calls_max: limits::OUTBOUND_CALLS_MAX,
            outbound_connections_max: limits::GUEST_OUTBOUND_CONNECTIONS_MAX,
            log_lines_max: limits::LOG_LINES_MAX,
            log_line_bytes_max: limits::LOG_LINE_BYTES_MAX,
            log_bytes_max: limits::LOG_BYTES_MAX,
            log_bytes_per_s_max: limits::LOG_BYTES_PER_S_MAX,
            stream_silence_max: limits::STREAM_SILENCE_MAX,
        }
    }
}

impl GuestLimits {
    /// Returns the limits that differ from the defaults: each key, and its value in the notation of the configuration.
    pub fn changed(&self) -> Vec<(&'static str, String)> {
        let defaults = Self::default().written();
        let written = self.written().into_iter().zip(defaults);
        let changed = written.filter(|(own, default)| own != default);
        changed.map(|(own, _)| own).collect()
    }

    /// Returns every key with its value. Every field is named, so that a new one cannot be forgotten here.
    fn written(&self) -> Vec<(&'static str, String)> {
        let Self {
            deadline,
            cpu_time,
            memory_bytes_max,
            instances_max,
            waiters_max,
            wait_max,
            request_head_bytes_max,
            request_headers_max,
            request_body_bytes_max,
            response_body_bytes_max,
            replay_bytes_max,
            session_bytes_max,
            session_keys_max,
            outbound_calls_max,
            outbound_connections_max,
            log_lines_max,
            log_line_bytes_max,
            log_bytes_max,
            log_bytes_per_s_max,
            stream_silence_max,
        } = self;
        let time = |time: &Duration| humantime::format_duration(*time).to_string();
        let bytes = |bytes: &usize| written_size(*bytes as u64);
        vec![
            ("deadline", time(deadline)),
            ("cpu_time", or_word(cpu_time.as_ref().map(time))),
            ("memory", bytes(memory_bytes_max)),
            ("instances", instances_max.to_string()),
            ("waiting", waiters_max.to_string()),
            ("wait", time(wait_max)),
            (
                "request_head",
                or_word(request_head_bytes_max.as_ref().map(bytes)),
            ),
            (
                "request_headers",
                or_word(request_headers_max.map(|n| n.to_string())),
            ),
            ("request_body", written_size(*request_body_bytes_max)),
            (
                "response_body",
                or_word(response_body_bytes_max.map(written_size)),
            ),
            ("replay_body", bytes(replay_bytes_max)),
            (
                "session_bytes",
                or_word(session_bytes_max.as_ref().map(bytes)),
            ),
            (
                "session_keys",
                or_word(session_keys_max.map(|n| n.to_string())),
            ),
            ("outbound_calls", outbound_calls_max.to_string()),
            ("outbound_connections", outbound_connections_max.to_string()),
            ("log_lines", log_lines_max.to_string()),
            ("log_line_bytes", bytes(log_line_bytes_max)),
            ("log_bytes", bytes(log_bytes_max)),
            ("log_rate", bytes(log_bytes_per_s_max)),
            ("stream_silence", time(stream_silence_max)),
        ]
    }
}

fn or_word(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unlimited".to_owned())
}

/// Formats a size in the largest unit of which it is a whole multiple.
fn written_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// The limits of the host, which no guest may exceed.
#[derive(Clone, Copy)]
pub(crate) struct HostLimits<'a> {
    pub(crate) server: &'a ServerSettings,
    pub(crate) session: &'a SessionSettings,
}

/// Reads the `limits` table. `is_read_ahead` says whether bodies are read before the guest starts.
pub(crate) fn read(
    mut section: Section<'_>,
    shared: HostLimits<'_>,
    is_read_ahead: bool,
) -> GuestLimits {
    let mut limits = GuestLimits::default();
    read_sizes(&mut section, &mut limits);
    read_times(&mut section, &mut limits);
    read_counts(&mut section, &mut limits);
    check(&section, &limits, shared);
    if is_read_ahead && let Some((problem, remedy)) = waiting_body(&limits, shared.server) {
        section.fault("replay_body", problem, remedy);
    }
    limits
}

/// Returns the problem and the remedy if `server.waiting_bodies` is smaller than the memory cost of one body in small pieces.
/// The host would refuse such a body every time. Returns `None` if it is large enough.
pub(crate) fn waiting_body(
    limits: &GuestLimits,
    server: &ServerSettings,
) -> Option<(String, String)> {
    let total = server.totals.request_bytes;
    // Small pieces are joined. The last piece may be a full HTTP/1 read buffer, or an HTTP/2 DATA frame, which is never larger
    // than joined pieces.
    let joined = limits::BODY_PIECE_JOINED_BYTES;
    let piece_bytes_max = joined + server.listener.head_bytes_max.max(joined);
    let replay_bytes_max = limits.replay_bytes_max;
    let cost = read_ahead_cost_max(
        limits.request_body_bytes_max,
        replay_bytes_max,
        piece_bytes_max,
    );
    if cost <= total {
        return None;
    }
    let problem = format!(
        "is {}: one such body in small pieces takes up to {cost} bytes of memory, but server.waiting_bodies, the limit for \
         all bodies, is {}: such a body is always answered 503",
        written_size(replay_bytes_max as u64),
        written_size(total),
    );
    let remedy = format!(
        "raise server.waiting_bodies to at least {}MiB, lower replay_body, or set stream = true, which reads no body ahead",
        cost.div_ceil(1 << 20)
    );
    Some((problem, remedy))
}

fn read_sizes(section: &mut Section<'_>, limits: &mut GuestLimits) {
    let log_rate = &mut limits.log_bytes_per_s_max;
    let sizes: [(&'static str, &mut usize, usize, usize); 5] = [
        ("memory", &mut limits.memory_bytes_max, 64 << 10, 4 << 30),
        ("replay_body", &mut limits.replay_bytes_max, 0, 1 << 30),
        ("log_line_bytes", &mut limits.log_line_bytes_max, 1, 1 << 20),
        ("log_bytes", &mut limits.log_bytes_max, 0, 1 << 30),
        ("log_rate", log_rate, 0, 1 << 30),
    ];
    for (key, setting, least, most) in sizes {
        if let Some(bytes) = section.get(key, size_in(least, most)) {
            *setting = bytes;
        }
    }
    limits.request_head_bytes_max = section.get("request_head", size_in(256, 1 << 20));
    limits.session_bytes_max = section.get("session_bytes", size_in(256, 16 << 20));
    if let Some(bytes) = section.get("request_body", size) {
        limits.request_body_bytes_max = bytes;
    }
    if let Some(bytes) = section.get("response_body", or_unlimited(size)) {
        limits.response_body_bytes_max = bytes;
    }
}

fn read_times(section: &mut Section<'_>, limits: &mut GuestLimits) {
    let times: [(&'static str, &mut Duration); 3] = [
        ("deadline", &mut limits.deadline),
        ("wait", &mut limits.wait_max),
        ("stream_silence", &mut limits.stream_silence_max),
    ];
    for (key, setting) in times {
        if let Some(time) = section.get(key, duration) {
            *setting = time;
        }
    }
    if let Some(time) = section.get("cpu_time", or_unlimited(duration)) {
        limits.cpu_time = time;
    }
}

fn read_counts(section: &mut Section<'_>, limits: &mut GuestLimits) {
    let counts: [(&'static str, &mut usize, usize, usize); 4] = [
        (
            "outbound_connections",
            &mut limits.outbound_connections_max,
            1,
            1 << 16,
        ),
        ("instances", &mut limits.instances_max, 1, 1 << 16),
        ("waiting", &mut limits.waiters_max, 0, 1 << 20),
        ("log_lines", &mut limits.log_lines_max, 0, 1 << 20),
    ];
    for (key, setting, least, most) in counts {
        if let Some(number) = section.get(key, count_in(least, most)) {
            *setting = number;
        }
    }
    limits.request_headers_max = section.get("request_headers", count_in(1, 1024));
    limits.session_keys_max = section.get("session_keys", count_in(1, 100_000));
    if let Some(calls) = section.get("outbound_calls", count_in(0, 1 << 20)) {
        limits.outbound_calls_max = u32::try_from(calls).unwrap_or(u32::MAX);
    }
}

/// Refuses a limit of a guest that exceeds the corresponding limit of the host. It would never be reached, so its author must
/// have intended something else.
fn check(section: &Section<'_>, limits: &GuestLimits, shared: HostLimits<'_>) {
    let (server, session) = (shared.server, &shared.session.limits);
    let own_and_shared = [
        (
            "instances",
            Some(limits.instances_max),
            server.instances_max,
            "server.instances",
        ),
        (
            "outbound_connections",
            Some(limits.outbound_connections_max),
            server.outbound_connections_max,
            "server.outbound_connections",
        ),
        (
            "request_head",
            limits.request_head_bytes_max,
            server.listener.head_bytes_max,
            "server.request_head",
        ),
        (
            "request_headers",
            limits.request_headers_max,
            server.listener.headers_max,
            "server.request_headers",
        ),
        (
            "session_bytes",
            limits.session_bytes_max,
            session.session_bytes_max,
            "session.limits.session",
        ),
        (
            "session_keys",
            limits.session_keys_max,
            session.keys_max,
            "session.limits.keys",
        ),
    ];
    for (key, own, most, of_all) in own_and_shared {
        if section.is_given(key) && own.is_some_and(|own| own > most) {
            section.fault(
                key,
                format!("is above {of_all}, which is {most} and applies to all guests"),
                format!("write at most {most}, or raise {of_all}"),
            );
        }
    }
    if section.is_given("wait") && limits.wait_max > limits.deadline {
        section.fault(
            "wait",
            format!("is longer than the deadline of {:?}", limits.deadline),
            "write a shorter time, or raise deadline",
        );
    }
}

/// Reads the word `unlimited`, or a value with `read`.
fn or_unlimited<T>(
    read: impl FnOnce(&Field<'_>) -> Result<T, ValueError>,
) -> impl FnOnce(&Field<'_>) -> Result<Option<T>, ValueError> {
    move |field| {
        if matches!(field.value, TomlValue::Text(text) if text == "unlimited") {
            return Ok(None);
        }
        read(field).map(Some).map_err(|complaint| ValueError {
            remedy: format!("{}, or \"unlimited\"", complaint.remedy),
            ..complaint
        })
    }
}

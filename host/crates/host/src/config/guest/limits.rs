//! `[guest.NAME.limits]`: the limits of one guest. Refuses values that exceed the host's own limits.

use std::time::Duration;

use super::super::server::ServerSettings;
use super::super::session::SessionSettings;
use crate::config_reader::Section;
use crate::config_reader::kinds::{Field, ValueError, count_in, duration, size_in};
use crate::config_reader::source::TomlValue;
use cloakroom_base::limits;
use cloakroom_runtime::{GuestLimits, GuestSettings, StreamPolicy, read_ahead_cost_max};
use cloakroom_session::SessionGrant;

/// The settings of a guest that its limits belong to.
#[derive(Default)]
pub(crate) struct LimitedSettings {
    pub(crate) guest: GuestLimits,
    /// A grant with nothing but its limits.
    pub(crate) session: SessionGrant,
}

/// Defines the keys of the table, in the order in which they are shown. Each has the field of [`LimitedSettings`] that it sets, and
/// its notation.
macro_rules! limit_keys {
    ($($key:literal => $owner:ident.$field:ident: $notation:expr;)*) => {
        impl LimitedSettings {
            /// Reads every key. A limit whose key is not given keeps its default.
            fn read_keys(&mut self, section: &mut Section<'_>) {
                $(section.set($key, &mut self.$owner.$field, $notation.read);)*
            }

            /// Returns every key with its value.
            fn written(&self) -> Vec<(&'static str, String)> {
                vec![$(($key, ($notation.write)(&self.$owner.$field))),*]
            }
        }
    };
}

limit_keys! {
    "deadline" => guest.deadline: time();
    "cpu_time" => guest.cpu_time: time().or_unlimited();
    "memory" => guest.memory_bytes_max: bytes(64 << 10, 4 << 30);
    "instances" => guest.instances_max: count(1, 1 << 16);
    "waiting" => guest.waiters_max: count(0, 1 << 20);
    "wait" => guest.wait_max: time();
    "request_head" => guest.request_head_bytes_max: bytes(256, 1 << 20).or_inherited();
    "request_headers" => guest.request_headers_max: count(1, 1024).or_inherited();
    "request_body" => guest.request_body_bytes_max: bytes(0, usize::MAX);
    "response_body" => guest.response_body_bytes_max: bytes(0, usize::MAX).or_unlimited();
    "replay_body" => guest.replay_bytes_max: bytes(0, 1 << 30);
    "session_bytes" => session.session_bytes_max: bytes(256, 16 << 20).or_inherited();
    "session_keys" => session.keys_max: count(1, 100_000).or_inherited();
    "outbound_calls" => guest.outbound_calls_max: count(0, 1 << 20);
    "outbound_connections" => guest.outbound_connections_max: count(1, 1 << 16);
    "log_lines" => guest.log_lines_max: count(0, 1 << 20);
    "log_line_bytes" => guest.log_line_bytes_max: bytes(1, 1 << 20);
    "log_bytes" => guest.log_bytes_max: bytes(0, 1 << 30);
    "log_rate" => guest.log_bytes_per_s_max: bytes(0, 1 << 30);
    "stream_silence" => guest.stream_silence_max: time();
}

/// Returns the limits of a guest that differ from the defaults: each key, and its value in the notation of the configuration.
pub fn changed_limits(guest: &GuestSettings) -> Vec<(&'static str, String)> {
    let own = LimitedSettings {
        guest: guest.limits.clone(),
        session: SessionGrant::clone(&guest.grants.session),
    };
    let defaults = LimitedSettings::default().written();
    let written = own.written().into_iter().zip(defaults);
    let changed = written.filter(|(own, default)| own != default);
    changed.map(|(own, _)| own).collect()
}

/// How a limit is read and written.
struct LimitNotation<T> {
    read: Box<LimitReader<T>>,
    write: Box<LimitWriter<T>>,
}

type LimitReader<T> = dyn FnOnce(&Field<'_>) -> Result<T, ValueError>;
type LimitWriter<T> = dyn Fn(&T) -> String;

/// A duration.
fn time() -> LimitNotation<Duration> {
    LimitNotation {
        read: Box::new(duration),
        write: Box::new(|time| humantime::format_duration(*time).to_string()),
    }
}

/// A size in bytes within bounds.
fn bytes<T>(least: usize, most: usize) -> LimitNotation<T>
where
    T: TryFrom<usize> + TryInto<u64> + Copy + 'static,
{
    LimitNotation {
        read: Box::new(size_in(least, most)),
        write: Box::new(|bytes: &T| written_size((*bytes).try_into().unwrap_or(u64::MAX))),
    }
}

/// A number within bounds.
fn count<T: TryFrom<usize> + ToString + 'static>(least: usize, most: usize) -> LimitNotation<T> {
    LimitNotation {
        read: Box::new(count_in(least, most)),
        write: Box::new(T::to_string),
    }
}

impl<T: 'static> LimitNotation<T> {
    /// Also accepts the word `unlimited`.
    fn or_unlimited(self) -> LimitNotation<Option<T>> {
        LimitNotation {
            read: Box::new(or_unlimited(self.read)),
            write: or_word(self.write),
        }
    }

    /// Without the key, the limit of the host applies.
    fn or_inherited(self) -> LimitNotation<Option<T>> {
        LimitNotation {
            read: Box::new(|field| (self.read)(field).map(Some)),
            write: or_word(self.write),
        }
    }
}

fn or_word<T: 'static>(write: Box<LimitWriter<T>>) -> Box<LimitWriter<Option<T>>> {
    Box::new(move |value| {
        value
            .as_ref()
            .map_or_else(|| "unlimited".to_owned(), &write)
    })
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

/// Reads the `limits` table of a guest with the given policy. Bodies are read before the guest starts only if it does not stream.
pub(crate) fn read(
    mut section: Section<'_>,
    shared: HostLimits<'_>,
    stream: StreamPolicy,
) -> LimitedSettings {
    let mut limits = LimitedSettings::default();
    limits.read_keys(&mut section);
    check(&section, &limits, shared);
    if stream == StreamPolicy::Buffered
        && let Some((problem, remedy)) = waiting_body(&limits.guest, shared.server)
    {
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

/// Refuses a limit of a guest that exceeds the corresponding limit of the host. It would never be reached, so its author must
/// have intended something else.
fn check(section: &Section<'_>, limits: &LimitedSettings, shared: HostLimits<'_>) {
    let (limits, grant) = (&limits.guest, &limits.session);
    let (server, session) = (shared.server, &shared.session.options);
    let own_and_shared = [
        (
            "instances",
            Some(limits.instances_max),
            server.runtime.instances_max,
            "server.instances",
        ),
        (
            "outbound_connections",
            Some(limits.outbound_connections_max),
            server.runtime.outbound_connections_max,
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
            grant.session_bytes_max,
            session.session_bytes_max,
            "session.limits.session",
        ),
        (
            "session_keys",
            grant.keys_max,
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
        read(field).map(Some).map_err(|error| ValueError {
            remedy: format!("{}, or \"unlimited\"", error.remedy),
            ..error
        })
    }
}

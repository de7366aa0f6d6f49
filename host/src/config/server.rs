//! `listen`, `[server]`, `[limits]` and `[log]`: the listener, the limits that all guests share, and the log.

use std::time::Duration;

use crate::limits;

/// `[server]`: the listener's connections and timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Longest time for a request's head to arrive.
    pub header_timeout: Duration,
    /// Longest time a connection may stay open without a request.
    pub idle_timeout: Duration,
    /// Longest time for requests under way to finish after a signal to stop.
    pub grace: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            header_timeout: limits::HEADER_TIMEOUT,
            idle_timeout: limits::IDLE_TIMEOUT,
            grace: limits::GRACE,
        }
    }
}

/// `[limits]`: what a request may use before its guest is known, and what guests share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Largest request head, in bytes.
    pub request_head_bytes_max: usize,
    /// Most header fields of a request.
    pub request_headers_max: usize,
    /// Longest request target, in bytes.
    pub request_target_bytes_max: usize,
    /// Guest instances at once.
    pub instances_max: usize,
    /// Requests that may wait for an instance.
    pub instance_waiters_max: usize,
    /// Longest wait for an instance.
    pub instance_wait_max: Duration,
    /// Largest session, as the JSON text in its row, in bytes.
    pub session_bytes_max: usize,
    /// Most keys of one session.
    pub session_keys_max: usize,
    /// Longest key of a session, in bytes.
    pub session_key_bytes_max: usize,
    /// Requests that may wait for one session's slot.
    pub slot_waiters_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            request_head_bytes_max: limits::REQUEST_HEAD_BYTES_MAX,
            request_headers_max: limits::REQUEST_HEADERS_MAX,
            request_target_bytes_max: limits::REQUEST_TARGET_BYTES_MAX,
            instances_max: limits::INSTANCES_MAX,
            instance_waiters_max: limits::INSTANCE_WAITERS_MAX,
            instance_wait_max: limits::INSTANCE_WAIT_MAX,
            session_bytes_max: limits::SESSION_BYTES_MAX,
            session_keys_max: limits::SESSION_KEYS_MAX,
            session_key_bytes_max: limits::SESSION_KEY_BYTES_MAX,
            slot_waiters_max: limits::SLOT_WAITERS_MAX,
        }
    }
}

/// `[log]`: what is logged to standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// A filter in `tracing`'s syntax: a level, or `target=level` separated by commas.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

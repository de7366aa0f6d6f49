//! `[guest.NAME]`: a component, what it is granted and its limits.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// One `[guest.NAME]`.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestSettings {
    /// Its name: letters, digits, `-` and `_`, at most 64.
    pub name: String,
    /// The component's file, as given on the command line or relative to the configuration's directory.
    pub component: PathBuf,
    /// What it may do with sessions.
    pub session: SessionAccess,
    /// The keys it may read: exact or with a trailing `*`; empty for all.
    pub read_keys: Vec<String>,
    /// The keys it may write: exact or with a trailing `*`; empty for all.
    pub write_keys: Vec<String>,
    /// The hosts it may send requests to; empty for none.
    pub outbound_hosts: Vec<String>,
    /// Its environment variables. The values may be secrets.
    pub environment: Vec<(String, String)>,
    /// Whether it takes its session's slot before it starts.
    pub exclusive: bool,
    /// Whether its response leaves with the first body bytes.
    pub stream: bool,
    /// Its limits.
    pub limits: GuestLimits,
}

impl std::fmt::Debug for GuestSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variables: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("GuestSettings")
            .field("name", &self.name)
            .field("component", &self.component)
            .field("session", &self.session)
            .field("read_keys", &self.read_keys)
            .field("write_keys", &self.write_keys)
            .field("outbound_hosts", &self.outbound_hosts)
            .field("environment", &variables)
            .field("exclusive", &self.exclusive)
            .field("stream", &self.stream)
            .field("limits", &self.limits)
            .finish()
    }
}

/// `session` of a guest: what it may do with its visitors' sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAccess {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// `limits` of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    /// Longest time from a request's head to its answer's release.
    pub deadline: Duration,
    /// Largest linear memory of an instance, in bytes.
    pub memory_bytes_max: usize,
    /// Largest request body, in bytes.
    pub request_body_bytes_max: u64,
    /// Largest response body, in bytes; `None` for no limit.
    pub response_body_bytes_max: Option<u64>,
    /// Largest part of a request body that is kept for a re-run, in bytes.
    pub replay_bytes_max: usize,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            deadline: limits::DEADLINE,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            request_body_bytes_max: limits::REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: None,
            replay_bytes_max: limits::REPLAY_BYTES_MAX,
        }
    }
}

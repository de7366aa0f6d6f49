//! What can be set: for the runtime as a whole ([`Options`]) and for one guest ([`GuestSettings`], [`Limits`]). Knows no
//! configuration file; `app` fills these in.

use std::path::PathBuf;
use std::time::Duration;

use super::compiler::Compiler;
use super::outbound::OutboundHost;
use crate::limits;
use crate::session::{Grant, Start};

/// What holds for all guests of a [`super::Runtime`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Instances at once, for each of the two engines.
    pub instances_max: usize,
    /// Requests that may wait for an instance; more are refused at once.
    pub instance_waiters_max: usize,
    /// Longest wait for an instance.
    pub instance_wait_max: Duration,
    /// The largest [`Limits::memory_bytes_max`] of any guest: the slots of the pool are cut to it. In bytes.
    pub memory_bytes_max: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// Longest time for compiling one component in a child process.
    pub compile_timeout: Duration,
    /// The folder in which compiled code is kept; `None`: nowhere.
    pub code_cache: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            instances_max: limits::INSTANCES_MAX,
            instance_waiters_max: limits::INSTANCE_WAITERS_MAX,
            instance_wait_max: limits::INSTANCE_WAIT_MAX,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            compiler: Compiler::InProcess,
            compile_timeout: limits::COMPILE_TIMEOUT,
            code_cache: None,
        }
    }
}

/// What bounds one guest.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest time to the release of an answer; after it, longest time a guest may compute between two pieces of a body.
    pub deadline: Duration,
    /// Largest memory of an instance, all its linear memories together, in bytes.
    pub memory_bytes_max: usize,
    /// Largest request body, in bytes; enforced while it is read.
    pub request_body_bytes_max: u64,
    /// Largest response body, in bytes; `None`: unlimited.
    pub response_body_bytes_max: Option<u64>,
    /// How much of a request body is kept for another run, in bytes; a longer body makes the request run once only.
    pub replay_bytes_max: usize,
    /// Longest silence of a released body before it is cut: an event stream sends a comment line more often than this.
    pub stream_silence_max: Duration,
    /// Log lines kept of one run, stdout and stderr together; of a released stream, lines a minute.
    pub log_lines_max: usize,
    /// Longest log line, in bytes; longer ones are cut.
    pub log_line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: limits::DEADLINE,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            request_body_bytes_max: limits::REQUEST_BODY_BYTES_MAX,
            response_body_bytes_max: None,
            replay_bytes_max: limits::REPLAY_BYTES_MAX,
            stream_silence_max: limits::STREAM_SILENCE_MAX,
            log_lines_max: limits::LOG_LINES_MAX,
            log_line_bytes_max: limits::LOG_LINE_BYTES_MAX,
        }
    }
}

/// When an answer leaves before its guest is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamPolicy {
    /// When its body passes [`limits::RELEASE_BYTES`], or with the first bytes of an event stream.
    #[default]
    Buffered,
    /// With the first bytes of any body.
    Streamed,
}

/// One guest, as configured.
#[derive(Clone, Debug)]
pub struct GuestSettings {
    /// What routes, logs and metrics call it.
    pub name: String,
    /// The file of the component.
    pub component: PathBuf,
    /// What it may do with the session.
    pub grant: Grant,
    /// Whether its requests wait for their turn before they start.
    pub start: Start,
    /// When its answers leave.
    pub stream: StreamPolicy,
    /// The hosts it may send HTTP requests to; none by default.
    pub outbound_hosts: Vec<OutboundHost>,
    /// Its environment variables; it sees no others.
    pub environment: Vec<(String, String)>,
    /// What bounds it.
    pub limits: Limits,
}

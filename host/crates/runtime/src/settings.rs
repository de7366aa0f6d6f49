//! Settings of the runtime as a whole ([`RuntimeOptions`]) and the limits of one guest ([`GuestLimits`]). This module does not read
//! the configuration file. `app` fills these types in.

use std::path::PathBuf;
use std::time::Duration;

use cloakroom_base::limits;

/// Settings that apply to all guests of a [`super::Runtime`].
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Most instances that run at once, for each of the two engines.
    pub instances_max: usize,
    /// Most requests that may wait for an instance. Further requests are refused at once.
    pub instance_waiters_max: usize,
    /// Longest wait for an instance.
    pub instance_wait_max: Duration,
    /// Most idle instances, for each of the two engines. The pool has slots for them in addition to those of
    /// `instances_max`.
    pub parked_instances_max: usize,
    /// Longest time that an instance stays idle.
    pub parked_idle_max: Duration,
    /// The largest [`GuestLimits::memory_bytes_max`] that a guest may have, in bytes. The pool's memory slots have this
    /// size.
    pub memory_bytes_max: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// Longest time for compiling one component in a child process.
    pub compile_timeout: Duration,
    /// The folder of the compiled-code cache. `None` disables the cache.
    pub code_cache: Option<PathBuf>,
    /// Most outgoing connections at once, over all guests.
    pub outbound_connections_max: usize,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            instances_max: limits::INSTANCES_MAX,
            instance_waiters_max: limits::INSTANCE_WAITERS_MAX,
            instance_wait_max: limits::INSTANCE_WAIT_MAX,
            parked_instances_max: limits::PARKED_INSTANCES_MAX,
            parked_idle_max: limits::PARKED_IDLE_MAX,
            memory_bytes_max: limits::MEMORY_BYTES_MAX,
            compiler: Compiler::InProcess,
            compile_timeout: limits::COMPILE_TIMEOUT,
            code_cache: None,
            outbound_connections_max: limits::OUTBOUND_CONNECTIONS_MAX,
        }
    }
}

/// The place where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// This process, without a time limit. For tests, whose binary has no compile command.
    #[default]
    InProcess,
    /// A child process.
    Child {
        /// The host's binary. `/proc/self/exe` is this very binary, even after its file was replaced.
        exe: PathBuf,
    },
}

/// The limits of one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLimits {
    /// Longest time until a response is released. After the release: longest time the guest may compute between two
    /// pieces of the body.
    pub deadline: Duration,
    /// Longest time that all runs for one request may compute, including the released body. With `None`, only the
    /// deadline limits it.
    pub cpu_time: Option<Duration>,
    /// Largest memory of an instance, in bytes: the sum of its linear memories.
    pub memory_bytes_max: usize,
    /// Most instances that run at once.
    pub instances_max: usize,
    /// Most requests that may wait for an instance of this guest. Further requests are refused at once.
    pub waiters_max: usize,
    /// Longest wait for an instance of this guest.
    pub wait_max: Duration,
    /// Largest request head, in bytes, if that is below the host's own limit.
    pub request_head_bytes_max: Option<usize>,
    /// Most header fields of a request, if that is below the host's own limit.
    pub request_headers_max: Option<usize>,
    /// Largest request body, in bytes. The limit is enforced while the body is read.
    pub request_body_bytes_max: u64,
    /// Largest response body, in bytes. `None` means unlimited.
    pub response_body_bytes_max: Option<u64>,
    /// Bytes of a request body that are kept for another run. A request with a longer body can run only once.
    pub replay_bytes_max: usize,
    /// Most outgoing requests that the guest may send while it serves one request. Further ones return an error to the
    /// guest.
    pub outbound_calls_max: u32,
    /// Most outgoing connections at once, over all requests of the guest. A call beyond this limit waits for a moment
    /// and then fails.
    pub outbound_connections_max: usize,
    /// Longest silence of a released body before it is cut. An event stream must send a comment line more often than
    /// this.
    pub stream_silence_max: Duration,
    /// Log lines kept of one run, stdout and stderr together. For a released stream: log lines per minute.
    pub log_lines_max: usize,
    /// Longest log line, in bytes. Longer lines are cut.
    pub log_line_bytes_max: usize,
    /// Bytes of log lines kept of one run. For a released stream: bytes per minute.
    pub log_bytes_max: usize,
    /// Bytes per second that all runs of the guest together may log.
    pub log_bytes_per_s_max: usize,
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
            outbound_calls_max: limits::OUTBOUND_CALLS_MAX,
            outbound_connections_max: limits::GUEST_OUTBOUND_CONNECTIONS_MAX,
            stream_silence_max: limits::STREAM_SILENCE_MAX,
            log_lines_max: limits::LOG_LINES_MAX,
            log_line_bytes_max: limits::LOG_LINE_BYTES_MAX,
            log_bytes_max: limits::LOG_BYTES_MAX,
            log_bytes_per_s_max: limits::LOG_BYTES_PER_S_MAX,
        }
    }
}

/// When a response is released before its guest is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamPolicy {
    /// When its body passes [`limits::RELEASE_BYTES`], or with the first bytes of an event stream.
    #[default]
    Buffered,
    /// With the first bytes of any body.
    Streamed,
}

//! Settings of the runtime as a whole ([`RuntimeOptions`]) and the limits of one guest ([`GuestLimits`]). The configuration
//! fills these types in.

use std::path::PathBuf;
use std::time::Duration;

use cloakroom_base::limits;

cloakroom_base::options! {
    /// Settings that apply to all guests of a [`super::Runtime`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct RuntimeOptions {
        /// Most instances that run at once, for each of the two engines.
        pub instances_max: usize = limits::INSTANCES_MAX,
        /// Most requests that may wait for an instance. Further requests are refused at once.
        pub instance_waiters_max: usize = limits::INSTANCE_WAITERS_MAX,
        /// Longest wait for an instance.
        pub instance_wait_max: Duration = limits::INSTANCE_WAIT_MAX,
        /// Most idle instances, for each of the two engines. The pool has slots for them in addition to those of
        /// `instances_max`.
        pub idle_instances_max: usize = limits::IDLE_INSTANCES_MAX,
        /// Longest time that an instance stays idle.
        pub instance_idle_max: Duration = limits::INSTANCE_IDLE_MAX,
        /// The largest [`GuestLimits::memory_bytes_max`] that a guest may have, in bytes. The pool's memory slots have this
        /// size.
        pub memory_bytes_max: usize = limits::MEMORY_BYTES_MAX,
        /// Time that a run may compute before it continues in the background pool. Only measurements change it.
        pub background_after: Duration = limits::BACKGROUND_THRESHOLD,
        /// Where components are compiled.
        pub compiler: Compiler = Compiler::InProcess,
        /// Longest time for compiling one component in a child process.
        pub compile_timeout: Duration = limits::COMPILE_TIMEOUT,
        /// The folder of the compiled-code cache. `None` disables the cache.
        pub code_cache: Option<PathBuf> = None,
        /// Most outgoing connections at once, over all guests.
        pub outbound_connections_max: usize = limits::OUTBOUND_CONNECTIONS_MAX,
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

cloakroom_base::options! {
    /// The limits of one guest.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GuestLimits {
        /// Longest time until a response is released. After the release: longest time the guest may compute between two
        /// pieces of the body.
        pub deadline: Duration = limits::DEADLINE,
        /// Longest time that all runs for one request may compute, including the released body. With `None`, only the
        /// deadline limits it.
        pub cpu_time: Option<Duration> = None,
        /// Largest memory of an instance, in bytes: the sum of its linear memories.
        pub memory_bytes_max: usize = limits::MEMORY_BYTES_MAX,
        /// Most instances that run at once.
        pub instances_max: usize = limits::GUEST_INSTANCES_MAX,
        /// Most requests that may wait for an instance of this guest. Further requests are refused at once.
        pub waiters_max: usize = limits::GUEST_WAITERS_MAX,
        /// Longest wait for an instance of this guest.
        pub wait_max: Duration = limits::INSTANCE_WAIT_MAX,
        /// Largest request head, in bytes, if that is below the host's own limit.
        pub request_head_bytes_max: Option<usize> = None,
        /// Most header fields of a request, if that is below the host's own limit.
        pub request_headers_max: Option<usize> = None,
        /// Largest request body, in bytes. The limit is enforced while the body is read.
        pub request_body_bytes_max: u64 = limits::REQUEST_BODY_BYTES_MAX,
        /// Largest response body, in bytes. `None` means unlimited.
        pub response_body_bytes_max: Option<u64> = None,
        /// Bytes of a request body that are kept for another run. A request with a longer body can run only once.
        pub replay_bytes_max: usize = limits::REPLAY_BYTES_MAX,
        /// Most outgoing requests that the guest may send while it serves one request. Further ones return an error to the
        /// guest.
        pub outbound_calls_max: u32 = limits::OUTBOUND_CALLS_MAX,
        /// Most outgoing connections at once, over all requests of the guest. A call beyond this limit waits for a moment
        /// and then fails.
        pub outbound_connections_max: usize = limits::GUEST_OUTBOUND_CONNECTIONS_MAX,
        /// Longest silence of a released body before it is cut. An event stream must send a comment line more often than
        /// this.
        pub stream_silence_max: Duration = limits::STREAM_SILENCE_MAX,
        /// Log lines kept of one run, stdout and stderr together. For a released stream: log lines per minute.
        pub log_lines_max: usize = limits::LOG_LINES_MAX,
        /// Longest log line, in bytes. Longer lines are cut.
        pub log_line_bytes_max: usize = limits::LOG_LINE_BYTES_MAX,
        /// Bytes of log lines kept of one run. For a released stream: bytes per minute.
        pub log_bytes_max: usize = limits::LOG_BYTES_MAX,
        /// Bytes per second that all runs of the guest together may log.
        pub log_bytes_per_s_max: usize = limits::LOG_BYTES_PER_S_MAX,
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

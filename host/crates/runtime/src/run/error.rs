//! The ways in which a run of a guest fails, and the party at fault. This module knows no HTTP status; the handler maps failures to
//! statuses.

use std::fmt;
use std::time::Duration;

use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::interfaces::context::CALL_BYTES_MAX;
use crate::interfaces::session::SessionInterrupt;
use crate::run::health::RequestOutcome;
use cloakroom_base::telemetry::cut;

/// Longest text from a guest that an error repeats, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// The reason why a run gave no response, or why a released response broke off.
///
/// `Display` may include the guest's own text (of an error code), truncated. It includes nothing of the request, the session or the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestFailure {
    /// The guest trapped: a panic, an `unreachable`, a stack overflow, a call that the host refuses.
    #[error("the guest trapped: {reason}")]
    Trap {
        /// A description of the trap.
        reason: String,
    },
    /// The guest trapped after it was refused memory.
    #[error(
        "the guest trapped after it was refused memory beyond its limit of {memory_bytes_max} bytes, which includes its linear \
         memory and the data that the host keeps for it"
    )]
    MemoryRefused {
        /// The limit, in bytes.
        memory_bytes_max: usize,
    },
    /// The guest ended its process instead of answering.
    #[error("the guest exited with status {status}")]
    Exit {
        /// The status that the guest passed to `exit`.
        status: i32,
    },
    /// The guest returned without setting a response.
    #[error("the guest returned without a response")]
    NoResponse,
    /// The guest returned an error code instead of a response.
    #[error("the guest answered with an error code: {code}")]
    ErrorCode {
        /// The code's name and text.
        code: String,
    },
    /// The guest's response cannot be sent. Its status is informational, or its body was dropped unfinished or does not have the length
    /// that its `content-length` promises.
    #[error("the guest's response cannot be sent: {reason}")]
    BadResponse {
        /// The defect of the response.
        reason: &'static str,
    },
    /// The response body exceeded the guest's limit.
    #[error("the guest's response body passed its limit of {bytes_max} bytes")]
    ResponseTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The header fields of the response exceeded the host's limit.
    #[error(
        "the guest's response has a head of {bytes} bytes, and the limit is {bytes_max} (names and values, and 32 bytes for each \
         field)"
    )]
    ResponseHeadTooLarge {
        /// The size of the header fields, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The request body exceeded the guest's limit while it was read.
    #[error("the request body passed the limit of {bytes_max} bytes")]
    RequestBodyTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The client disconnected before its body was complete, or sent unreadable bytes.
    #[error("the request body broke off")]
    RequestBodyBrokeOff,
    /// The client sent its body more slowly than allowed.
    #[error("the request body came too slowly")]
    RequestBodyTooSlow,
    /// The guest waited for its client, as did too many other runs. This client was the slowest while requests were queued.
    #[error(
        "the guest waited for its client, which was too slow, while requests waited for an instance"
    )]
    ClientTooSlow,
    /// The host already holds as many bytes of request bodies as it may.
    #[error("the host has no room to keep the request body")]
    NoRoomForBody,
    /// No instance became free in time.
    #[error("no instance was free")]
    NoInstance,
    /// The guest did not release a response before the deadline.
    #[error("the guest did not answer in time")]
    Deadline,
    /// The guest's runs for one request computed for longer than the guest's limit.
    #[error("the guest used up its {cpu_time:?} of processor time")]
    CpuTime {
        /// The limit.
        cpu_time: Duration,
    },
    /// The guest's released response made no progress for too long.
    #[error("the guest's released response made no progress")]
    Stalled,
    /// The guest's released response was cut because its version was replaced and the drain limit has passed.
    #[error("the guest's version was replaced, and this response exceeded its drain limit")]
    DrainTimeout,
    /// A session call stopped the run. The transaction knows the reason and the next step.
    #[error("the run was stopped by its session")]
    Interrupted,
}

/// The party that has to act on a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultParty {
    /// The guest author.
    Guest,
    /// The operator of the host: there are too few instances, or the host has a defect.
    Host,
    /// The client that sent the request.
    Client,
}

impl GuestFailure {
    /// Returns the party at fault.
    pub fn fault(&self) -> FaultParty {
        match self {
            Self::RequestBodyTooLarge { .. }
            | Self::RequestBodyBrokeOff
            | Self::RequestBodyTooSlow
            | Self::ClientTooSlow => FaultParty::Client,
            Self::NoInstance | Self::NoRoomForBody | Self::DrainTimeout | Self::Interrupted => {
                FaultParty::Host
            }
            _ => FaultParty::Guest,
        }
    }

    /// Returns the request outcome that counts for the guest's version, or `None` if the guest is not to blame.
    pub fn outcome(&self) -> Option<RequestOutcome> {
        match self {
            Self::Trap { .. } | Self::MemoryRefused { .. } | Self::Exit { .. } => {
                Some(RequestOutcome::Trapped)
            }
            Self::NoResponse
            | Self::ErrorCode { .. }
            | Self::BadResponse { .. }
            | Self::ResponseTooLarge { .. }
            | Self::ResponseHeadTooLarge { .. } => Some(RequestOutcome::Errored),
            Self::Deadline | Self::CpuTime { .. } | Self::Stalled => Some(RequestOutcome::Late),
            Self::RequestBodyTooLarge { .. }
            | Self::RequestBodyBrokeOff
            | Self::RequestBodyTooSlow
            | Self::ClientTooSlow
            | Self::NoRoomForBody
            | Self::NoInstance
            | Self::Interrupted
            | Self::DrainTimeout => None,
        }
    }

    /// Returns a short fixed name, for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::MemoryRefused { .. } => "memory-refused",
            Self::Exit { .. } => "exit",
            Self::NoResponse => "no-response",
            Self::ErrorCode { .. } => "error-code",
            Self::BadResponse { .. } => "bad-response",
            Self::ResponseTooLarge { .. } => "response-too-large",
            Self::ResponseHeadTooLarge { .. } => "response-head-too-large",
            Self::RequestBodyTooLarge { .. } => "request-body-too-large",
            Self::RequestBodyBrokeOff => "request-body-broke-off",
            Self::RequestBodyTooSlow => "request-body-too-slow",
            Self::ClientTooSlow => "client-too-slow",
            Self::NoRoomForBody => "no-room-for-body",
            Self::NoInstance => "no-instance",
            Self::Deadline => "deadline",
            Self::CpuTime { .. } => "cpu-time",
            Self::Stalled => "stalled",
            Self::DrainTimeout => "seen-out",
            Self::Interrupted => "interrupted",
        }
    }

    pub(crate) fn error_code(code: impl fmt::Debug) -> Self {
        let code = format!("{code:?}");
        Self::ErrorCode {
            code: cut(&code, TEXT_BYTES_MAX).0.to_owned(),
        }
    }
}

/// Classifies an error that came out of wasm.
pub(crate) fn classify(error: &wasmtime::Error, refused_memory: Option<usize>) -> GuestFailure {
    if error.is::<SessionInterrupt>() {
        return GuestFailure::Interrupted;
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return GuestFailure::NoInstance;
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return GuestFailure::Exit { status: exit.0 };
    }
    if let Some(memory_bytes_max) = refused_memory {
        return GuestFailure::MemoryRefused { memory_bytes_max };
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) => GuestFailure::Trap {
            reason: trap.to_string(),
        },
        // A host function refused a call: too many resources, too much data in one call, or a misused handle.
        None => GuestFailure::Trap {
            reason: refusal(error),
        },
    }
}

/// Returns why a host function refused a call. For two of the reasons, wasmtime's own texts do not name the limit.
fn refusal(error: &wasmtime::Error) -> String {
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return "the guest holds as many resources (header fields, bodies, pollables) as its memory limit allows".to_owned();
    }
    let text = error.root_cause().to_string();
    // The type of this error is private.
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        return format!(
            "one call may pass {CALL_BYTES_MAX} bytes to the host, and this one passed more"
        );
    }
    cut(&text, TEXT_BYTES_MAX).0.to_owned()
}

/// Returns the guest functions that were running, innermost first, for the guest's log.
pub(crate) fn backtrace(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    let names: Vec<String> = backtrace
        .frames()
        .iter()
        .take(16)
        .map(|frame| {
            let name = frame.func_name().unwrap_or("?");
            cut(name, TEXT_BYTES_MAX).0.to_owned()
        })
        .collect();
    (!names.is_empty()).then(|| names.join(" < "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_recognised_by_its_type_not_its_text() {
        let interrupted = wasmtime::Error::from(SessionInterrupt).context("in a session call");
        assert_eq!(classify(&interrupted, None), GuestFailure::Interrupted);
        let exit = wasmtime::Error::from(I32Exit(3));
        assert_eq!(classify(&exit, None), GuestFailure::Exit { status: 3 });
        let trap = wasmtime::Error::from(Trap::UnreachableCodeReached);
        assert_eq!(
            classify(&trap, Some(7)),
            GuestFailure::MemoryRefused {
                memory_bytes_max: 7
            }
        );
        assert!(matches!(classify(&trap, None), GuestFailure::Trap { .. }));
    }

    #[test]
    fn the_error_text_of_a_guest_is_cut_at_its_limit() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let failure = GuestFailure::error_code(&long).to_string();
        assert!(failure.len() < TEXT_BYTES_MAX + 100, "{failure}");
        let failure = classify(&wasmtime::Error::msg(long), None).to_string();
        assert!(failure.len() < TEXT_BYTES_MAX + 100, "{failure}");
    }
}

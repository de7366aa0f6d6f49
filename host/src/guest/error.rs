//! How a run of a guest fails, and whose fault it is. Knows no HTTP status: the handler maps these in one place.

use std::fmt;
use std::time::Duration;

use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::context::CALL_BYTES_MAX;
use super::health::Conduct;
use crate::telemetry::cut;

/// Longest text of a guest's making that an error repeats, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// Why a run gave no answer, or why a released answer broke off.
///
/// `Display` carries the guest's own text (of an error code), cut, and nothing of the request, the session or the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestFailure {
    /// The guest trapped: a panic, an `unreachable`, a stack overflow, a call that the host refuses.
    #[error("the guest trapped: {reason}")]
    Trap {
        /// What the trap was.
        reason: String,
    },
    /// The guest trapped after it was refused memory.
    #[error(
        "the guest trapped after it was refused memory beyond its limit of {memory_bytes_max} bytes, which counts its linear \
         memory and what the host keeps for it"
    )]
    MemoryRefused {
        /// The limit, in bytes.
        memory_bytes_max: usize,
    },
    /// The guest ended its process instead of answering.
    #[error("the guest exited with status {status}")]
    Exit {
        /// What it gave to `exit`.
        status: i32,
    },
    /// The guest returned without having set a response.
    #[error("the guest returned without a response")]
    NoResponse,
    /// The guest answered with an error code in place of a response.
    #[error("the guest answered with an error code: {code}")]
    ErrorCode {
        /// The code's name and text.
        code: String,
    },
    /// The guest's response cannot be sent: an informational status, a body that was dropped unfinished or is not as long
    /// as its `content-length` promises.
    #[error("the guest's response cannot be sent: {reason}")]
    BadResponse {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The response body passed the guest's limit.
    #[error("the guest's response body passed its limit of {bytes_max} bytes")]
    ResponseTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The fields of the response's head passed the host's limit.
    #[error(
        "the guest's response has a head of {bytes} bytes, and the limit is {bytes_max} (names and values, and 32 bytes for each \
         field)"
    )]
    ResponseHeadTooLarge {
        /// Its size, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The request body passed the guest's limit while it was read.
    #[error("the request body passed the limit of {bytes_max} bytes")]
    RequestBodyTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// The client left before its body was complete, or sent what cannot be read.
    #[error("the request body broke off")]
    RequestBodyBrokeOff,
    /// The client sent its body more slowly than it may.
    #[error("the request body came too slowly")]
    RequestBodyTooSlow,
    /// The guest waited for its client, and so did too many others: this client was the slowest, and requests queued.
    #[error(
        "the guest waited for its client, which was too slow, while requests waited for an instance"
    )]
    ClientTooSlow,
    /// The host keeps as many bytes of request bodies as it may.
    #[error("the host has no room to keep the request body")]
    NoRoomForBody,
    /// No instance was free in time.
    #[error("no instance was free")]
    NoInstance,
    /// The guest did not release an answer within the deadline.
    #[error("the guest did not answer in time")]
    Deadline,
    /// The guest's runs for one request computed for longer than its limit.
    #[error("the guest used up its {cpu_time:?} of processor time")]
    CpuTime {
        /// The limit.
        cpu_time: Duration,
    },
    /// The guest's released answer made no progress for too long.
    #[error("the guest's released answer stood still")]
    Stalled,
    /// The guest's released answer was cut, because its version was replaced and had its time to finish.
    #[error("the guest's version was replaced, and this answer outlasted its drain limit")]
    SeenOut,
    /// A session call asked for the run to stop: the transaction knows why and what comes next.
    #[error("the run was stopped by its session")]
    Interrupted,
}

/// Who has to do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The guest's author.
    Guest,
    /// Who runs the host: too few instances, or a defect of ours.
    Host,
    /// Who sent the request.
    Client,
}

impl GuestFailure {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::RequestBodyTooLarge { .. }
            | Self::RequestBodyBrokeOff
            | Self::RequestBodyTooSlow
            | Self::ClientTooSlow => Fault::Client,
            Self::NoInstance | Self::NoRoomForBody | Self::SeenOut | Self::Interrupted => {
                Fault::Host
            }
            _ => Fault::Guest,
        }
    }

    /// What it says of the guest's version; nothing where the guest is not to blame.
    pub fn conduct(&self) -> Option<Conduct> {
        match self {
            Self::Trap { .. } | Self::MemoryRefused { .. } | Self::Exit { .. } => {
                Some(Conduct::Trapped)
            }
            Self::NoResponse
            | Self::ErrorCode { .. }
            | Self::BadResponse { .. }
            | Self::ResponseTooLarge { .. }
            | Self::ResponseHeadTooLarge { .. } => Some(Conduct::Errored),
            Self::Deadline | Self::CpuTime { .. } | Self::Stalled => Some(Conduct::Late),
            Self::RequestBodyTooLarge { .. }
            | Self::RequestBodyBrokeOff
            | Self::RequestBodyTooSlow
            | Self::ClientTooSlow
            | Self::NoRoomForBody
            | Self::NoInstance
            | Self::Interrupted
            | Self::SeenOut => None,
        }
    }

    /// A short fixed name, for metrics and logs.
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
            Self::SeenOut => "seen-out",
            Self::Interrupted => "interrupted",
        }
    }

    pub(super) fn error_code(code: impl fmt::Debug) -> Self {
        let code = format!("{code:?}");
        Self::ErrorCode {
            code: cut(&code, TEXT_BYTES_MAX).0.to_owned(),
        }
    }
}

/// What a session call returns to stop its run; travels through wasm as a trap.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the session stopped the run")]
pub(super) struct SessionInterrupt;

/// What becomes of an error that came out of wasm.
pub(super) fn classify(error: &wasmtime::Error, refused_memory: Option<usize>) -> GuestFailure {
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
        // A host function that refuses a call ends here: too many resources, too much data in one call, a misused handle.
        None => GuestFailure::Trap {
            reason: refusal(error),
        },
    }
}

/// Why a host function refused a call. wasmtime's own texts for two of the reasons name no limit.
fn refusal(error: &wasmtime::Error) -> String {
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return "the guest holds as many resources (header fields, bodies, pollables) as its memory limit allows".to_owned();
    }
    let text = error.root_cause().to_string();
    // Its type is private.
    if text.contains("fuel allocated for hostcalls has been exhausted") {
        return format!(
            "one call may pass {CALL_BYTES_MAX} bytes to the host, and this one passed more"
        );
    }
    cut(&text, TEXT_BYTES_MAX).0.to_owned()
}

/// The functions of the guest that were running, innermost first: for the guest's log.
pub(super) fn backtrace(error: &wasmtime::Error) -> Option<String> {
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
    fn a_guests_text_is_repeated_up_to_its_bound() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let failure = GuestFailure::error_code(&long).to_string();
        assert!(failure.len() < TEXT_BYTES_MAX + 100, "{failure}");
        let failure = classify(&wasmtime::Error::msg(long), None).to_string();
        assert!(failure.len() < TEXT_BYTES_MAX + 100, "{failure}");
    }
}

//! The host's own responses to problems with a request. One match maps every problem to its response.
//!
//! An error has two audiences. The client receives a status, a sentence and the request's id. The log receives the details.
//! Internal details (a trap's text, a store's error, a path) are never sent to the client.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::screen::ScreenReject;
use cloakroom_base::limits;
use cloakroom_runtime::GuestFailure;
use cloakroom_session::TransactionRefusal;

/// The reason why the host sends its own response instead of a guest's.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The request validation refused the request.
    Rejected(ScreenReject),
    /// No route matches the path.
    NoRoute,
    /// Routes match the path, but none of them accepts the method.
    MethodNotAllowed {
        /// The methods that these routes accept.
        allow: HeaderValue,
    },
    /// The route's guest is not available.
    NoGuest,
    /// The request head exceeds the guest's limits.
    HeadTooLarge,
    /// The limit of concurrent requests is reached.
    Overloaded,
    /// `Content-Length` exceeds the guest's limit.
    BodyTooLarge,
    /// The guest did not return a response.
    Guest(GuestFailure),
    /// The session could not be committed.
    Session(TransactionRefusal),
    /// The host panicked.
    Panic,
}

/// The parts of an error response.
struct ErrorResponse {
    status: StatusCode,
    /// The name for the log and for metrics.
    kind: &'static str,
    /// The sentence for the client.
    sentence: &'static str,
}

/// Whether a retry after a short time may help.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RetryHint {
    MayHelp,
    WillNotHelp,
}

impl Problem {
    pub(crate) fn status(&self) -> StatusCode {
        self.verdict().status
    }

    /// Returns a short fixed name for the log.
    pub(crate) fn kind(&self) -> &'static str {
        self.verdict().kind
    }

    /// Returns the headers and the body of the response.
    pub(crate) fn answer(&self, request_id: &str) -> (HeaderMap, String) {
        let ErrorResponse {
            status, sentence, ..
        } = self.verdict();
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(ALLOW, allow.clone());
        }
        if self.later() == RetryHint::MayHelp {
            headers.insert(RETRY_AFTER, HeaderValue::from(limits::RETRY_AFTER_S));
        }
        (
            headers,
            format!("{status}\n{sentence}\nRequest {request_id}\n"),
        )
    }

    fn later(&self) -> RetryHint {
        match self.status() {
            StatusCode::SERVICE_UNAVAILABLE => RetryHint::MayHelp,
            _ => RetryHint::WillNotHelp,
        }
    }

    fn verdict(&self) -> ErrorResponse {
        let (status, kind, sentence) = match self {
            Self::Rejected(ScreenReject::Malformed(what)) => {
                (StatusCode::BAD_REQUEST, "malformed", *what)
            }
            Self::Rejected(ScreenReject::TargetTooLong) => (
                StatusCode::URI_TOO_LONG,
                "target-too-long",
                "The address is too long.",
            ),
            Self::Rejected(ScreenReject::HeadTooLarge) | Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                "The request's headers are too large.",
            ),
            Self::Rejected(ScreenReject::MethodNotImplemented) => (
                StatusCode::NOT_IMPLEMENTED,
                "method-not-implemented",
                "This method is not implemented.",
            ),
            Self::Rejected(ScreenReject::CodingNotImplemented) => (
                StatusCode::NOT_IMPLEMENTED,
                "coding-not-implemented",
                "The only transfer coding that is implemented is chunked.",
            ),
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                "no-route",
                "There is nothing at this address.",
            ),
            Self::MethodNotAllowed { .. } => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "This address does not answer this method.",
            ),
            Self::NoGuest => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no-guest",
                "The handler is not available right now.",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "The host is busy.",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "request-body-too-large",
                "The request's body is too large.",
            ),
            Self::Guest(failure) => return of_guest(failure),
            Self::Session(refusal) => return of_session(*refusal),
            Self::Panic => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "panic",
                "The host failed.",
            ),
        };
        ErrorResponse {
            status,
            kind,
            sentence,
        }
    }
}

fn of_guest(failure: &GuestFailure) -> ErrorResponse {
    let (status, sentence) = match failure {
        GuestFailure::Trap { .. }
        | GuestFailure::MemoryRefused { .. }
        | GuestFailure::Exit { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "The handler failed."),
        // The session's transaction handles interruptions itself, so one that gets here is a defect of the host.
        GuestFailure::Interrupted => (StatusCode::INTERNAL_SERVER_ERROR, "The host failed."),
        GuestFailure::DrainTimeout => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The handler was replaced while it waited for the request's body.",
        ),
        GuestFailure::NoResponse
        | GuestFailure::ErrorCode { .. }
        | GuestFailure::BadResponse { .. }
        | GuestFailure::ResponseTooLarge { .. }
        | GuestFailure::ResponseHeadTooLarge { .. } => (
            StatusCode::BAD_GATEWAY,
            "The handler returned an invalid response.",
        ),
        GuestFailure::RequestBodyTooLarge { .. } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request's body is too large.",
        ),
        GuestFailure::RequestBodyBrokeOff => (
            StatusCode::BAD_REQUEST,
            "The request's body is not complete.",
        ),
        GuestFailure::RequestBodyTooSlow | GuestFailure::ClientTooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "The request's body came too slowly.",
        ),
        GuestFailure::NoInstance | GuestFailure::NoRoomForBody => {
            (StatusCode::SERVICE_UNAVAILABLE, "The host is busy.")
        }
        GuestFailure::Deadline | GuestFailure::CpuTime { .. } | GuestFailure::Stalled => (
            StatusCode::GATEWAY_TIMEOUT,
            "The handler did not answer in time.",
        ),
    };
    ErrorResponse {
        status,
        kind: failure.kind(),
        sentence,
    }
}

fn of_session(refusal: TransactionRefusal) -> ErrorResponse {
    let (status, kind, sentence) = match refusal {
        TransactionRefusal::Conflict => (
            StatusCode::CONFLICT,
            "session-conflict",
            "Another request changed the session meanwhile, and this one must not be repeated automatically.",
        ),
        TransactionRefusal::BodyGone => (
            StatusCode::SERVICE_UNAVAILABLE,
            "session-conflict-body-gone",
            "Another request changed the session meanwhile; nothing was done, so this one can be sent again.",
        ),
        TransactionRefusal::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            "session-busy",
            "Too many requests of this session at once.",
        ),
        TransactionRefusal::StoreUnavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "store-unavailable",
            "Sessions are not available right now.",
        ),
        TransactionRefusal::SeveralSessions => (
            StatusCode::CONFLICT,
            "session-several",
            "The request came with the cookies of several sessions, so nothing was stored. Send it again; if that does not help, \
             delete the cookies of this site.",
        ),
        TransactionRefusal::TooLarge => (
            StatusCode::INSUFFICIENT_STORAGE,
            "session-too-large",
            "The session is too large to be stored.",
        ),
        TransactionRefusal::StoreRefused => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "store-refused",
            "The session store permanently refuses this session; the host's log says why.",
        ),
    };
    ErrorResponse {
        status,
        kind,
        sentence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(problem: Problem) -> u16 {
        problem.status().as_u16()
    }

    #[test]
    fn each_guest_failure_has_the_status_of_the_party_at_fault() {
        let secret = || "table sessions on db1".to_owned();
        let expected = [
            (GuestFailure::Trap { reason: secret() }, 500),
            (
                GuestFailure::MemoryRefused {
                    memory_bytes_max: 1,
                },
                500,
            ),
            (GuestFailure::Exit { status: 1 }, 500),
            (GuestFailure::NoResponse, 502),
            (GuestFailure::ErrorCode { code: secret() }, 502),
            (GuestFailure::BadResponse { reason: "x" }, 502),
            (GuestFailure::ResponseTooLarge { bytes_max: 1 }, 502),
            (
                GuestFailure::ResponseHeadTooLarge {
                    bytes: 2,
                    bytes_max: 1,
                },
                502,
            ),
            (GuestFailure::RequestBodyTooLarge { bytes_max: 1 }, 413),
            (GuestFailure::RequestBodyBrokeOff, 400),
            (GuestFailure::RequestBodyTooSlow, 408),
            (GuestFailure::ClientTooSlow, 408),
            (GuestFailure::NoRoomForBody, 503),
            (GuestFailure::DrainTimeout, 503),
            (GuestFailure::NoInstance, 503),
            (GuestFailure::Deadline, 504),
            (
                GuestFailure::CpuTime {
                    cpu_time: std::time::Duration::from_secs(1),
                },
                504,
            ),
        ];
        for (failure, code) in expected {
            let problem = Problem::Guest(failure);
            let (headers, text) = problem.answer("r1");
            assert_eq!(status(problem), code);
            assert!(
                !text.contains("db1"),
                "no inner detail reaches the client: {text}"
            );
            assert_eq!(headers.contains_key(RETRY_AFTER), code == 503);
        }
    }

    #[test]
    fn each_transaction_refusal_has_its_status_and_retry_after() {
        let retry = |refusal| {
            let problem = Problem::Session(refusal);
            (
                problem.status().as_u16(),
                problem.answer("r1").0.contains_key(RETRY_AFTER),
            )
        };
        assert_eq!(retry(TransactionRefusal::Conflict), (409, false));
        assert_eq!(retry(TransactionRefusal::BodyGone), (503, true));
        assert_eq!(retry(TransactionRefusal::Busy), (503, true));
        assert_eq!(retry(TransactionRefusal::StoreUnavailable), (503, true));
        assert_eq!(retry(TransactionRefusal::SeveralSessions), (409, false));
        assert_eq!(retry(TransactionRefusal::TooLarge), (507, false));
        assert_eq!(retry(TransactionRefusal::StoreRefused), (500, false));
    }

    #[test]
    fn each_refusal_before_the_guest_has_its_status() {
        assert_eq!(status(Problem::Rejected(ScreenReject::Malformed("x"))), 400);
        assert_eq!(status(Problem::Rejected(ScreenReject::TargetTooLong)), 414);
        assert_eq!(status(Problem::Rejected(ScreenReject::HeadTooLarge)), 431);
        assert_eq!(
            status(Problem::Rejected(ScreenReject::MethodNotImplemented)),
            501
        );
        assert_eq!(status(Problem::NoRoute), 404);
        assert_eq!(status(Problem::HeadTooLarge), 431);
        assert_eq!(status(Problem::BodyTooLarge), 413);
        assert_eq!(status(Problem::Overloaded), 503);
        assert_eq!(status(Problem::NoGuest), 503);
        let not_allowed = Problem::MethodNotAllowed {
            allow: HeaderValue::from_static("GET, HEAD"),
        };
        assert_eq!(not_allowed.answer("r1").0.get(ALLOW).unwrap(), "GET, HEAD");
        assert_eq!(status(not_allowed), 405);
    }

    #[test]
    fn an_error_response_of_the_host_names_the_request_and_is_not_cached() {
        let (headers, text) = Problem::NoRoute.answer("0123456789abcdef");
        assert_eq!(
            text,
            "404 Not Found\nThere is nothing at this address.\nRequest 0123456789abcdef\n"
        );
        assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "no-store");
    }
}

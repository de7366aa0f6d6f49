//! Decides which party is to blame for the end of a request: the guest, the client, or neither. No other module decides this.
//!
//! A client that disconnects does not excuse the guest. The guest is excused only by body bytes that it asked for and the client failed to
//! send. So a guest that hangs is late whether or not its client waits, and no client can make a good version look bad.

use http::StatusCode;

use super::error::GuestFailure;
use crate::run::health::RequestOutcome;

/// The state of a request body, as far as the client is responsible for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBodyState {
    /// All bytes that the guest asked for have arrived.
    Intact,
    /// The guest waits for bytes that have not arrived.
    Awaited,
    /// The client disconnected, or sent unreadable bytes, before the end of the body.
    BrokeOff,
    /// The client sent more slowly than allowed.
    TooSlow,
    /// The client sent more than the guest accepts.
    TooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
}

impl RequestBodyState {
    /// Returns the client's failure, if there is one.
    pub(crate) fn failure(self) -> Option<GuestFailure> {
        match self {
            Self::Intact | Self::Awaited => None,
            Self::BrokeOff => Some(GuestFailure::RequestBodyBrokeOff),
            Self::TooSlow => Some(GuestFailure::RequestBodyTooSlow),
            Self::TooLarge { bytes_max } => Some(GuestFailure::RequestBodyTooLarge { bytes_max }),
        }
    }
}

/// The end of a run or of a released response.
#[derive(Clone, Copy, Debug)]
pub enum RunEnd<'a> {
    /// The guest answered.
    Answered(StatusCode),
    /// The guest did not answer, or its response broke off.
    Failed(&'a GuestFailure),
    /// The session could not be committed.
    Refused,
}

/// The party that is to blame for an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The guest: the outcome counts for or against its version.
    Guest(RequestOutcome),
    /// The client. The request ends with this failure, whatever the guest answered. Nothing of it is committed or counted.
    Client(GuestFailure),
    /// Neither the guest nor the client is to blame: the end does not count.
    None,
}

/// Returns the party that is to blame for an end, given the state of the request body.
pub fn blame(end: RunEnd<'_>, body: RequestBodyState) -> Blame {
    match (end, body) {
        (RunEnd::Refused, _) => Blame::None,
        // The guest saw a body that was cut at the limit, so no response to it can be correct.
        (RunEnd::Answered(_), RequestBodyState::TooLarge { .. }) => client(body),
        (RunEnd::Answered(status), _) if !status.is_server_error() => match body {
            RequestBodyState::Intact | RequestBodyState::Awaited => {
                Blame::Guest(RequestOutcome::Served)
            }
            // The guest answered without the whole body: this counts neither for nor against it.
            _ => Blame::None,
        },
        (RunEnd::Answered(_), RequestBodyState::Intact | RequestBodyState::Awaited) => {
            Blame::Guest(RequestOutcome::Errored)
        }
        (RunEnd::Answered(_), _) => client(body),
        (RunEnd::Failed(failure), _) => match (failure.outcome(), body) {
            (None, _) => Blame::None,
            // The time passed while the guest waited for bytes, so the guest itself was not slow.
            (Some(RequestOutcome::Late), RequestBodyState::Awaited) => {
                Blame::Client(GuestFailure::RequestBodyTooSlow)
            }
            (Some(outcome), RequestBodyState::Intact | RequestBodyState::Awaited) => {
                Blame::Guest(outcome)
            }
            (Some(_), _) => client(body),
        },
    }
}

fn client(body: RequestBodyState) -> Blame {
    body.failure().map_or(Blame::None, Blame::Client)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TOO_LARGE: RequestBodyState = RequestBodyState::TooLarge { bytes_max: 7 };
    const BODIES: [RequestBodyState; 5] = [
        RequestBodyState::Intact,
        RequestBodyState::Awaited,
        RequestBodyState::BrokeOff,
        RequestBodyState::TooSlow,
        TOO_LARGE,
    ];

    /// Returns the abbreviation of a blame in the table below.
    fn short(blame: &Blame) -> &'static str {
        match blame {
            Blame::Guest(RequestOutcome::Served) => "served",
            Blame::Guest(RequestOutcome::Errored) => "errored",
            Blame::Guest(RequestOutcome::Trapped) => "trapped",
            Blame::Guest(RequestOutcome::Late) => "late",
            Blame::Client(GuestFailure::RequestBodyBrokeOff) => "400",
            Blame::Client(GuestFailure::RequestBodyTooSlow) => "408",
            Blame::Client(GuestFailure::RequestBodyTooLarge { bytes_max: 7 }) => "413",
            Blame::Client(other) => panic!("not a failure of a client: {other:?}"),
            Blame::None => "-",
        }
    }

    #[test]
    fn each_run_end_and_body_state_has_its_outcome() {
        let failed = |failure: GuestFailure| failure;
        let trap = failed(GuestFailure::Trap { reason: "x".into() });
        let memory = failed(GuestFailure::MemoryRefused {
            memory_bytes_max: 1,
        });
        let exit = failed(GuestFailure::Exit { status: 1 });
        let code = failed(GuestFailure::ErrorCode { code: "x".into() });
        let bad = failed(GuestFailure::BadResponse { reason: "x" });
        let large = failed(GuestFailure::ResponseTooLarge { bytes_max: 1 });
        let cpu_time = Duration::from_secs(1);
        let cpu = failed(GuestFailure::CpuTime { cpu_time });
        let sent = failed(GuestFailure::RequestBodyTooLarge { bytes_max: 7 });
        let status = |code: u16| RunEnd::Answered(StatusCode::from_u16(code).unwrap());
        // In the order of `BODIES`: sound, awaited, broke off, too slow, too large.
        let table: [(RunEnd<'_>, [&str; 5]); 22] = [
            (status(200), ["served", "served", "-", "-", "413"]),
            (status(302), ["served", "served", "-", "-", "413"]),
            (status(404), ["served", "served", "-", "-", "413"]),
            (status(500), ["errored", "errored", "400", "408", "413"]),
            (status(503), ["errored", "errored", "400", "408", "413"]),
            (RunEnd::Refused, ["-", "-", "-", "-", "-"]),
            (
                RunEnd::Failed(&trap),
                ["trapped", "trapped", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&memory),
                ["trapped", "trapped", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&exit),
                ["trapped", "trapped", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&code),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&bad),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&large),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&GuestFailure::NoResponse),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&GuestFailure::Deadline),
                ["late", "408", "400", "408", "413"],
            ),
            (
                RunEnd::Failed(&GuestFailure::Stalled),
                ["late", "408", "400", "408", "413"],
            ),
            (RunEnd::Failed(&cpu), ["late", "408", "400", "408", "413"]),
            (RunEnd::Failed(&sent), ["-"; 5]),
            (RunEnd::Failed(&GuestFailure::NoInstance), ["-"; 5]),
            (RunEnd::Failed(&GuestFailure::DrainTimeout), ["-"; 5]),
            (RunEnd::Failed(&GuestFailure::Interrupted), ["-"; 5]),
            (RunEnd::Failed(&GuestFailure::ClientTooSlow), ["-"; 5]),
            (RunEnd::Failed(&GuestFailure::NoRoomForBody), ["-"; 5]),
        ];
        for (end, expected) in table {
            let found = BODIES.map(|body| short(&blame(end, body)));
            assert_eq!(found, expected, "{end:?}");
        }
    }

    #[test]
    fn an_incomplete_request_body_is_never_blamed_on_the_guest() {
        for body in [
            RequestBodyState::BrokeOff,
            RequestBodyState::TooSlow,
            TOO_LARGE,
        ] {
            let failure = body.failure().unwrap();
            assert_eq!(failure.outcome(), None, "{failure}");
        }
    }
}

//! Who answers for the end of a request: its guest, its client, or neither. Decided here and nowhere else.
//!
//! A client that leaves excuses nothing by itself: only what it fails to send does, where the guest asked for it. So a guest
//! that hangs is late whether or not its client waits, and no client can make a good version look bad.

use http::StatusCode;

use super::error::GuestFailure;
use super::health::Conduct;

/// A request's body, as far as its client is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// All that was asked for has come.
    Sound,
    /// The guest waits for bytes that have not come.
    Awaited,
    /// The client left, or sent what cannot be read, before the end.
    BrokeOff,
    /// The client sent more slowly than it may.
    TooSlow,
    /// The client sent more than the guest may be sent.
    TooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
}

impl BodyState {
    /// How the client failed, if it did.
    pub(super) fn failure(self) -> Option<GuestFailure> {
        match self {
            Self::Sound | Self::Awaited => None,
            Self::BrokeOff => Some(GuestFailure::RequestBodyBrokeOff),
            Self::TooSlow => Some(GuestFailure::RequestBodyTooSlow),
            Self::TooLarge { bytes_max } => Some(GuestFailure::RequestBodyTooLarge { bytes_max }),
        }
    }
}

/// How a run or a released answer ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// With an answer.
    Answered(StatusCode),
    /// Without one, or its answer broke off.
    Failed(&'a GuestFailure),
    /// The session could not be committed.
    Refused,
}

/// Whose end it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The guest's: it counts for or against its version.
    Guest(Conduct),
    /// The client's. This is what becomes of the request, whatever the guest made of it; nothing of it is committed or counted.
    Client(GuestFailure),
    /// Neither the guest nor the client is to blame: the end does not count.
    Nobody,
}

/// Decides.
pub fn blame(end: End<'_>, body: BodyState) -> Blame {
    match (end, body) {
        (End::Refused, _) => Blame::Nobody,
        // A guest that was sent more than it may be sent has seen a body that is cut: no answer to that is right.
        (End::Answered(_), BodyState::TooLarge { .. }) => client(body),
        (End::Answered(status), _) if !status.is_server_error() => match body {
            BodyState::Sound | BodyState::Awaited => Blame::Guest(Conduct::Served),
            // It made something of what it had: neither good nor bad.
            _ => Blame::Nobody,
        },
        (End::Answered(_), BodyState::Sound | BodyState::Awaited) => Blame::Guest(Conduct::Errored),
        (End::Answered(_), _) => client(body),
        (End::Failed(failure), _) => match (failure.conduct(), body) {
            (None, _) => Blame::Nobody,
            // Whose time passed while it waited for bytes was not slow itself.
            (Some(Conduct::Late), BodyState::Awaited) => {
                Blame::Client(GuestFailure::RequestBodyTooSlow)
            }
            (Some(conduct), BodyState::Sound | BodyState::Awaited) => Blame::Guest(conduct),
            (Some(_), _) => client(body),
        },
    }
}

fn client(body: BodyState) -> Blame {
    body.failure().map_or(Blame::Nobody, Blame::Client)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TOO_LARGE: BodyState = BodyState::TooLarge { bytes_max: 7 };
    const BODIES: [BodyState; 5] = [
        BodyState::Sound,
        BodyState::Awaited,
        BodyState::BrokeOff,
        BodyState::TooSlow,
        TOO_LARGE,
    ];

    /// The abbreviation of a blame in the table below.
    fn short(blame: &Blame) -> &'static str {
        match blame {
            Blame::Guest(Conduct::Served) => "served",
            Blame::Guest(Conduct::Errored) => "errored",
            Blame::Guest(Conduct::Trapped) => "trapped",
            Blame::Guest(Conduct::Late) => "late",
            Blame::Client(GuestFailure::RequestBodyBrokeOff) => "400",
            Blame::Client(GuestFailure::RequestBodyTooSlow) => "408",
            Blame::Client(GuestFailure::RequestBodyTooLarge { bytes_max: 7 }) => "413",
            Blame::Client(other) => panic!("no failure of a client: {other:?}"),
            Blame::Nobody => "-",
        }
    }

    #[test]
    fn the_whole_table() {
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
        let status = |code: u16| End::Answered(StatusCode::from_u16(code).unwrap());
        // In the order of `BODIES`: sound, awaited, broke off, too slow, too large.
        let table: [(End<'_>, [&str; 5]); 22] = [
            (status(200), ["served", "served", "-", "-", "413"]),
            (status(302), ["served", "served", "-", "-", "413"]),
            (status(404), ["served", "served", "-", "-", "413"]),
            (status(500), ["errored", "errored", "400", "408", "413"]),
            (status(503), ["errored", "errored", "400", "408", "413"]),
            (End::Refused, ["-", "-", "-", "-", "-"]),
            (
                End::Failed(&trap),
                ["trapped", "trapped", "400", "408", "413"],
            ),
            (
                End::Failed(&memory),
                ["trapped", "trapped", "400", "408", "413"],
            ),
            (
                End::Failed(&exit),
                ["trapped", "trapped", "400", "408", "413"],
            ),
            (
                End::Failed(&code),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                End::Failed(&bad),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                End::Failed(&large),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                End::Failed(&GuestFailure::NoResponse),
                ["errored", "errored", "400", "408", "413"],
            ),
            (
                End::Failed(&GuestFailure::Deadline),
                ["late", "408", "400", "408", "413"],
            ),
            (
                End::Failed(&GuestFailure::Stalled),
                ["late", "408", "400", "408", "413"],
            ),
            (End::Failed(&cpu), ["late", "408", "400", "408", "413"]),
            (End::Failed(&sent), ["-"; 5]),
            (End::Failed(&GuestFailure::NoInstance), ["-"; 5]),
            (End::Failed(&GuestFailure::SeenOut), ["-"; 5]),
            (End::Failed(&GuestFailure::Interrupted), ["-"; 5]),
            (End::Failed(&GuestFailure::ClientTooSlow), ["-"; 5]),
            (End::Failed(&GuestFailure::NoRoomForBody), ["-"; 5]),
        ];
        for (end, expected) in table {
            let found = BODIES.map(|body| short(&blame(end, body)));
            assert_eq!(found, expected, "{end:?}");
        }
    }

    #[test]
    fn what_a_client_fails_to_send_is_never_conduct() {
        for body in [BodyState::BrokeOff, BodyState::TooSlow, TOO_LARGE] {
            let failure = body.failure().unwrap();
            assert_eq!(failure.conduct(), None, "{failure}");
        }
    }
}

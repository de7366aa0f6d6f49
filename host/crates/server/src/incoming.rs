//! The body of a request on its way from the connection to the service.
//!
//! [`IncomingBody`] is the server's only wrapper of it. Each part limits one kind of harm that a client can do with a body: `joiner`
//! the cost of many small pieces, `pace` the time of a body that does not arrive. This module does not interpret the bytes.

mod joiner;
pub(crate) mod pace;

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::activity::ClientTurn;
use joiner::PieceJoiner;
use pace::{ArrivalTimer, BodyPace};

type Failure = Box<dyn Error + Send + Sync>;
type PolledFrame = Poll<Option<Result<Frame<Bytes>, Failure>>>;

/// The body of a request as it arrives on the connection. Small pieces are joined. It fails if its client sends too many tiny
/// pieces, or with [`BodyTooSlow`](cloakroom_base::deadline::BodyTooSlow) if its client sends too slowly.
#[derive(Debug)]
pub struct IncomingBody<B = hyper::body::Incoming> {
    pieces: PieceJoiner<B>,
    timer: ArrivalTimer,
    /// Whether the reader waits for the client. `None` if there is no body.
    turn: Option<ClientTurn>,
}

impl<B: Body<Data = Bytes, Error: Into<Failure>> + Unpin> IncomingBody<B> {
    pub(crate) fn new(body: B, pace: BodyPace, turn: Option<ClientTurn>) -> Self {
        Self {
            pieces: PieceJoiner::new(body),
            timer: ArrivalTimer::new(pace),
            turn,
        }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Failure>> + Unpin> Body for IncomingBody<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let Self {
            pieces,
            timer,
            turn,
        } = self.get_mut();
        timer.poll_frame(cx, |cx| {
            let frame = pieces.poll_frame(cx);
            if let Some(turn) = turn {
                turn.set(frame.is_pending());
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.pieces.size_hint()
    }
}

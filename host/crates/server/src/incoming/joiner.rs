//! Joins the small pieces of a request's body, and fails if too many of them are tiny: each piece has a cost in the host and the
//! guest, however few bytes it has.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{Failure, PolledFrame};
use cloakroom_base::limits::{
    BODY_PIECE_BYTES_MIN, BODY_PIECE_JOIN_WAIT, BODY_PIECE_JOINED_BYTES, BODY_PIECES_FREE,
    BODY_PIECES_PER_S_FREE,
};

/// The client sends its body in too many tiny pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the body comes in too many tiny pieces: send at least {BODY_PIECE_BYTES_MIN} bytes in each chunk or DATA frame"
)]
pub(crate) struct TooManyPieces;

type Piece = Result<Frame<Bytes>, Failure>;

/// Joins the small pieces of a body.
#[derive(Debug)]
pub(crate) struct PieceJoiner<B> {
    body: B,
    pieces: TinyPieceAllowance,
    /// The bytes that have arrived and have not been returned: one piece as it arrived, or several joined pieces.
    first: Bytes,
    joined: BytesMut,
    /// The frame or error that follows them: trailers or an error.
    last: Option<Piece>,
    /// No frame follows an error.
    has_failed: bool,
    /// Fires when small pieces have waited long enough for more.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes, Error: Into<Failure>> + Unpin> PieceJoiner<B> {
    pub(crate) fn new(body: B) -> Self {
        Self {
            body,
            pieces: TinyPieceAllowance::new(Instant::now()),
            first: Bytes::new(),
            joined: BytesMut::new(),
            last: None,
            has_failed: false,
            timer: None,
        }
    }

    fn held(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// Polls the body for its next piece, unjoined.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let piece = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let piece = piece.map(|piece| {
            let piece = piece.map_err(Into::into)?;
            if let Some(data) = piece.data_ref() {
                self.pieces.count(data.len())?;
            }
            Ok(piece)
        });
        Poll::Ready(piece)
    }

    fn join(&mut self, data: Bytes) {
        if self.held() == 0 {
            self.first = data;
            return;
        }
        if !self.first.is_empty() {
            self.joined
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&data);
    }

    fn take_held(&mut self) -> Frame<Bytes> {
        self.timer = None;
        Frame::data(match self.first.is_empty() {
            false => std::mem::take(&mut self.first),
            true => self.joined.split().freeze(),
        })
    }

    /// Ready when the pieces that are held need not wait any longer for the client's next piece.
    fn poll_join_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.pieces.is_flooded() {
            return Poll::Ready(());
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_PIECE_JOIN_WAIT)));
        timer.as_mut().poll(cx)
    }

    /// Polls for the next frame of the joined body.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        while self.last.is_none() && !self.has_failed && self.held() < BODY_PIECE_JOINED_BYTES {
            match self.poll_piece(cx) {
                Poll::Ready(Some(Ok(piece))) => match piece.into_data() {
                    Ok(data) => self.join(data),
                    Err(trailers) => self.last = Some(Ok(trailers)),
                },
                Poll::Ready(Some(Err(failure))) => {
                    self.has_failed = true;
                    self.last = Some(Err(failure));
                }
                Poll::Ready(None) => break,
                Poll::Pending if self.held() == 0 => return Poll::Pending,
                Poll::Pending => {
                    ready!(self.poll_join_wait(cx));
                    break;
                }
            }
            if self.body.is_end_stream() {
                break;
            }
        }
        if self.held() > 0 {
            return Poll::Ready(Some(Ok(self.take_held())));
        }
        Poll::Ready(self.last.take())
    }

    /// Whether no frame follows, as [`Body::is_end_stream`] says it.
    pub(crate) fn is_end_stream(&self) -> bool {
        let is_passed_on = self.held() == 0 && self.last.is_none();
        is_passed_on && (self.has_failed || self.body.is_end_stream())
    }

    /// Returns the bounds of the bytes that follow, as [`Body::size_hint`] does.
    pub(crate) fn size_hint(&self) -> SizeHint {
        let (rest, held) = (self.body.size_hint(), self.held() as u64);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(rest.lower().saturating_add(held));
        hint
    }
}

/// The tiny pieces that may still arrive. Bytes and time restore the allowance.
#[derive(Debug)]
struct TinyPieceAllowance {
    /// The sum of the bytes by which further pieces may be smaller than [`BODY_PIECE_BYTES_MIN`].
    left: u64,
    at: Instant,
}

impl TinyPieceAllowance {
    const MOST: u64 = BODY_PIECES_FREE * BODY_PIECE_BYTES_MIN;

    fn new(now: Instant) -> Self {
        Self {
            left: Self::MOST,
            at: now,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), TooManyPieces> {
        let bytes = bytes as u64;
        match BODY_PIECE_BYTES_MIN.checked_sub(bytes) {
            Some(missing) => self.spend(missing, Instant::now()),
            None => {
                self.left = (self.left + bytes - BODY_PIECE_BYTES_MIN).min(Self::MOST);
                Ok(())
            }
        }
    }

    fn spend(&mut self, missing: u64, now: Instant) -> Result<(), TooManyPieces> {
        let since = now.saturating_duration_since(self.at);
        let brought =
            since.as_millis() as u64 * BODY_PIECES_PER_S_FREE * BODY_PIECE_BYTES_MIN / 1000;
        if brought > 0 {
            self.at = now;
            self.left = self.left.saturating_add(brought).min(Self::MOST);
        }
        self.left = self.left.checked_sub(missing).ok_or(TooManyPieces)?;
        Ok(())
    }

    /// Whether enough tiny pieces have arrived to make waiting for more worthwhile.
    fn is_flooded(&self) -> bool {
        self.left < Self::MOST - BODY_PIECES_FREE / 64 * BODY_PIECE_BYTES_MIN
    }
}

#[cfg(test)]
mod tests;

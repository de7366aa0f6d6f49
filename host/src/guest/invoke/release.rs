//! From the start of a run to the point where its answer may be released: what is held, and for how long.

use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, response};

use super::Released;
use super::driver::{Event, Run};
use super::meter::Meter;
use crate::guest::body::{GuestBody, Held, Rest};
use crate::guest::error::GuestFailure;
use crate::guest::loaded::Guest;
use crate::guest::settings::StreamPolicy;
use crate::limits;

/// A run before its release.
pub(super) struct Releasing {
    run: Run,
    policy: Policy,
    method: Method,
    body_bytes_max: Option<u64>,
    answer: Option<(response::Parts, Meter)>,
    held: Held,
    is_complete: bool,
}

/// What an answer is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// A session that has to be committed first.
    UntilCommit,
    /// Nothing but that a guest which fails soon can still fail cleanly: it is held until the guest waits for something.
    WhileItRuns,
}

/// When an answer is released before its guest is done.
struct Policy {
    /// With more body than this, in bytes.
    body_bytes: u64,
    hold: Hold,
}

impl Releasing {
    pub(super) fn new(run: Run, hold: Hold, guest: &Guest, method: &Method) -> Self {
        let body_bytes = match guest.stream() {
            StreamPolicy::Buffered => limits::RELEASE_BYTES as u64,
            StreamPolicy::Streamed => 0,
        };
        Self {
            run,
            policy: Policy { body_bytes, hold },
            method: method.clone(),
            body_bytes_max: guest.limits().response_body_bytes_max,
            answer: None,
            held: Held::default(),
            is_complete: false,
        }
    }

    /// Runs the guest to the release point.
    ///
    /// # Errors
    /// Every failure of the guest on the way: nothing has left.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        loop {
            match self.run.poll_event(cx) {
                Poll::Ready(event) => {
                    if self.take(event?)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending if self.policy.hold == Hold::WhileItRuns && self.answer.is_some() => {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes what the run gave; true at the release point.
    fn take(&mut self, event: Event) -> Result<bool, GuestFailure> {
        match (event, &mut self.answer) {
            (Event::Head(head), _) => {
                let meter = Meter::new(&self.method, &head, self.body_bytes_max)?;
                if !meter.is_sent() {
                    self.run.expect_no_body();
                }
                // Who answers so may have come to grief within: the next request shall not find it as it is.
                if head.status.is_server_error() {
                    self.run.forgo_instance();
                }
                if is_event_stream(&head.headers) {
                    self.policy.body_bytes = 0;
                }
                self.answer = Some((head, meter));
                Ok(false)
            }
            (Event::Frame(frame), Some((_, meter))) => {
                match frame.into_data() {
                    Ok(data) => {
                        meter.count(data.len())?;
                        if meter.is_sent() {
                            self.held.push(data);
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.held.set_trailers(trailers);
                        }
                    }
                }
                Ok(meter.bytes() > self.policy.body_bytes)
            }
            (Event::End, Some((_, meter))) => {
                meter.end()?;
                self.is_complete = true;
                Ok(true)
            }
            (Event::Frame(_) | Event::End, None) => Err(GuestFailure::NoResponse),
        }
    }

    /// The status that the guest has answered with, if it has.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.answer.as_ref().map(|(head, _)| head.status)
    }

    /// Whether the guest computes nothing now, nor waits for its turn to.
    pub(super) fn is_idle(&self) -> bool {
        !self.run.is_at_its_turn()
    }

    /// What the guest has computed for its request so far.
    pub(super) fn computed(&self) -> Duration {
        self.run.computed()
    }

    /// The answer. Its guest, if it has more to do, goes on once the answer leaves.
    ///
    /// # Errors
    /// [`GuestFailure::NoResponse`] if the release point was not reached.
    pub(super) fn release(
        self,
        rest: impl FnOnce(Run, Meter) -> Rest,
    ) -> Result<Released, GuestFailure> {
        let Some((head, meter)) = self.answer else {
            return Err(GuestFailure::NoResponse);
        };
        if self.is_complete {
            let body = GuestBody::complete(self.held);
            let instance = self.run.into_instance();
            return Ok(Released {
                head,
                body,
                instance,
            });
        }
        let body = if meter.is_sent() {
            GuestBody::streaming(self.held, rest(self.run, meter))
        } else {
            GuestBody::complete(self.held)
        };
        Ok(Released {
            head,
            body,
            instance: None,
        })
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = |value: &str| {
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("text/event-stream")
    };
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(essence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_known_by_its_media_type() {
        let is = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            is_event_stream(&headers)
        };
        assert!(is("text/event-stream") && is("Text/Event-Stream; charset=utf-8"));
        assert!(!is("text/event-stream-like") && !is("text/html"));
        assert!(!is_event_stream(&HeaderMap::new()));
    }
}

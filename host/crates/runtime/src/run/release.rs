//! Runs a guest from its start to the point where its response may be released, and decides which output is held and for how long.

use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, response};

use super::ReleasedResponse;
use super::driver::{GuestRun, RunEvent};
use super::meter::BodyMeter;
use crate::run::body::{BodyRemainder, GuestBody, HeldBytes};
use crate::run::error::GuestFailure;
use crate::run::guest::Guest;
use crate::settings::StreamPolicy;
use cloakroom_base::limits;

/// A run before its release.
pub(crate) struct UnreleasedRun {
    run: GuestRun,
    policy: ReleasePolicy,
    method: Method,
    body_bytes_max: Option<u64>,
    answer: Option<(response::Parts, BodyMeter)>,
    held: HeldBytes,
    is_complete: bool,
}

/// The reason to hold a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldReason {
    /// A session that must be committed first.
    UntilCommit,
    /// No session. The response is held until the guest waits for something, so that a guest that fails early still fails cleanly.
    WhileItRuns,
}

/// The conditions for releasing a response before its guest is done.
struct ReleasePolicy {
    /// Releases a response with more body than this, in bytes.
    body_bytes: u64,
    hold: HoldReason,
}

impl UnreleasedRun {
    pub(crate) fn new(run: GuestRun, hold: HoldReason, guest: &Guest, method: &Method) -> Self {
        let body_bytes = match guest.stream() {
            StreamPolicy::Buffered => limits::RELEASE_BYTES as u64,
            StreamPolicy::Streamed => 0,
        };
        Self {
            run,
            policy: ReleasePolicy { body_bytes, hold },
            method: method.clone(),
            body_bytes_max: guest.limits().response_body_bytes_max,
            answer: None,
            held: HeldBytes::default(),
            is_complete: false,
        }
    }

    /// Runs the guest to the release point.
    ///
    /// # Errors
    /// Any failure of the guest up to the release point. Nothing has been sent by then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestFailure>> {
        loop {
            match self.run.poll_event(cx) {
                Poll::Ready(event) => {
                    if self.take(event?)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending
                    if self.policy.hold == HoldReason::WhileItRuns && self.answer.is_some() =>
                {
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Processes an event of the run. Returns true at the release point.
    fn take(&mut self, event: RunEvent) -> Result<bool, GuestFailure> {
        match (event, &mut self.answer) {
            (RunEvent::Head(head), _) => {
                let meter = BodyMeter::new(&self.method, &head, self.body_bytes_max)?;
                if !meter.is_sent() {
                    self.run.expect_no_body();
                }
                // A guest that answers 5xx may have a damaged state, which the next request must not get.
                if head.status.is_server_error() {
                    self.run.discard_instance();
                }
                if is_event_stream(&head.headers) {
                    self.policy.body_bytes = 0;
                }
                self.answer = Some((head, meter));
                Ok(false)
            }
            (RunEvent::Frame(frame), Some((_, meter))) => {
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
            (RunEvent::End, Some((_, meter))) => {
                meter.end()?;
                self.is_complete = true;
                Ok(true)
            }
            (RunEvent::Frame(_) | RunEvent::End, None) => Err(GuestFailure::NoResponse),
        }
    }

    /// Returns the status that the guest has answered with, if any.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.answer.as_ref().map(|(head, _)| head.status)
    }

    /// Returns whether the guest neither computes nor waits for its turn to compute.
    pub(crate) fn is_idle(&self) -> bool {
        !self.run.is_runnable()
    }

    /// Returns how long the guest has computed for its request so far.
    pub(crate) fn computed(&self) -> Duration {
        self.run.computed()
    }

    /// Returns the response. If its guest has more to do, the guest continues once the response leaves.
    ///
    /// # Errors
    /// [`GuestFailure::NoResponse`] if the release point was not reached.
    pub(crate) fn release(
        self,
        rest: impl FnOnce(GuestRun, BodyMeter) -> BodyRemainder,
    ) -> Result<ReleasedResponse, GuestFailure> {
        let Some((head, meter)) = self.answer else {
            return Err(GuestFailure::NoResponse);
        };
        if self.is_complete {
            let body = GuestBody::complete(self.held);
            let instance = self.run.into_instance();
            return Ok(ReleasedResponse {
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
        Ok(ReleasedResponse {
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

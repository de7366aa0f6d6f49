//! Sends a response piece by piece on WASI 0.2. A router handles all other requests.

use cloakroom_guest::wasi02::http::types::{IncomingRequest, ResponseOutparam};
use cloakroom_guest::wasi02::{self, BodyWriter, Guest, Length, clocks::monotonic_clock};
use cloakroom_guest::{Error, Request, Response, Router, session};

struct Streaming;

impl Guest for Streaming {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match request.path_with_query().as_deref() {
            Some("/events") => events(out),
            _ => wasi02::serve(request, out, &routes),
        }
    }
}

wasi02::bindings::export_wasi02!(Streaming with_types_in wasi02::bindings);

fn routes() -> Router {
    Router::new().get("/", |_: Request| "see /events\n")
}

/// Sends three events, a tenth of a second apart.
///
/// Writes the session before the first event, because the first event releases the response and makes the session read-only.
fn events(out: ResponseOutparam) {
    let number = match session::increment("streams", 1) {
        Ok(number) => number,
        Err(error) => return wasi02::answer(out, Error::from(error)),
    };
    let head = Response::new(200).header("content-type", "text/event-stream");
    let Some(mut body) = BodyWriter::start(out, &head, Length::Open) else {
        return;
    };
    for event in 1..=3 {
        let text = format!("data: stream {number}, event {event}\n\n");
        if body.write(text.as_bytes()).is_err() {
            // The visitor has disconnected.
            return;
        }
        monotonic_clock::subscribe_duration(100_000_000).block();
    }
    body.finish();
}

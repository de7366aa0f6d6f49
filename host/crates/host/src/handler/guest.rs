//! The target `Guest` of a route: takes the session cookie out of the request, checks the guest's limits, runs the guest in a
//! session transaction and releases its response.
//!
//! This module does not know other targets. The request hook and the guest only see the head of a [`GuestHead`].

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Scheme;
use http::{Response, request};
use http_body::Body as _;

use super::access_log::AccessRecord;
use super::bodies::{DiscardedBody, ResponseBody};
use super::error::Problem;
use super::release;
use super::screen::ScreenedRequest;
use super::{Handler, ResponseSender};
use cloakroom_base::deadline::Deadline;
use cloakroom_base::quota::{Reservation, RevocablePhase};
use cloakroom_runtime::{
    Blame, Deployment, Guest, GuestFailure, GuestRequest, Invocation, ReleasedResponse, ReplayBody,
    RunEnd, StreamPolicy,
};
use cloakroom_server::RequestBody;
use cloakroom_session::cookie;
use cloakroom_session::cookie::PresentedCookies;
use cloakroom_session::{
    Attempt, CookieChange, ReplayPolicy, Session, TransactionOutcome, Visit, VisitStart,
};

/// The head of a request as a guest sees it: without the session cookie.
#[derive(Debug)]
pub(crate) struct GuestHead {
    parts: request::Parts,
    /// The values of the session cookie.
    cookies: PresentedCookies,
}

impl GuestHead {
    /// Takes the session cookie out of the head.
    pub(crate) fn new(mut parts: request::Parts, cookie_name: &str) -> Self {
        let cookies = cookie::take_from(&mut parts.headers, cookie_name);
        Self { parts, cookies }
    }

    pub(crate) fn parts(&self) -> &request::Parts {
        &self.parts
    }
}

/// A request whose route names a guest.
pub(crate) struct RequestToGuest<B: RequestBody + 'static> {
    pub(crate) head: GuestHead,
    pub(crate) body: DiscardedBody<B>,
    pub(crate) screened: ScreenedRequest,
    /// `None` if no guest has the name in the route.
    pub(crate) deployment: Option<Arc<Deployment>>,
}

impl Handler {
    /// Answers a request with a guest. `reservation` and `sender` are those of [`Handler::respond`].
    pub(crate) async fn run_guest<B: RequestBody + 'static>(
        &self,
        request: RequestToGuest<B>,
        mut record: AccessRecord,
        reservation: Reservation,
        sender: &ResponseSender,
    ) -> Response<ResponseBody> {
        let (screened, deployment) = (request.screened, request.deployment);
        let GuestHead { parts, cookies } = request.head;
        let visitor = || visitor(&cookies, screened.client);
        let take = || deployment.as_ref()?.take(visitor);
        let Some(mut guest) = take() else {
            return self.refuse(record, Problem::NoGuest);
        };
        note_version(&mut record, &guest);
        if let Err(problem) = check_limits(&screened, &guest) {
            return self.refuse(record, problem);
        }
        let (mut is_body_kept, body) = replay_body(request.body, &guest, &reservation);
        // Read the body before the request enters the guest's queue and waits for the session lock, so that a slow client does
        // not block other requests there.
        if !body.has_come() && guest.stream() == StreamPolicy::Buffered {
            drop(guest);
            if let Err(failure) = read_ahead(&body, &reservation).await {
                return self.refuse(record, Problem::Guest(failure));
            }
            is_body_kept = body.has_come();
            // Another version may have been deployed while the body was read.
            guest = match take() {
                Some(guest) => guest,
                None => return self.refuse(record, Problem::NoGuest),
            };
            note_version(&mut record, &guest);
        }
        let deadline = Deadline::after(guest.limits().deadline);
        let client = reservation.peer().source().peer;
        let request = GuestRequest {
            head: parts,
            scheme: screened.scheme.clone(),
            body,
            services: Some(Arc::clone(&self.services)),
            request_id: Arc::clone(&record.request_id),
            deadline: deadline.clone(),
            reservation: Some(reservation.clone()),
        };
        let mut runs = AttemptCounter::new(Arc::clone(&guest), request);

        // A guest that does not import the session interface causes no store access. A guest without a grant gets `denied` from
        // each call.
        let outcome = if guest.imports_session() {
            let visit = Visit {
                presented: cookies,
                host: screened.host,
                path: screened.path,
                is_secure: screened.scheme == Scheme::HTTPS,
                grant: Arc::clone(guest.grant()),
                deadline,
                start: start(&guest, is_body_kept),
                reservation: Some(reservation),
            };
            self.services.sessions.transact(visit, &mut runs).await
        } else {
            runs.run_without_session().await
        };
        record.attempts = runs.count;
        if let Blame::Guest(request_outcome) = runs.invocation.blame(end(&outcome)) {
            guest.note(request_outcome, client);
        }
        self.finish(record, outcome, &runs, sender)
    }

    /// Releases the guest's response, or the host's response if there is none.
    fn finish(
        &self,
        record: AccessRecord,
        outcome: TransactionOutcome<ReleasedResponse, GuestFailure>,
        runs: &AttemptCounter,
        sender: &ResponseSender,
    ) -> Response<ResponseBody> {
        match outcome {
            TransactionOutcome::Answered { mut answer, cookie } => {
                if runs.used_session {
                    release::vary_by_cookie(&mut answer.head.headers);
                }
                self.release(record, answer, cookie, sender)
            }
            TransactionOutcome::Failed { failure, cookie } => {
                self.fail(record, Problem::Guest(failure), cookie)
            }
            TransactionOutcome::Refused { refusal, cookie } => {
                self.fail(record, Problem::Session(refusal), cookie)
            }
        }
    }

    fn release(
        &self,
        record: AccessRecord,
        answer: ReleasedResponse,
        cookie: CookieChange,
        sender: &ResponseSender,
    ) -> Response<ResponseBody> {
        let (id, our_cookie) = (Arc::clone(&record.request_id), self.cookie(cookie));
        let (head, body) = answer.leave();
        let response = release::of_guest(head, body, id, &record.method, &our_cookie);
        let (head, mut body) = response.into_parts();
        if sender.charge(&mut body).is_err() {
            return self.fail(record, Problem::Overloaded, our_cookie.change);
        }
        let response = Response::from_parts(head, body);
        record.log(response.status(), response.body().len(), None);
        response
    }
}

/// The runs of one request on its guest, counted for the access log.
struct AttemptCounter {
    invocation: Invocation,
    count: u32,
    /// Whether the last run read or changed the session.
    used_session: bool,
}

impl AttemptCounter {
    fn new(guest: Arc<Guest>, request: GuestRequest) -> Self {
        Self {
            invocation: Invocation::new(guest, request),
            count: 0,
            used_session: false,
        }
    }

    async fn run_without_session(&mut self) -> TransactionOutcome<ReleasedResponse, GuestFailure> {
        self.count = 1;
        let cookie = CookieChange::Keep;
        match self.invocation.run_without_session().await {
            Ok(answer) => TransactionOutcome::Answered { answer, cookie },
            Err(failure) => TransactionOutcome::Failed { failure, cookie },
        }
    }
}

impl Attempt for AttemptCounter {
    type Answer = ReleasedResponse;
    type Failure = GuestFailure;

    async fn run(
        &mut self,
        session: Session,
        number: u32,
    ) -> Result<ReleasedResponse, GuestFailure> {
        self.count = number;
        let answer = self.invocation.run(session.clone(), number).await;
        self.used_session = session.was_used();
        answer
    }

    fn replay(&self) -> ReplayPolicy {
        self.invocation.replay()
    }
}

/// Returns how the visit starts. A guest whose request body can be read only once starts on the row as the store has it.
fn start(guest: &Guest, is_body_kept: bool) -> VisitStart {
    match guest.start() {
        VisitStart::Optimistic if !is_body_kept => VisitStart::Fresh,
        start => start,
    }
}

/// Records the version of the guest that the request is for.
fn note_version(record: &mut AccessRecord, guest: &Guest) {
    record.guest_version = guest.version();
    record.metrics = Some(Arc::clone(guest.metrics()));
}

/// Checks the size of the head and the length of the body that it announces.
fn check_limits(screened: &ScreenedRequest, guest: &Guest) -> Result<(), Problem> {
    let limits = guest.limits();
    let size = screened.head_size;
    if size.is_above(limits.request_head_bytes_max, limits.request_headers_max) {
        return Err(Problem::HeadTooLarge);
    }
    let length = screened.content_length;
    if length.is_some_and(|length| length > limits.request_body_bytes_max) {
        return Err(Problem::BodyTooLarge);
    }
    Ok(())
}

/// Prepares a body for the runs of a guest. Also returns whether the body is known to fit in the memory for another run.
fn replay_body<B: RequestBody + 'static>(
    body: DiscardedBody<B>,
    guest: &Guest,
    reservation: &Reservation,
) -> (bool, ReplayBody) {
    let limits = guest.limits();
    let is_body_kept = body
        .size_hint()
        .upper()
        .is_some_and(|n| n <= limits.replay_bytes_max as u64);
    let body = ReplayBody::new(body, limits.request_body_bytes_max, limits.replay_bytes_max);
    let body = match body.has_come() {
        true => body,
        false => body.charged_to(reservation),
    };
    (is_body_kept, body)
}

/// Returns a number that identifies the visitor while a canary is active: a hash of the session's cookies, or the client's
/// address if there are none. It is the same on every host, so that all hosts show the visitor the same version.
fn visitor(cookies: &PresentedCookies, client: IpAddr) -> u64 {
    if !cookies.is_empty() {
        return cookies.fixed_hash();
    }
    let address = match client {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let bits = address.to_bits();
    (bits >> 64) as u64 ^ bits as u64
}

/// Reads the beginning of a body. Meanwhile the request counts as waiting for its client, so its reservation may be revoked.
async fn read_ahead(body: &ReplayBody, reservation: &Reservation) -> Result<(), GuestFailure> {
    let revoked = |_| GuestFailure::NoRoomForBody;
    reservation
        .set_phase(RevocablePhase::WaitsForClient)
        .map_err(revoked)?;
    tokio::select! {
        biased;
        () = reservation.revoked() => return Err(GuestFailure::NoRoomForBody),
        read = body.read_ahead() => read?,
    }
    reservation
        .set_phase(RevocablePhase::Working)
        .map_err(revoked)
}

/// Maps an outcome to the end of the request that the guest or the client may be blamed for.
fn end(outcome: &TransactionOutcome<ReleasedResponse, GuestFailure>) -> RunEnd<'_> {
    match outcome {
        TransactionOutcome::Answered { answer, .. } => RunEnd::Answered(answer.head.status),
        TransactionOutcome::Failed { failure, .. } => RunEnd::Failed(failure),
        TransactionOutcome::Refused { .. } => RunEnd::Refused,
    }
}

#[cfg(test)]
mod tests;

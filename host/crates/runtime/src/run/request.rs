//! One request in the form that guests see. It can be run more than once, and it is independent of the connection: any
//! body type works.

mod client_wait;
mod replay;

use std::fmt;
use std::sync::Arc;

use http::uri::Scheme;

pub(crate) use replay::{BodyEnder, BodyReader};
pub use replay::{ReplayBody, read_ahead_cost_max};

use crate::interfaces::Services;
use cloakroom_base::deadline::Deadline;
use cloakroom_base::quota::{ClientConnection, Reservation};

/// A request that can be run on a guest, more than once if necessary. `Debug` omits the headers and the body.
pub struct GuestRequest {
    /// Head of the request, without the session cookie. If the URI has only a path, the `Host` field names the
    /// authority.
    pub head: http::request::Parts,
    /// The scheme with which the client reached the host.
    pub scheme: Scheme,
    /// The body, recorded while it is read.
    pub body: ReplayBody,
    /// The parts of the host that the guest's interfaces use. Without them, the request has no cookies.
    pub services: Option<Arc<Services>>,
    /// The request's ID in the logs.
    pub request_id: Arc<str>,
    /// The time by which the response must be released, over all runs together.
    pub deadline: Deadline,
    /// Its reservation among the requests in progress. The reservation's peer pays for the memory that is kept for the
    /// client. It also identifies the client where failures have to come from several clients.
    pub reservation: Option<Reservation>,
}

impl GuestRequest {
    /// Returns the connection that the request arrived on.
    pub(crate) fn source(&self) -> ClientConnection {
        let reservation = self.reservation.as_ref();
        reservation.map_or_else(ClientConnection::default, |reservation| {
            reservation.peer().source()
        })
    }
}

impl fmt::Debug for GuestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRequest")
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

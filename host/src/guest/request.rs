//! One request as guests see it, as often as it takes. Knows no connection: any body will do.

mod awaited;
mod replay;

use std::fmt;
use std::sync::Arc;

use http::header::COOKIE;
use http::uri::Scheme;

pub(super) use replay::{BodyEnd, BodyReader};
pub use replay::{BodyTooSlow, ReplayBody, read_ahead_cost_max};

use super::caller::Cookies;
use crate::cookie::Jar;
use crate::deadline::Deadline;
use crate::quota::{Reservation, Source};

/// A request that a guest can be run on, again if need be. `Debug` shows no header and no body.
pub struct GuestRequest {
    /// Head of the request, without our cookie. The URI may have a path only: then `Host` says the authority.
    pub head: http::request::Parts,
    /// How the client reached us.
    pub scheme: Scheme,
    /// The body, recorded while it is read.
    pub body: ReplayBody,
    /// What reads and writes the guest's own cookies; needed where it imports that ([`Guest::imports_cookies`](super::Guest)).
    pub jar: Option<Arc<Jar>>,
    /// What the logs call this request.
    pub request_id: Arc<str>,
    /// When the answer must have been released, all runs together.
    pub deadline: Deadline,
    /// Its place among the requests under way. Its peer pays for what is kept in memory for the client, and is the one that is
    /// counted where failures have to come from several clients.
    pub place: Option<Reservation>,
}

impl GuestRequest {
    /// The connection that it came on.
    pub(super) fn source(&self) -> Source {
        let place = self.place.as_ref();
        place.map_or_else(Source::default, |place| place.peer().source())
    }

    /// Its cookies, unread, where the guest has asked for them.
    pub(super) fn cookies(&self) -> Option<Cookies> {
        let headers = || self.head.headers.get_all(COOKIE).iter().cloned().collect();
        self.jar.as_ref().map(|jar| Cookies {
            jar: Arc::clone(jar),
            headers: headers(),
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

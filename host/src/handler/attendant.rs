//! Who attends the requests of a host that its guests are written on: sees each of them as it came, and may answer in a guest's
//! place. A host that serves visitors has none. Knows no sources and no builds: what is said instead of a guest is handed in.

use std::fmt;

use http::request::Parts;
use http::{Method, Response, Uri};

use crate::guest::Deployment;
use crate::route::Route;

/// Attends every request. Both calls are made on the thread that serves: they must not block.
pub trait Attendant: Send + Sync + fmt::Debug {
    /// Sees a request as it came. The access event with this request id follows in any case.
    fn sees(&self, request_id: &str, method: &Method, uri: &Uri);

    /// What is answered in the place of the guest that this route leads to; `None`: the guest answers. Neither the guest nor the
    /// session is touched otherwise.
    fn answers(&self, deployment: &Deployment, route: &Route, head: &Parts) -> Option<StandIn>;
}

/// An answer in a guest's place.
#[derive(Debug)]
pub struct StandIn {
    /// Head and text. Its length is added.
    pub response: Response<String>,
    /// A short fixed name for why, as the access event's `error`.
    pub kind: &'static str,
}

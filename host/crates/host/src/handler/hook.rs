//! The request hook of a development host. It observes every request and may answer in place of a guest. A production host has
//! none.
//!
//! This module does not know sources or builds: the hook supplies the responses.

use std::fmt;

use http::request::Parts;
use http::{Method, Response, Uri};

use crate::route::Route;
use cloakroom_runtime::Deployment;

/// A hook that is called for every request. Both methods are called on a thread that serves requests, so they must not block.
pub trait RequestHook: Send + Sync + fmt::Debug {
    /// Observes a request as it arrived. An access event with this request id always follows.
    fn on_request(&self, request_id: &str, method: &Method, uri: &Uri);

    /// Returns the response that replaces the response of the route's guest. If it returns `None`, the guest answers. Otherwise
    /// neither the guest nor the session is used.
    fn answers(&self, deployment: &Deployment, route: &Route, head: &Parts)
    -> Option<HookResponse>;
}

/// A response that replaces a guest's.
#[derive(Debug)]
pub struct HookResponse {
    /// The head and the text. The host adds `Content-Length`.
    pub response: Response<String>,
    /// A short fixed name for the reason, logged as the access event's `error`.
    pub kind: &'static str,
}

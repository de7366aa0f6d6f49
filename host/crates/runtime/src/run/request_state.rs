//! The request that an instance's calls belong to, as far as the host's own interfaces need it. This module knows no interface;
//! `session_host` and `cookies_host` implement them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;

use super::accounting::RequestAccounting;
use cloakroom_session::Session;
use cloakroom_session::cookie::CookieJar;

/// State of the request that an instance serves.
///
/// A store runs one request at a time, so in both worlds its data identify the request of a call. If several requests shared a 0.3 instance
/// at once, the root of `async_call_stack()` would have to identify it.
pub(crate) struct RequestState {
    pub(crate) session: Session,
    pub(crate) has_answered: HeadSet,
    /// `None` for a guest that does not import the cookies interface.
    pub(crate) cookies: Option<RequestCookies>,
    pub(crate) account: RequestAccounting,
}

/// The unparsed cookies of a request, and the jar that reads and writes them.
pub(crate) struct RequestCookies {
    pub(crate) jar: Arc<CookieJar>,
    pub(crate) headers: Vec<HeaderValue>,
}

/// A flag that is set when the guest has set its response's head. Part of the body may have been written since.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadSet(Arc<AtomicBool>);

impl HeadSet {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestState {
    /// Returns the state of an instance that runs no request. Its calls are denied.
    pub(crate) fn none() -> Self {
        Self {
            session: Session::none(),
            has_answered: HeadSet::default(),
            cookies: None,
            account: RequestAccounting::none(),
        }
    }
}

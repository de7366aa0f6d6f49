//! The request that an instance's calls belong to, as far as the host's own interfaces need it. This module knows no interface;
//! `session_host` and `cookies_host` implement them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;

use super::account::RequestAccounting;
use crate::cookie::CookieJar;
use crate::session::Session;

/// State of the request that an instance serves.
///
/// A store runs one request at a time, so in both worlds its data identify the request of a call. If several requests shared a 0.3 instance
/// at once, the root of `async_call_stack()` would have to identify it.
pub(super) struct RequestState {
    pub(super) session: Session,
    pub(super) has_answered: HeadSet,
    /// `None` for a guest that does not import the cookies interface.
    pub(super) cookies: Option<RequestCookies>,
    pub(super) account: RequestAccounting,
}

/// The unparsed cookies of a request, and the jar that reads and writes them.
pub(super) struct RequestCookies {
    pub(super) jar: Arc<CookieJar>,
    pub(super) headers: Vec<HeaderValue>,
}

/// A flag that is set when the guest has set its response's head. Part of the body may have been written since.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadSet(Arc<AtomicBool>);

impl HeadSet {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl RequestState {
    /// Returns the state of an instance that runs no request. Its calls are denied.
    pub(super) fn none() -> Self {
        Self {
            session: Session::none(),
            has_answered: HeadSet::default(),
            cookies: None,
            account: RequestAccounting::none(),
        }
    }
}

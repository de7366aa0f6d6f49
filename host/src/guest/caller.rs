//! Whose calls the calls of one instance are: the request that it runs, as far as the host's own interfaces ask for it. Knows
//! no interface; `session_host` and `cookies_host` do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;

use super::account::Account;
use crate::cookie::Jar;
use crate::session::Session;

/// The caller behind an instance's calls.
///
/// A store runs one request at a time, so its data tell whose call it is, in both worlds; were a 0.3 instance shared by
/// several requests at once, the root of `async_call_stack()` would have to tell.
pub(super) struct Caller {
    pub(super) session: Session,
    pub(super) has_answered: HasAnswered,
    /// None for a guest that does not import them.
    pub(super) cookies: Option<Cookies>,
    pub(super) account: Account,
}

/// The cookies of a request, unread, and what reads and writes them.
pub(super) struct Cookies {
    pub(super) jar: Arc<Jar>,
    pub(super) headers: Vec<HeaderValue>,
}

/// Set when the guest has set its response's head: some of the body may have been written since.
#[derive(Clone, Debug, Default)]
pub(super) struct HasAnswered(Arc<AtomicBool>);

impl HasAnswered {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Caller {
    /// Of an instance that runs no request: its calls are denied.
    pub(super) fn none() -> Self {
        Self {
            session: Session::none(),
            has_answered: HasAnswered::default(),
            cookies: None,
            account: Account::none(),
        }
    }
}

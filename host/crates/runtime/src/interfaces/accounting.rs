//! State of one request that lasts over all its runs: its source, whether it had effects outside the host, and the denials that were
//! logged. This module knows neither the session nor the grants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::denials::{DenialCounters, GrantDenial};
use cloakroom_base::quota::ClientConnection;

/// The accounting of one request. Clones share the same state.
#[derive(Clone, Debug)]
pub(crate) struct RequestAccounting(Arc<AccountingEntries>);

#[derive(Debug)]
struct AccountingEntries {
    /// Number of outbound calls that the guest has sent.
    calls: AtomicU32,
    /// The grants of which a denial was logged.
    reported: Mutex<Vec<&'static str>>,
    request_id: Arc<str>,
    source: ClientConnection,
    /// `None` for an instance that runs no request.
    denials: Option<Arc<DenialCounters>>,
}

impl RequestAccounting {
    pub(crate) fn new(
        denials: Arc<DenialCounters>,
        request_id: Arc<str>,
        source: ClientConnection,
    ) -> Self {
        Self::with(Some(denials), request_id, source)
    }

    /// Returns the accounting of an instance that runs no request.
    pub(crate) fn none() -> Self {
        Self::with(None, Arc::default(), ClientConnection::default())
    }

    fn with(
        denials: Option<Arc<DenialCounters>>,
        request_id: Arc<str>,
        source: ClientConnection,
    ) -> Self {
        Self(Arc::new(AccountingEntries {
            calls: AtomicU32::new(0),
            reported: Mutex::default(),
            request_id,
            source,
            denials,
        }))
    }

    /// Returns the connection that the request came by. Outbound calls of different connections take turns.
    pub(crate) fn source(&self) -> ClientConnection {
        self.0.source
    }

    /// Returns whether the guest has sent any outbound call.
    pub(crate) fn has_effects(&self) -> bool {
        self.0.calls.load(Ordering::Acquire) > 0
    }

    /// Counts one more outbound call. Returns `false` without counting if there are `max` already.
    pub(crate) fn count_call(&self, max: u32) -> bool {
        let next = |count| (count < max).then_some(count + 1);
        self.0
            .calls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .is_ok()
    }

    /// Counts a call for which no outgoing connection became free in time.
    pub(crate) fn found_no_connection(&self) {
        if let Some(denials) = &self.0.denials {
            denials.found_no_connection();
        }
    }

    /// Counts a denial. Logs only the request's first denial of each grant.
    pub(crate) fn denied(&self, denial: &dyn GrantDenial) {
        let Some(denials) = &self.0.denials else {
            return;
        };
        denials.count(denial);
        let grant = denial.grant();
        let mut reported = self.0.reported.lock();
        if !reported.contains(&grant) {
            reported.push(grant);
            drop(reported);
            denials.report(denial, &self.0.request_id);
        }
    }
}

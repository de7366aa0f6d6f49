//! State of one request that lasts over all its runs: its source, whether it had effects outside the host, and the denials that were
//! logged. The account knows neither the session nor the grants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use super::denials::{Denial, Denials};
use crate::quota::Source;

/// The account of one request. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Account(Arc<Entries>);

#[derive(Debug)]
struct Entries {
    /// Requests of the guest that have left.
    calls: AtomicU32,
    /// A bit for each grant whose denial was told.
    told: AtomicU8,
    request_id: Arc<str>,
    source: Source,
    /// None where there is no request.
    denials: Option<Arc<Denials>>,
}

impl Account {
    pub(super) fn new(denials: Arc<Denials>, request_id: Arc<str>, source: Source) -> Self {
        Self::with(Some(denials), request_id, source)
    }

    /// Of an instance that runs no request.
    pub(super) fn none() -> Self {
        Self::with(None, Arc::default(), Source::default())
    }

    fn with(denials: Option<Arc<Denials>>, request_id: Arc<str>, source: Source) -> Self {
        Self(Arc::new(Entries {
            calls: AtomicU32::new(0),
            told: AtomicU8::new(0),
            request_id,
            source,
            denials,
        }))
    }

    /// The connection that the request came by: its calls take turns with those of others.
    pub(super) fn source(&self) -> Source {
        self.0.source
    }

    /// Whether any request of the guest has left.
    pub(super) fn has_effects(&self) -> bool {
        self.0.calls.load(Ordering::Acquire) > 0
    }

    /// Counts one more that leaves, unless there are `max` already.
    pub(super) fn count_call(&self, max: u32) -> bool {
        let next = |count| (count < max).then_some(count + 1);
        self.0
            .calls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .is_ok()
    }

    /// Counts a call for which no outgoing connection became free in time.
    pub(super) fn found_no_connection(&self) {
        if let Some(denials) = &self.0.denials {
            denials.found_no_connection();
        }
    }

    /// Counts a denial, and has the log told of the request's first one for each grant.
    pub(super) fn denied(&self, denial: &Denial<'_>) {
        let Some(denials) = &self.0.denials else {
            return;
        };
        denials.count(denial);
        let bit = 1 << denial.grant() as u8;
        if self.0.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            denials.tell(denial, &self.0.request_id);
        }
    }
}

//! Touches: they move the expiry of rows that were read but not written, without delaying the responses. One batch is under
//! way at a time. Touches that arrive meanwhile form the next batch, one per session. The caller has already decided that a
//! touch is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::record::SessionId;
use crate::store::{SessionStore, StoreErrorKind, Touch};
use cloakroom_base::clock::Clock;
use cloakroom_base::telemetry::RateLimitedLines;

/// The touches that wait for the store or are being sent to it.
#[derive(Default)]
pub(crate) struct Touches {
    pending: Mutex<PendingTouches>,
    /// Limits the log lines about batches that the store refused.
    faults: RateLimitedLines<StoreErrorKind>,
}

/// The new expiries by session, as the last valid second.
#[derive(Default)]
struct PendingTouches {
    waiting: HashMap<SessionId, i64>,
    /// The batch that is being sent; `None` if no task is sending.
    under_way: Option<HashMap<SessionId, i64>>,
}

impl Touches {
    /// Queues a move of the row's expiry. Returns false if the same or a later expiry is already queued or being sent.
    ///
    /// Best effort: if the store fails, the next visit tries again.
    pub(crate) fn send(
        self: &Arc<Self>,
        touch: Touch,
        store: &Arc<dyn SessionStore>,
        clock: &Clock,
        tasks: &TaskTracker,
    ) -> bool {
        let mut pending = self.pending.lock();
        let known = |all: &HashMap<SessionId, i64>| {
            all.get(&touch.id)
                .is_some_and(|at_s| *at_s >= touch.expires_at_s)
        };
        if known(&pending.waiting) || pending.under_way.as_ref().is_some_and(known) {
            return false;
        }
        pending.waiting.insert(touch.id, touch.expires_at_s);
        if pending.under_way.is_none() {
            pending.under_way = Some(HashMap::new());
            let (touches, store, clock) = (Arc::clone(self), Arc::clone(store), clock.clone());
            tasks.spawn(async move { touches.send_batches(&*store, &clock).await });
        }
        true
    }

    async fn send_batches(&self, store: &dyn SessionStore, clock: &Clock) {
        while let Some(batch) = self.next_batch() {
            if let Err(error) = store.touch_many(&batch, clock.now_s()).await
                // An outage of the store is logged by the metered store in front of it.
                && error.kind != StoreErrorKind::Unavailable
                && let Some(line) = self.faults.take_line(error.kind, Instant::now())
            {
                let (rows, untold) = (batch.len(), line.untold);
                tracing::warn!(%error, rows, untold, "could not move the expiry of sessions");
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<Touch>> {
        let mut pending = self.pending.lock();
        let batch = std::mem::take(&mut pending.waiting);
        if batch.is_empty() {
            pending.under_way = None;
            return None;
        }
        let touch = |(id, at_s): (&SessionId, &i64)| Touch {
            id: id.clone(),
            expires_at_s: *at_s,
        };
        let touches = batch.iter().map(touch).collect();
        pending.under_way = Some(batch);
        Some(touches)
    }
}

//! Touches: the expiry of rows that were read and not written, moved behind the answers. One batch is under way at a time; what
//! comes meanwhile travels with the next, each session once. Knows no policy: who asks has decided that it is due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::record::SessionId;
use crate::store::{SessionStore, StoreErrorKind, Touch};
use crate::telemetry::Recurring;

/// See the module.
#[derive(Default)]
pub(super) struct Touches {
    pending: Mutex<Pending>,
    /// Lines about batches that the store did not take.
    faults: Recurring<StoreErrorKind>,
}

/// Last valid seconds, by session.
#[derive(Default)]
struct Pending {
    waiting: HashMap<SessionId, i64>,
    /// What the store is told just now; `None` while nobody tells it anything.
    under_way: Option<HashMap<SessionId, i64>>,
}

impl Touches {
    /// Has the row's expiry moved soon; whether that was news.
    ///
    /// Best effort: where the store fails, the next visit tries again.
    pub(super) fn send(
        self: &Arc<Self>,
        touch: Touch,
        store: &Arc<dyn SessionStore>,
        clock: &Clock,
        tasks: &TaskTracker,
    ) -> bool {
        let mut pending = self.lock();
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
            tasks.spawn(async move { touches.tell(&*store, &clock).await });
        }
        true
    }

    async fn tell(&self, store: &dyn SessionStore, clock: &Clock) {
        while let Some(batch) = self.next_batch() {
            if let Err(error) = store.touch_many(&batch, clock.now_s()).await
                // That a store is down is told in front of it.
                && error.kind != StoreErrorKind::Unavailable
                && let Some(line) = self.faults.take_line(error.kind, Instant::now())
            {
                let (rows, untold) = (batch.len(), line.untold);
                tracing::warn!(%error, rows, untold, "could not move the expiry of sessions");
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<Touch>> {
        let mut pending = self.lock();
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

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Nothing below panics half way.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

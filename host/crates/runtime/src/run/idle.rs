//! The idle instances of one version, which have served a request and may serve another. The most recently used one is
//! reused first. Their number and their idle time are limited.
//!
//! A version whose instances are not reused has no [`IdleInstances`]. This module enforces the limits. `Invocation` decides
//! which instances become idle, and when.
//!
//! An idle instance holds one of 64 permits of its engine, from the end of its work on and in addition to the concurrency limits.
//! The pool has slots for both. Without a free permit the instance is dropped. An instance becomes idle only when its response
//! leaves, which is after the commit: a run that is discarded, or whose commit failed, takes its instance with it. The guest's
//! own memory stays; everything that the host holds for a request is replaced or closed. Decision 11 in `host/docs/decisions` has
//! the reasons.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::background::BackgroundPool;
use super::instance::GuestInstance;
use super::request::BodyEnder;

/// The idle instances of one version. Dropping it drops the instances.
pub(crate) struct IdleInstances {
    /// Most requests that one instance may serve.
    uses_max: u32,
    /// Longest time that an instance stays idle.
    idle_max: Duration,
    /// Permits for idle instances, shared by all guests of the engine. The engine's pool has a slot for each permit, in
    /// addition to the slots of running instances.
    permits: Arc<Semaphore>,
    background: Arc<BackgroundPool>,
    state: Mutex<IdleState>,
}

#[derive(Default)]
struct IdleState {
    /// Each with the time at which it became idle. The most recent one is at the back.
    instances: VecDeque<(Instant, Box<IdleInstance>)>,
    /// Set when the version takes no new requests.
    is_closed: bool,
    sweeper: Option<IdleSweeper>,
}

/// An instance that has served a request successfully. It becomes idle with [`IdleInstance::make_idle`]. Dropping it drops the
/// instance.
pub(crate) struct IdleInstance {
    // The field order matters: the instance's pool slot must be free before its permit goes to another instance.
    instance: GuestInstance,
    _permit: OwnedSemaphorePermit,
    /// Ends the body of the request that the instance has served.
    request_body: BodyEnder,
    idle_instances: Weak<IdleInstances>,
}

impl fmt::Debug for IdleInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleInstance").finish_non_exhaustive()
    }
}

impl IdleInstances {
    pub(crate) fn new(
        uses_max: u32,
        idle_max: Duration,
        permits: Arc<Semaphore>,
        background: Arc<BackgroundPool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            uses_max,
            idle_max,
            permits,
            background,
            state: Mutex::default(),
        })
    }

    /// Keeps an instance that has served a request, if it may serve another one and an idle permit is free. Must be
    /// called before the instance gives up its running permit. The instance can be reused only after [`IdleInstance::make_idle`].
    pub(crate) fn keep(
        self: &Arc<Self>,
        mut instance: GuestInstance,
        request_body: BodyEnder,
    ) -> Option<Box<IdleInstance>> {
        if !instance.retire(self.uses_max) {
            return None;
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(Box::new(IdleInstance {
            instance,
            _permit: permit,
            request_body,
            idle_instances: Arc::downgrade(self),
        }))
    }

    /// Takes the instance that became idle most recently, and frees its idle permit. The caller must hold a running
    /// permit.
    pub(crate) fn take(&self) -> Option<GuestInstance> {
        let (_, idle) = self.state.lock().instances.pop_back()?;
        Some(idle.instance)
    }

    /// Returns the number of idle instances.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().instances.len()
    }

    /// Drops all idle instances and accepts no further ones.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.sweeper = None;
        let instances = std::mem::take(&mut state.instances);
        drop(state);
        self.drop_aside(instances);
    }

    /// Returns the number of free idle permits, over all guests of the engine.
    #[cfg(test)]
    pub(crate) fn permits_free(&self) -> usize {
        self.permits.available_permits()
    }

    fn put(self: &Arc<Self>, idle: Box<IdleInstance>) {
        let mut state = self.state.lock();
        if state.is_closed {
            // Dropping an instance is slow, so release the lock first.
            drop(state);
            return drop(idle);
        }
        state.instances.push_back((Instant::now(), idle));
        if state.sweeper.as_ref().is_none_or(IdleSweeper::is_over) {
            state.sweeper = Some(IdleSweeper::start(self));
        }
    }

    /// Drops the instances that were idle for too long. Returns the time of the next sweep, if any instance is left.
    fn sweep(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let is_due = |(since, _): &(Instant, Box<IdleInstance>)| *since + self.idle_max <= now;
        let due = state.instances.iter().take_while(|it| is_due(it)).count();
        let idle: VecDeque<_> = state.instances.drain(..due).collect();
        let next = state.instances.front().map(|(since, _)| *since);
        if next.is_none() {
            // The sweeper ends after this sweep. The next instance that becomes idle starts another one.
            state.sweeper = None;
        }
        drop(state);
        self.drop_aside(idle);
        Some(next? + self.idle_max)
    }

    fn drop_aside(&self, instances: VecDeque<(Instant, Box<IdleInstance>)>) {
        if !instances.is_empty() {
            self.background.drop_aside(instances);
        }
    }
}

impl IdleInstance {
    /// Makes the instance available for reuse, if its version still exists. Must be called after the run has ended and
    /// its response has been passed on.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn make_idle(self: Box<Self>) {
        // The guest may still hold the request's body, and the client's connection must not wait for that.
        self.request_body.close();
        if let Some(idle_instances) = self.idle_instances.upgrade() {
            idle_instances.put(self);
        }
    }
}

impl Drop for IdleInstances {
    fn drop(&mut self) {
        self.close();
    }
}

/// A task that drops instances which were idle for too long. Dropping the handle aborts it.
struct IdleSweeper(AbortHandle);

impl IdleSweeper {
    fn start(idle_instances: &Arc<IdleInstances>) -> Self {
        let (idle_instances, idle_max) = (Arc::downgrade(idle_instances), idle_instances.idle_max);
        let task = tokio::spawn(async move {
            let mut next = Instant::now() + idle_max;
            loop {
                tokio::time::sleep_until(next.into()).await;
                match idle_instances
                    .upgrade()
                    .and_then(|idle_instances| idle_instances.sweep())
                {
                    Some(later) => next = later,
                    None => return,
                }
            }
        });
        Self(task.abort_handle())
    }

    /// Returns whether the task has ended. Its tokio runtime may end before the [`IdleInstances`] does.
    fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for IdleSweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

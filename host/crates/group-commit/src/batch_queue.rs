//! Batch queues to the server: jobs that wait while all workers are busy are batched into one statement. Knows neither
//! the text of the statements nor the meaning of their replies.
//!
//! A job never waits in order to be batched. It runs at once if a worker is free, and a worker that finishes takes all
//! matching jobs that have arrived in the meantime. A worker is a task that lives as long as jobs wait, with one
//! connection of the pool at a time. A statement that gets no reply loses its worker permit to another worker, so a
//! locked row or a dead connection delays only the jobs in its own batch. A row is in one statement at a time. Further
//! jobs for a locked row therefore wait in this queue and do not occupy more workers.
//!
//! A statement that has been sent is never aborted, because that would cost its connection. A waiting read is withdrawn
//! when its caller is dropped; otherwise refused requests would fill the queue with reads that no caller waits for. A
//! waiting commit stays in the queue.
//!
//! Each kind of job has three workers. A statement without a reply for 100 ms gives its permit away. Reads run in the
//! workers' tasks, a lone one as well, because cutting a read that was sent would cost its connection. Decision 7 in
//! `host/docs/decisions` has the reasons.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::dialect::{Dialect, StatementFailure as _};
use super::queue::{Batchable, JobQueue, WaitingJob};
use cloakroom_base::limits::{STORE_QUEUE_ROWS_MAX, STORE_WORKER_STALL, STORE_WORKERS};
use cloakroom_session::record::SessionId;
use cloakroom_session::store::{StoreError, StoreErrorKind};

/// A job on one row that can be batched with jobs of the same kind.
pub(crate) trait BatchJob: Batchable + Sized + Send + 'static {
    /// Whether a job that has not been sent yet is withdrawn when its caller is dropped.
    const ENDS_WITH_CALLER: bool;

    /// The outcome of the job.
    type Outcome: Send + 'static;

    /// Returns the outcome of a job that was never sent.
    fn refused(error: StoreError) -> Self::Outcome;

    /// Returns the outcome of a job whose progress is unknown.
    fn interrupted() -> Self::Outcome;

    /// Runs these jobs, which fit into one batch, and answers each of them.
    fn run<'a, D: Dialect>(
        dialect: &'a D,
        connection: D::Connection<'a>,
        entries: Vec<BatchEntry<D, Self>>,
    ) -> impl Future<Output = ()> + Send;
}

/// The batch queue for one kind of job.
pub(crate) struct BatchQueue<D: Dialect, J: BatchJob> {
    dialect: Arc<D>,
    tasks: TaskTracker,
    /// Longest time that a job waits for a worker with a connection.
    wait_max: Duration,
    state: Mutex<BatchQueueState<J>>,
}

struct BatchQueueState<J: BatchJob> {
    jobs: JobQueue<J, oneshot::Sender<J::Outcome>>,
    workers_busy: usize,
}

/// The caller's handle to a queued job.
struct BatchReply<D: Dialect, J: BatchJob> {
    queue: Arc<BatchQueue<D, J>>,
    number: u64,
    receiver: oneshot::Receiver<J::Outcome>,
    /// Whether the job has been sent or withdrawn.
    has_left_queue: bool,
}

/// A batch entry: a job that is being executed. Its owner must answer it. If it is dropped unanswered, the caller
/// receives [`BatchJob::interrupted`].
pub(crate) struct BatchEntry<D: Dialect, J: BatchJob> {
    pub(crate) job: J,
    reply: oneshot::Sender<J::Outcome>,
    row_guard: RowGuard<D, J>,
}

/// A row guard: keeps other statements away from a row.
struct RowGuard<D: Dialect, J: BatchJob> {
    queue: Arc<BatchQueue<D, J>>,
    row: Option<SessionId>,
}

/// A worker permit: counts as one busy worker.
struct WorkerPermit<D: Dialect, J: BatchJob> {
    queue: Arc<BatchQueue<D, J>>,
    is_held: bool,
}

impl<D: Dialect, J: BatchJob> BatchQueue<D, J> {
    pub(crate) fn new(dialect: &Arc<D>, tasks: &TaskTracker, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            dialect: Arc::clone(dialect),
            tasks: tasks.clone(),
            wait_max,
            state: Mutex::new(BatchQueueState {
                jobs: JobQueue::new(),
                workers_busy: 0,
            }),
        })
    }

    /// Runs jobs and returns one outcome per job, in the same order.
    ///
    /// Cancel safety: jobs that are queued when this is dropped still run, except that jobs with
    /// [`BatchJob::ENDS_WITH_CALLER`] are withdrawn if they are still waiting.
    pub(crate) async fn run_all(self: &Arc<Self>, jobs: Vec<J>) -> Vec<J::Outcome> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter();
        // Enqueue in parts, so that a call with thousands of rows does not take the queue space of other callers.
        while jobs.len() > 0 {
            let until = Instant::now() + self.wait_max;
            let some = jobs
                .by_ref()
                .take(STORE_WORKERS * D::BATCH_LIMITS.rows_max)
                .collect();
            for waiting in self.enqueue(some) {
                outcomes.push(self.await_outcome(waiting, until).await);
            }
        }
        outcomes
    }

    async fn await_outcome(&self, waiting: Option<BatchReply<D, J>>, until: Instant) -> J::Outcome {
        let Some(mut reply) = waiting else {
            return J::refused(unavailable("too many rows wait for the session store"));
        };
        let in_time = timeout_at(until, &mut reply.receiver).await;
        let is_withdrawn = in_time.is_err() && self.state.lock().jobs.withdraw(reply.number);
        reply.has_left_queue = true;
        if is_withdrawn {
            let waited = format!(
                "all batch workers were busy for {} ms",
                self.wait_max.as_millis()
            );
            return J::refused(unavailable(waited));
        }
        let received = match in_time {
            Ok(received) => received,
            // The job has been sent: its outcome is known within the timeouts of its statements.
            Err(_) => (&mut reply.receiver).await,
        };
        received.unwrap_or_else(|_| J::interrupted())
    }

    /// Enqueues the jobs. A job for which the queue has no room yields `None`.
    fn enqueue(self: &Arc<Self>, jobs: Vec<J>) -> Vec<Option<BatchReply<D, J>>> {
        let mut state = self.state.lock();
        let mut waiting = Vec::with_capacity(jobs.len());
        for job in jobs {
            let has_room = state.jobs.len() < STORE_QUEUE_ROWS_MAX;
            waiting.push(has_room.then(|| {
                let (sender, receiver) = oneshot::channel();
                let number = state.jobs.push(job, sender);
                BatchReply {
                    queue: Arc::clone(self),
                    number,
                    receiver,
                    has_left_queue: false,
                }
            }));
        }
        drop(state);
        self.start_worker();
        waiting
    }

    /// Starts one more worker if a job waits and a permit is free.
    fn start_worker(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.jobs.len() == 0 || state.workers_busy == STORE_WORKERS {
            return;
        }
        state.workers_busy += 1;
        drop(state);
        let permit = WorkerPermit {
            queue: Arc::clone(self),
            is_held: true,
        };
        // If the runtime is shutting down, `spawn` drops the task and its permit before it returns. The permit's drop
        // takes the lock, so the lock must be free here.
        self.tasks.spawn(work(permit));
    }

    /// Returns whether a worker that still holds its permit has more to do. If not, gives the permit up under the same
    /// lock, so that the next job starts another worker.
    fn has_work(&self, permit: &mut WorkerPermit<D, J>) -> bool {
        let mut state = self.state.lock();
        let has_work = permit.is_held && state.jobs.len() > 0;
        if !has_work {
            permit.release(&mut state);
        }
        has_work
    }

    /// Takes the next batch. If there is none, gives up the permit as [`BatchQueue::has_work`] does.
    fn take_batch(
        self: &Arc<Self>,
        permit: &mut WorkerPermit<D, J>,
    ) -> Option<Vec<BatchEntry<D, J>>> {
        let mut state = self.state.lock();
        let taken = state.jobs.take(D::BATCH_LIMITS);
        if taken.is_empty() {
            permit.release(&mut state);
            return None;
        }
        drop(state);
        // Jobs that do not fit into one statement are left to the other workers.
        self.start_worker();
        let entry = |waiting: WaitingJob<J, _>| BatchEntry {
            row_guard: RowGuard {
                queue: Arc::clone(self),
                row: waiting.job.changed_row().cloned(),
            },
            job: waiting.job,
            reply: waiting.attachment,
        };
        Some(taken.into_iter().map(entry).collect())
    }
}

/// The main loop of a worker.
async fn work<D: Dialect, J: BatchJob>(mut permit: WorkerPermit<D, J>) {
    let queue = Arc::clone(&permit.queue);
    while queue.has_work(&mut permit) {
        // Get the connection first and then the jobs that wait by then, so that a job is taken only when it can be sent.
        let connection = queue.dialect.acquire().await;
        let Some(entries) = queue.take_batch(&mut permit) else {
            return;
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                for entry in entries {
                    entry.answer(J::refused(error.to_store_error()));
                }
                continue;
            }
        };
        permit
            .run_or_release(J::run(&*queue.dialect, connection, entries))
            .await;
    }
}

impl<D: Dialect, J: BatchJob> Drop for BatchReply<D, J> {
    fn drop(&mut self) {
        if J::ENDS_WITH_CALLER && !self.has_left_queue {
            // Otherwise the job would take queue space from jobs whose callers still wait for an answer.
            self.queue.state.lock().jobs.withdraw(self.number);
        }
    }
}

impl<D: Dialect, J: BatchJob> BatchEntry<D, J> {
    /// Ends the job: releases its row and answers its caller.
    pub(crate) fn answer(self, outcome: J::Outcome) {
        let Self {
            reply, row_guard, ..
        } = self;
        let queue = Arc::clone(&row_guard.queue);
        let had_row = row_guard.row.is_some();
        drop(row_guard);
        // The job is done even if the caller is gone.
        let _ = reply.send(outcome);
        if had_row {
            // A job may have waited only for this row.
            queue.start_worker();
        }
    }
}

impl<D: Dialect, J: BatchJob> Drop for RowGuard<D, J> {
    fn drop(&mut self) {
        if let Some(row) = &self.row {
            self.queue.state.lock().jobs.release(row);
        }
    }
}

impl<D: Dialect, J: BatchJob> WorkerPermit<D, J> {
    /// Waits for `run` to finish. If that takes too long, gives up the permit meanwhile so that another worker can
    /// start.
    async fn run_or_release<T>(&mut self, run: impl Future<Output = T>) -> T {
        let mut run = pin!(run);
        if let Ok(done) = timeout(STORE_WORKER_STALL, &mut run).await {
            return done;
        }
        self.release(&mut self.queue.clone().state.lock());
        self.queue.start_worker();
        run.await
    }

    fn release(&mut self, state: &mut BatchQueueState<J>) {
        if std::mem::replace(&mut self.is_held, false) {
            state.workers_busy -= 1;
        }
    }
}

impl<D: Dialect, J: BatchJob> Drop for WorkerPermit<D, J> {
    fn drop(&mut self) {
        let queue = Arc::clone(&self.queue);
        self.release(&mut queue.state.lock());
    }
}

pub(crate) fn unavailable(detail: impl Into<String>) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        detail: detail.into(),
    }
}

pub(crate) fn interrupted_commit() -> StoreError {
    unavailable("the commit was interrupted")
}

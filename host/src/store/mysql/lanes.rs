//! Lanes to the server: what waits while all of them are busy travels together in one statement. Knows neither what the
//! statements say nor what their answers mean.
//!
//! Nothing waits for company. A job goes at once if a lane is free; a lane that is done takes whatever has come meanwhile.
//! A lane is a task that lives as long as something waits, with one link of the pool at a time. A statement that gets no
//! answer loses its lane to the next one, so that a locked row or a dead link holds up nobody but those who travel with it;
//! and a row is in one statement at a time, so that whoever wants a locked row again waits here, not in one more lane.
//!
//! A statement that has left is never cut off, which would cost its connection. A read that waits is taken back when its caller goes
//! away: requests that are refused at once would fill the queue with reads that nothing waits for. A commit stays.

mod commits;
mod contests;
mod doubts;
mod loads;
mod queue;
mod verdicts;

pub(super) use commits::CommitJob;
pub(super) use contests::Contests;
pub(super) use doubts::Doubts;
pub(super) use loads::LoadJob;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::Shared;
use super::hosts::Link;
use crate::limits::{
    STORE_BATCH_BYTES_MAX, STORE_BATCH_ROWS_MAX, STORE_LANE_STALL, STORE_LANES,
    STORE_QUEUE_ROWS_MAX,
};
use crate::record::SessionId;
use crate::store::{StoreError, StoreErrorKind};
use queue::{Queue, Room, Travels};

/// What one statement takes.
const ROOM: Room = Room {
    rows_max: STORE_BATCH_ROWS_MAX,
    bytes_max: STORE_BATCH_BYTES_MAX,
};

/// Something to do with one row, which may travel with others like it.
pub(super) trait Job: Travels + Sized + Send + 'static {
    /// Whether one that has not left yet is taken back when its caller goes away.
    const ENDS_WITH_CALLER: bool;

    /// What becomes of it.
    type Outcome: Send + 'static;

    /// What becomes of it if it never left.
    fn refused(error: StoreError) -> Self::Outcome;

    /// What becomes of it if nobody knows how far it got.
    fn interrupted() -> Self::Outcome;

    /// Does these jobs, which fit together, and answers each.
    fn run(
        shared: &Shared,
        link: Link<'_>,
        seats: Vec<Seat<Self>>,
    ) -> impl Future<Output = ()> + Send;
}

/// The lanes for one kind of jobs.
pub(super) struct Lanes<J: Job> {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    /// Longest time that a job waits for a lane with a link.
    wait_max: Duration,
    state: Mutex<State<J>>,
}

struct State<J: Job> {
    queue: Queue<J, oneshot::Sender<J::Outcome>>,
    lanes_busy: usize,
}

/// What a caller has of a job that waits.
struct Ticket<J: Job> {
    lanes: Arc<Lanes<J>>,
    number: u64,
    reply: oneshot::Receiver<J::Outcome>,
    /// Whether the job does not wait any more.
    is_over: bool,
}

/// A job under way. Whoever has it answers it; if it is dropped, its caller is told that it was interrupted.
pub(super) struct Seat<J: Job> {
    pub(super) job: J,
    reply: oneshot::Sender<J::Outcome>,
    hold: Hold<J>,
}

/// Keeps other statements from a row.
struct Hold<J: Job> {
    lanes: Arc<Lanes<J>>,
    row: Option<SessionId>,
}

/// A lane's place among those that may be busy.
struct Place<J: Job> {
    lanes: Arc<Lanes<J>>,
    is_taken: bool,
}

impl<J: Job> Lanes<J> {
    pub(super) fn new(shared: &Arc<Shared>, tasks: &TaskTracker, wait_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            tasks: tasks.clone(),
            wait_max,
            state: Mutex::new(State {
                queue: Queue::new(),
                lanes_busy: 0,
            }),
        })
    }

    /// Gets jobs done; one outcome for each, in the same order.
    ///
    /// Cancel safety: jobs that have begun to wait when it is dropped will be done; those that end with their caller
    /// ([`Job::ENDS_WITH_CALLER`]) are taken back if they still wait.
    pub(super) async fn get_done(self: &Arc<Self>, jobs: Vec<J>) -> Vec<J::Outcome> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut jobs = jobs.into_iter();
        // A call with thousands of rows does not take the room of everybody else's.
        while jobs.len() > 0 {
            let until = Instant::now() + self.wait_max;
            let some = jobs.by_ref().take(STORE_LANES * ROOM.rows_max).collect();
            for waiting in self.enqueue(some) {
                outcomes.push(self.outcome(waiting, until).await);
            }
        }
        outcomes
    }

    async fn outcome(&self, waiting: Option<Ticket<J>>, until: Instant) -> J::Outcome {
        let Some(mut ticket) = waiting else {
            return J::refused(unavailable("too many rows wait for it"));
        };
        let in_time = timeout_at(until, &mut ticket.reply).await;
        let is_withdrawn = in_time.is_err() && self.lock().queue.withdraw(ticket.number);
        ticket.is_over = true;
        if is_withdrawn {
            let waited = format!("all lanes were busy for {} ms", self.wait_max.as_millis());
            return J::refused(unavailable(waited));
        }
        let replied = match in_time {
            Ok(replied) => replied,
            // It has left: what becomes of it is known within the statements' own time.
            Err(_) => (&mut ticket.reply).await,
        };
        replied.unwrap_or_else(|_| J::interrupted())
    }

    /// None for whom there is no room.
    fn enqueue(self: &Arc<Self>, jobs: Vec<J>) -> Vec<Option<Ticket<J>>> {
        let mut state = self.lock();
        let mut waiting = Vec::with_capacity(jobs.len());
        for job in jobs {
            let has_room = state.queue.len() < STORE_QUEUE_ROWS_MAX;
            waiting.push(has_room.then(|| {
                let (sender, reply) = oneshot::channel();
                let number = state.queue.push(job, sender);
                Ticket {
                    lanes: Arc::clone(self),
                    number,
                    reply,
                    is_over: false,
                }
            }));
        }
        drop(state);
        self.open_lane();
        waiting
    }

    /// Lets one more lane work if something waits and one is free.
    fn open_lane(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.queue.len() == 0 || state.lanes_busy == STORE_LANES {
            return;
        }
        state.lanes_busy += 1;
        drop(state);
        let place = Place {
            lanes: Arc::clone(self),
            is_taken: true,
        };
        // A runtime that ends drops the task, and with it the place, before this returns: the lock must be free.
        self.tasks.spawn(work(place));
    }

    /// Whether there is more to do for a lane that still is one. If not, it is given up in the same breath: whoever comes next
    /// opens another.
    fn is_wanted(&self, place: &mut Place<J>) -> bool {
        let mut state = self.lock();
        let is_wanted = place.is_taken && state.queue.len() > 0;
        if !is_wanted {
            place.give_up(&mut state);
        }
        is_wanted
    }

    /// What travels next. Where nothing can, the lane is given up as in [`Lanes::is_wanted`].
    fn board(self: &Arc<Self>, place: &mut Place<J>) -> Option<Vec<Seat<J>>> {
        let mut state = self.lock();
        let taken = state.queue.take(ROOM);
        if taken.is_empty() {
            place.give_up(&mut state);
            return None;
        }
        drop(state);
        // What one statement cannot take is work for the other lanes.
        self.open_lane();
        let seat = |waiting: queue::Waiting<J, _>| Seat {
            hold: Hold {
                lanes: Arc::clone(self),
                row: waiting.job.swapped_row().cloned(),
            },
            job: waiting.job,
            reply: waiting.with,
        };
        Some(taken.into_iter().map(seat).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing panics half way through a change of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's life.
async fn work<J: Job>(mut place: Place<J>) {
    let lanes = Arc::clone(&place.lanes);
    while lanes.is_wanted(&mut place) {
        // First the link, then whoever waits by then: nobody is taken along before it can leave.
        let link = lanes.shared.hosts.link().await;
        let Some(seats) = lanes.board(&mut place) else {
            return;
        };
        let link = match link {
            Ok(link) => link,
            Err(fault) => {
                for seat in seats {
                    seat.answer(J::refused(fault.to_store_error()));
                }
                continue;
            }
        };
        place.keep_for(J::run(&lanes.shared, link, seats)).await;
    }
}

impl<J: Job> Drop for Ticket<J> {
    fn drop(&mut self) {
        if J::ENDS_WITH_CALLER && !self.is_over {
            // Else it would take room from those that wait for an answer.
            self.lanes.lock().queue.withdraw(self.number);
        }
    }
}

impl<J: Job> Seat<J> {
    /// Ends the job: its row is free, its caller told.
    pub(super) fn answer(self, outcome: J::Outcome) {
        let Self { reply, hold, .. } = self;
        let lanes = Arc::clone(&hold.lanes);
        let held_a_row = hold.row.is_some();
        drop(hold);
        // Gone or not, it is done.
        let _ = reply.send(outcome);
        if held_a_row {
            // Somebody may have waited for this row alone.
            lanes.open_lane();
        }
    }
}

impl<J: Job> Drop for Hold<J> {
    fn drop(&mut self) {
        if let Some(row) = &self.row {
            self.lanes.lock().queue.release(row);
        }
    }
}

impl<J: Job> Place<J> {
    /// Runs it, and gives the lane up under it when that takes too long.
    async fn keep_for<T>(&mut self, run: impl Future<Output = T>) -> T {
        let mut run = pin!(run);
        if let Ok(done) = timeout(STORE_LANE_STALL, &mut run).await {
            return done;
        }
        self.give_up(&mut self.lanes.clone().lock());
        self.lanes.open_lane();
        run.await
    }

    fn give_up(&mut self, state: &mut State<J>) {
        if std::mem::replace(&mut self.is_taken, false) {
            state.lanes_busy -= 1;
        }
    }
}

impl<J: Job> Drop for Place<J> {
    fn drop(&mut self) {
        let lanes = Arc::clone(&self.lanes);
        self.give_up(&mut lanes.lock());
    }
}

fn unavailable(detail: impl Into<String>) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        detail: detail.into(),
    }
}

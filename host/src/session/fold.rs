//! Folding: where requests of one session wait for their turn, whoever has it applies their changes after its own, and one row
//! write carries all of them. Knows logs and rows; knows no store, and decides nothing about who waits.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::options::Options;
use super::policy::{self, Facts, Link, Trigger, Write};
use super::transaction::{Base, Planned, Transaction};
use crate::clock::round_to_seconds;

/// Those who wait for one session's turn and have laid their changes open.
#[derive(Default)]
pub(super) struct Riders(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// In the order of their tickets.
    waiting: Vec<Waiting>,
    /// Those who are on their way and would come back into the queue.
    travelling: HashSet<u64>,
    next_ticket: u64,
}

struct Waiting {
    ticket: u64,
    rider: Rider,
    told: oneshot::Sender<Ride>,
}

/// Shows nothing of the sessions.
impl std::fmt::Debug for Riders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Riders").finish_non_exhaustive()
    }
}

/// A run at its release, whose only commit is to replace the row.
pub(super) struct Rider {
    pub(super) transaction: Box<Transaction>,
    pub(super) link: Link,
    pub(super) is_saved: bool,
}

/// What became of a rider; it gets its transaction back.
pub(super) enum Ride {
    /// Its changes are durable.
    Landed(Box<Transaction>, Box<Landing>),
    /// It had given up meanwhile, and nothing of it was written.
    Back(Box<Transaction>),
    /// The store failed; what it was told of its own commit holds for everybody on it.
    Failed(Box<Transaction>),
}

/// What a rider's own commit would have decided.
pub(super) struct Landing {
    pub(super) facts: Facts,
    pub(super) write: Write,
    /// Nothing where the row had come to hold already what the rider wanted there.
    pub(super) planned: Option<Planned>,
    /// When that was.
    pub(super) now_ms: i64,
}

impl Riders {
    /// Lays a rider's changes open until they are taken along, or it takes them back.
    pub(super) fn join(&self, rider: Rider) -> (u64, oneshot::Receiver<Ride>) {
        let (told, rode) = oneshot::channel();
        let mut queue = self.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(Waiting {
            ticket,
            rider,
            told,
        });
        (ticket, rode)
    }

    /// Takes a rider's changes back. `None` if they travel: then it is told what became of them.
    pub(super) fn withdraw(&self, ticket: u64) -> Option<Box<Transaction>> {
        let mut queue = self.lock();
        let Ok(place) = queue.waiting.binary_search_by_key(&ticket, |it| it.ticket) else {
            queue.travelling.remove(&ticket);
            return None;
        };
        Some(queue.waiting.remove(place).rider.transaction)
    }

    /// Applies to the row that `planned` leaves, one after the other, the changes of those who have seen nothing that is
    /// different there. Who has seen something stays: only running again helps it, when its turn comes.
    pub(super) fn take_along(
        self: &Arc<Self>,
        planned: &mut Planned,
        options: &Options,
        now_ms: i64,
    ) -> Convoy {
        let mut convoy = Convoy::default();
        let Some(mut newest) = planned.after().cloned() else {
            return convoy;
        };
        let mut queue = self.lock();
        for mut waiting in std::mem::take(&mut queue.waiting) {
            // Nobody goes on with a session that has just been made to end.
            let is_alive = newest.record.expires_at_s >= round_to_seconds(now_ms);
            let landing = is_alive.then(|| waiting.rider.fold(&newest, options, now_ms));
            match landing.flatten() {
                Some(landing) => {
                    let after = landing.planned.as_ref().and_then(Planned::after);
                    newest = after.cloned().unwrap_or(newest);
                    queue.travelling.insert(waiting.ticket);
                    convoy.passengers.push((waiting, landing));
                }
                None => queue.waiting.push(waiting),
            }
        }
        drop(queue);
        if !convoy.is_empty() {
            planned.write_instead(&newest);
            convoy.newest = Some(newest);
            convoy.riders = Some(Arc::clone(self));
        }
        convoy
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic half way loses riders at most, who are then told so.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rider {
    /// `None` where it has seen what is different on `row`; then it is as it was.
    fn fold(&mut self, row: &Arc<Base>, options: &Options, now_ms: i64) -> Option<Box<Landing>> {
        self.transaction.rebase(Arc::clone(row)).ok()?;
        let facts = self
            .transaction
            .facts(Trigger::Release, self.link, self.is_saved);
        let write = policy::write(options, &facts);
        let mut planned = self.transaction.plan(write, options, now_ms);
        if let Some(planned) = &mut planned {
            planned.bear(&row.record.tokens);
        }
        Some(Box::new(Landing {
            facts,
            write,
            planned,
            now_ms,
        }))
    }
}

/// Whose changes one commit carries beside its own. Dropped, those are lost, and who waits for them is told so.
#[derive(Default)]
pub(super) struct Convoy {
    passengers: Vec<(Waiting, Box<Landing>)>,
    newest: Option<Arc<Base>>,
    riders: Option<Arc<Riders>>,
}

impl Convoy {
    pub(super) fn is_empty(&self) -> bool {
        self.passengers.is_empty()
    }

    /// The row that the commit writes, if it carries anybody's changes.
    pub(super) fn newest(&self) -> Option<Arc<Base>> {
        self.newest.clone()
    }

    /// It is durable.
    pub(super) fn land(self) {
        self.tell(Ride::Landed);
    }

    /// The store failed.
    pub(super) fn fail(self) {
        self.tell(|transaction, _| Ride::Failed(transaction));
    }

    fn tell(self, ride: impl Fn(Box<Transaction>, Box<Landing>) -> Ride) {
        let Some(riders) = self.riders else { return };
        let mut queue = riders.lock();
        for (waiting, landing) in self.passengers {
            queue.travelling.remove(&waiting.ticket);
            waiting.tell(|transaction| ride(transaction, landing));
        }
    }

    /// Nothing was written: who still waits can be taken along by the next commit.
    pub(super) fn turn_back(self) {
        let Some(riders) = self.riders else { return };
        let mut queue = riders.lock();
        for (waiting, _) in self.passengers {
            match queue.travelling.remove(&waiting.ticket) {
                true => queue.waiting.push(waiting),
                false => waiting.tell(Ride::Back),
            }
        }
        queue.waiting.sort_unstable_by_key(|waiting| waiting.ticket);
    }
}

impl Waiting {
    fn tell(self, ride: impl FnOnce(Box<Transaction>) -> Ride) {
        // Who waits does so in a task that is never cancelled; if that panicked, nobody is there to be told.
        let _ = self.told.send(ride(self.rider.transaction));
    }
}

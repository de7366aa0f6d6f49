//! Folding: when requests of one session wait for its lock, the holder applies their changes after its own, and one row
//! write commits all of them. This module works on logs and rows. It does not use the store, and does not decide which
//! requests wait.
//!
//! Each log has its place in a serial order, although one compare-and-swap writes all of them with the holder's token. If another
//! process came first, all candidates return to the queue and join the next try. If the folded session is too large, or the table
//! refuses it, the holder tries alone. A blind change waits for the lock only when it is committed. Decision 9 in
//! `host/docs/decisions` has the reasons.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::options::SessionOptions;
use super::policy::{self, CommitTrigger, LinkSecurity, RowWrite, SegmentFacts};
use super::transaction::{BaseRow, PlannedCommit, Transaction};
use cloakroom_base::clock::round_to_seconds;

/// The queue of requests that wait for one session's lock and offer their changes for folding.
#[derive(Default)]
pub(crate) struct FoldQueue(Mutex<FoldQueueState>);

#[derive(Default)]
struct FoldQueueState {
    /// The entries in the order of their tickets.
    waiting: Vec<FoldEntry>,
    /// The tickets of entries that are in a commit and still want to return to the queue.
    travelling: HashSet<u64>,
    next_ticket: u64,
}

struct FoldEntry {
    ticket: u64,
    rider: FoldCandidate,
    told: oneshot::Sender<FoldResult>,
}

/// Hides the sessions.
impl std::fmt::Debug for FoldQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Riders").finish_non_exhaustive()
    }
}

/// A fold candidate: a run at its release whose only commit replaces the row.
pub(crate) struct FoldCandidate {
    pub(crate) transaction: Box<Transaction>,
    pub(crate) link: LinkSecurity,
    pub(crate) is_saved: bool,
}

/// The result for a fold candidate, which gets its transaction back.
pub(crate) enum FoldResult {
    /// The changes are durable.
    Landed(Box<Transaction>, Box<FoldedOutcome>),
    /// The candidate had given up meanwhile, and none of its changes were written.
    Back(Box<Transaction>),
    /// The store failed. The holder's result applies to every run in the commit.
    Failed(Box<Transaction>),
}

/// The decisions that the candidate's own commit would have made.
pub(crate) struct FoldedOutcome {
    pub(crate) facts: SegmentFacts,
    pub(crate) write: RowWrite,
    /// `None` if the row already contained the candidate's changes.
    pub(crate) planned: Option<PlannedCommit>,
    /// The time of the decisions.
    pub(crate) now_ms: i64,
}

impl FoldQueue {
    /// Offers a candidate's changes until a commit includes them or the candidate withdraws them.
    pub(crate) fn join(&self, rider: FoldCandidate) -> (u64, oneshot::Receiver<FoldResult>) {
        let (told, rode) = oneshot::channel();
        let mut queue = self.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(FoldEntry {
            ticket,
            rider,
            told,
        });
        (ticket, rode)
    }

    /// Takes a candidate's changes back. Returns `None` if they are in a commit; the channel then delivers the result.
    pub(crate) fn withdraw(&self, ticket: u64) -> Option<Box<Transaction>> {
        let mut queue = self.lock();
        let Ok(place) = queue.waiting.binary_search_by_key(&ticket, |it| it.ticket) else {
            queue.travelling.remove(&ticket);
            return None;
        };
        Some(queue.waiting.remove(place).rider.transaction)
    }

    /// Folds waiting candidates, one after the other, into the row that `planned` writes. A candidate that has seen data
    /// that differs in that row stays in the queue: it can only be run again, when it holds the lock.
    pub(crate) fn take_along(
        self: &Arc<Self>,
        planned: &mut PlannedCommit,
        options: &SessionOptions,
        now_ms: i64,
    ) -> FoldedCommit {
        let mut convoy = FoldedCommit::default();
        let Some(mut newest) = planned.after().cloned() else {
            return convoy;
        };
        let mut queue = self.lock();
        for mut waiting in std::mem::take(&mut queue.waiting) {
            // No request continues with a session that this commit makes expire.
            let is_alive = newest.record.expires_at_s >= round_to_seconds(now_ms);
            let landing = is_alive.then(|| waiting.rider.fold(&newest, options, now_ms));
            match landing.flatten() {
                Some(landing) => {
                    let after = landing.planned.as_ref().and_then(PlannedCommit::after);
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

    fn lock(&self) -> MutexGuard<'_, FoldQueueState> {
        // After a panic, candidates are lost at most; they learn this from their closed channels.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FoldCandidate {
    /// Applies the candidate's log to `row`. Returns `None`, and leaves the candidate unchanged, if it has seen data that differs there.
    fn fold(
        &mut self,
        row: &Arc<BaseRow>,
        options: &SessionOptions,
        now_ms: i64,
    ) -> Option<Box<FoldedOutcome>> {
        self.transaction.rebase(Arc::clone(row)).ok()?;
        let facts = self
            .transaction
            .facts(CommitTrigger::Release, self.link, self.is_saved);
        let write = policy::write(options, &facts);
        let mut planned = self.transaction.plan(write, options, now_ms);
        if let Some(planned) = &mut planned {
            planned.bear(&row.record.tokens);
        }
        Some(Box::new(FoldedOutcome {
            facts,
            write,
            planned,
            now_ms,
        }))
    }
}

/// The folded candidates of one commit. If it is dropped without a result, the candidates are lost and are notified.
#[derive(Default)]
pub(crate) struct FoldedCommit {
    passengers: Vec<(FoldEntry, Box<FoldedOutcome>)>,
    newest: Option<Arc<BaseRow>>,
    riders: Option<Arc<FoldQueue>>,
}

impl FoldedCommit {
    pub(crate) fn is_empty(&self) -> bool {
        self.passengers.is_empty()
    }

    /// Returns the row that the commit writes, if any candidate was folded into it.
    pub(crate) fn newest(&self) -> Option<Arc<BaseRow>> {
        self.newest.clone()
    }

    /// Notifies the candidates that the commit is durable.
    pub(crate) fn land(self) {
        self.tell(FoldResult::Landed);
    }

    /// Notifies the candidates that the store failed.
    pub(crate) fn fail(self) {
        self.tell(|transaction, _| FoldResult::Failed(transaction));
    }

    fn tell(self, ride: impl Fn(Box<Transaction>, Box<FoldedOutcome>) -> FoldResult) {
        let Some(riders) = self.riders else { return };
        let mut queue = riders.lock();
        for (waiting, landing) in self.passengers {
            queue.travelling.remove(&waiting.ticket);
            waiting.tell(|transaction| ride(transaction, landing));
        }
    }

    /// Handles a commit that wrote nothing. Candidates that still wait can be folded into the next commit.
    pub(crate) fn turn_back(self) {
        let Some(riders) = self.riders else { return };
        let mut queue = riders.lock();
        for (waiting, _) in self.passengers {
            match queue.travelling.remove(&waiting.ticket) {
                true => queue.waiting.push(waiting),
                false => waiting.tell(FoldResult::Back),
            }
        }
        queue.waiting.sort_unstable_by_key(|waiting| waiting.ticket);
    }
}

impl FoldEntry {
    fn tell(self, ride: impl FnOnce(Box<Transaction>) -> FoldResult) {
        // The receiver waits in a task that is never cancelled. If that task panicked, there is no receiver to notify.
        let _ = self.told.send(ride(self.rider.transaction));
    }
}

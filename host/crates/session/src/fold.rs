//! Folding: when requests of one session wait for its lock, the holder applies their changes after its own, and one row
//! write commits all of them. This module works on logs and rows. It does not use the store, and does not decide which
//! requests wait.
//!
//! Each log has its place in a serial order, although one compare-and-swap writes all of them with the holder's token. If another
//! process came first, all candidates return to the queue and join the next try. If the folded session is too large, or the table
//! refuses it, the holder tries alone. A blind change waits for the lock only when it is committed. Decision 9 in
//! `host/docs/decisions` has the reasons.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::options::SessionOptions;
use crate::policy::CommitRequest;
use crate::transaction::{BaseRow, CommitDecision, PlannedCommit, Transaction};
use cloakroom_base::clock::round_to_seconds;

/// The queue of requests that wait for one session's lock and offer their changes for folding.
#[derive(Default)]
pub(crate) struct FoldQueue(Mutex<FoldQueueState>);

#[derive(Default)]
struct FoldQueueState {
    /// The entries in the order of their numbers.
    waiting: Vec<FoldEntry>,
    /// The numbers of entries that are in a commit and still want to return to the queue.
    in_commit: HashSet<u64>,
    next_number: u64,
}

struct FoldEntry {
    number: u64,
    candidate: FoldCandidate,
    result: oneshot::Sender<FoldResult>,
}

/// Hides the sessions.
impl std::fmt::Debug for FoldQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoldQueue").finish_non_exhaustive()
    }
}

/// A fold candidate: a run at its release whose only commit replaces the row.
pub(crate) struct FoldCandidate {
    pub(crate) transaction: Box<Transaction>,
    pub(crate) request: CommitRequest,
}

/// The result for a fold candidate, which gets its transaction back.
pub(crate) enum FoldResult {
    /// The changes are durable, as the candidate's own commit would have decided. `planned` is `None` if the row already
    /// contained them.
    Committed(Box<Transaction>, Box<CommitDecision>),
    /// The candidate had given up meanwhile, and none of its changes were written.
    Returned(Box<Transaction>),
    /// The store failed. The holder's result applies to every run in the commit.
    Failed(Box<Transaction>),
}

impl FoldQueue {
    /// Offers a candidate's changes until a commit includes them or the candidate withdraws them.
    pub(crate) fn offer(&self, candidate: FoldCandidate) -> (u64, oneshot::Receiver<FoldResult>) {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.0.lock();
        let number = queue.next_number;
        queue.next_number += 1;
        queue.waiting.push(FoldEntry {
            number,
            candidate,
            result: sender,
        });
        (number, receiver)
    }

    /// Takes a candidate's changes back. Returns `None` if they are in a commit; the channel then delivers the result.
    pub(crate) fn withdraw(&self, number: u64) -> Option<Box<Transaction>> {
        let mut queue = self.0.lock();
        let Ok(index) = queue.waiting.binary_search_by_key(&number, |it| it.number) else {
            queue.in_commit.remove(&number);
            return None;
        };
        Some(queue.waiting.remove(index).candidate.transaction)
    }

    /// Folds waiting candidates, one after the other, into the row that `planned` writes. A candidate that has seen data
    /// that differs in that row stays in the queue: it can only be run again, when it holds the lock.
    pub(crate) fn fold_into(
        self: &Arc<Self>,
        planned: &mut PlannedCommit,
        options: &SessionOptions,
        now_ms: i64,
    ) -> FoldedCommit {
        let mut folded = FoldedCommit::default();
        let Some(mut newest) = planned.after().cloned() else {
            return folded;
        };
        let mut queue = self.0.lock();
        for mut waiting in std::mem::take(&mut queue.waiting) {
            // No request continues with a session that this commit makes expire.
            let is_alive = newest.record.expires_at_s >= round_to_seconds(now_ms);
            let decision = is_alive.then(|| waiting.candidate.fold(&newest, options, now_ms));
            match decision.flatten() {
                Some(decision) => {
                    let after = decision.planned.as_ref().and_then(PlannedCommit::after);
                    newest = after.cloned().unwrap_or(newest);
                    queue.in_commit.insert(waiting.number);
                    folded.entries.push((waiting, decision));
                }
                None => queue.waiting.push(waiting),
            }
        }
        drop(queue);
        if !folded.is_empty() {
            planned.replace_row(&newest);
            folded.newest = Some(newest);
            folded.queue = Some(Arc::clone(self));
        }
        folded
    }
}

impl FoldCandidate {
    /// Applies the candidate's log to `row`. Returns `None`, and leaves the candidate unchanged, if it has seen data that differs there.
    fn fold(
        &mut self,
        row: &Arc<BaseRow>,
        options: &SessionOptions,
        now_ms: i64,
    ) -> Option<Box<CommitDecision>> {
        self.transaction.rebase(Arc::clone(row)).ok()?;
        let mut decision = self.transaction.decide(self.request, options, now_ms);
        if let Some(planned) = &mut decision.planned {
            planned.set_tokens(&row.record.tokens);
        }
        Some(Box::new(decision))
    }
}

/// The folded candidates of one commit. If it is dropped without a result, the candidates are lost and are notified.
#[derive(Default)]
pub(crate) struct FoldedCommit {
    entries: Vec<(FoldEntry, Box<CommitDecision>)>,
    newest: Option<Arc<BaseRow>>,
    queue: Option<Arc<FoldQueue>>,
}

impl FoldedCommit {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the row that the commit writes, if any candidate was folded into it.
    pub(crate) fn newest(&self) -> Option<Arc<BaseRow>> {
        self.newest.clone()
    }

    /// Notifies the candidates that the commit is durable.
    pub(crate) fn notify_committed(self) {
        self.notify(FoldResult::Committed);
    }

    /// Notifies the candidates that the store failed.
    pub(crate) fn notify_failed(self) {
        self.notify(|transaction, _| FoldResult::Failed(transaction));
    }

    fn notify(self, result: impl Fn(Box<Transaction>, Box<CommitDecision>) -> FoldResult) {
        let Some(queue) = self.queue else { return };
        let mut queue = queue.0.lock();
        for (waiting, decision) in self.entries {
            queue.in_commit.remove(&waiting.number);
            waiting.notify(|transaction| result(transaction, decision));
        }
    }

    /// Handles a commit that wrote nothing. Candidates that still wait can be folded into the next commit.
    pub(crate) fn return_to_queue(self) {
        let Some(queue) = self.queue else { return };
        let mut queue = queue.0.lock();
        for (waiting, _) in self.entries {
            match queue.in_commit.remove(&waiting.number) {
                true => queue.waiting.push(waiting),
                false => waiting.notify(FoldResult::Returned),
            }
        }
        queue.waiting.sort_unstable_by_key(|waiting| waiting.number);
    }
}

impl FoldEntry {
    fn notify(self, result: impl FnOnce(Box<Transaction>) -> FoldResult) {
        // The receiver waits in a task that is never cancelled. If that task panicked, there is no receiver to notify.
        let _ = self.result.send(result(self.candidate.transaction));
    }
}

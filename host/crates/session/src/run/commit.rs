//! How a run's changes become durable: by one compare-and-swap, which is repeated on the newer row as long as no data that
//! was read differs there.

use std::sync::Arc;
use std::time::Instant;

use super::lock_queue::Folding;
use super::{RunStop, SessionRun};
use crate::fold::FoldedCommit;
use crate::outcome::TransactionRefusal;
use crate::policy::{CommitTrigger, RowState, RowWrite, SessionEnding};
use crate::record::SessionId;
use crate::settle::{LostCommit, commit_one, settle};
use crate::snapshots::{LastVisit, RowKnowledge};
use crate::start::SnapshotCheck;
use crate::store::CommitVerdict;
use crate::transaction::{BaseRow, CommitDecision, PlannedCommit};

/// How often a creation whose reply is lost is tried. Each try may leave a row whose cookie no client has.
const CREATE_TRIES_MAX: u32 = 3;

impl SessionRun {
    /// Commits the guest's changes since the last commit, if the decision tables in `policy` require it.
    ///
    /// Not cancel safe; see [`crate::store::SessionStore::commit_many`].
    ///
    /// # Errors
    /// The reason why the changes cannot be committed. None of them is committed then.
    pub(crate) async fn commit(&mut self, trigger: CommitTrigger) -> Result<(), RunStop> {
        let shared = Arc::clone(&self.shared);
        self.end_several().await?;
        let (mut creations, mut is_alone) = (0, false);
        loop {
            let (request, now_ms) = (self.commit_request(trigger), shared.clock.now_ms());
            let mut decision = self.transaction()?.decide(request, &shared.options, now_ms);
            let Some(mut planned) = decision.planned.take() else {
                if !self.is_checked() {
                    self.verify().await?;
                    continue;
                }
                return self.commit_nothing(&decision).await;
            };
            let folding = Folding::of(&shared.options, trigger, &planned);
            if self.must_wait_for_lock() {
                if let Some(folded) = self.wait_for_lock(folding).await? {
                    return self.finish_folded(*folded);
                }
                if !planned.is_blind() {
                    self.catch_up().await?;
                    continue;
                }
            }
            let folded = match folding {
                Folding::Allowed if !is_alone => self.fold_waiting(&mut planned, now_ms),
                Folding::Allowed | Folding::Excluded => FoldedCommit::default(),
            };
            match self.send(&planned).await {
                CommitVerdict::Committed => {
                    let finished = self.finish_committed(&decision, planned, folded.newest());
                    folded.notify_committed();
                    finished?;
                    return self.complete_logout(&decision.facts).await;
                }
                CommitVerdict::Conflict | CommitVerdict::RolledBack(_) => {
                    folded.return_to_queue();
                    if let Some(folded) = self.resolve_conflict(folding).await? {
                        return self.finish_folded(*folded);
                    }
                }
                CommitVerdict::Ambiguous(_) if planned.is_creation() => {
                    creations += 1;
                    if creations == CREATE_TRIES_MAX || Instant::now() >= self.deadline() {
                        return Err(TransactionRefusal::StoreUnavailable.into());
                    }
                }
                CommitVerdict::Ambiguous(_) => {
                    folded.notify_failed();
                    return Err(TransactionRefusal::StoreUnavailable.into());
                }
                // The session may fit without the folded changes, or the table may refuse the change of another request.
                CommitVerdict::Failed(error) if error.kind.is_about_row() && !folded.is_empty() => {
                    folded.return_to_queue();
                    is_alone = true;
                }
                CommitVerdict::Failed(error) => {
                    folded.notify_failed();
                    return Err(error.kind.into());
                }
            }
        }
    }

    /// Sends a commit. If its reply is lost, determines its outcome, unless the commit is a creation: another id is needed then.
    async fn send(&self, planned: &PlannedCommit) -> CommitVerdict {
        let shared = &self.shared;
        let (store, clock) = (shared.store.as_ref(), &shared.clock);
        match commit_one(store, clock, &planned.commit).await {
            CommitVerdict::Ambiguous(error) => {
                shared.note_lost_reply(&error);
                if planned.is_creation() {
                    return CommitVerdict::Ambiguous(error);
                }
                let (commit, token) = (&planned.commit, planned.token);
                let lost = LostCommit {
                    commit,
                    token,
                    error,
                };
                settle(store, clock, lost, self.deadline()).await
            }
            CommitVerdict::Failed(error) => {
                shared.log_store_fault("could not commit a session", &error);
                CommitVerdict::Failed(error)
            }
            verdict @ (CommitVerdict::Committed
            | CommitVerdict::Conflict
            | CommitVerdict::RolledBack(_)) => verdict,
        }
    }

    /// Reacts to a commit that came first. From now on, the session's requests proceed one at a time, or one commits for
    /// several. Returns the decision if another run has committed this run's changes.
    async fn resolve_conflict(
        &mut self,
        folding: Folding,
    ) -> Result<Option<Box<CommitDecision>>, RunStop> {
        let Some(before) = self.transaction()?.base().cloned() else {
            // The id that was just generated is already in use. The next try generates another one.
            return self.check_deadline().map(|()| None);
        };
        self.shared.counters.conflicts.add_one();
        if self.lock.is_taken() {
            let eager_max = self.shared.options.eager_reruns_max;
            let deadline = self.deadline();
            self.lock.back_off(eager_max, deadline).await?;
            self.refresh().await?;
            return Ok(None);
        }
        self.lock.note_conflict();
        if let Some(folded) = self.wait_for_lock(folding).await? {
            return Ok(Some(folded));
        }
        self.check_deadline()?;
        // The previous holder of the lock has left a newer row, unless another process came first.
        self.catch_up().await?;
        if self
            .transaction()?
            .base()
            .is_some_and(|base| base.is_same(&before))
        {
            self.refresh().await?;
        }
        Ok(None)
    }

    fn check_deadline(&self) -> Result<(), RunStop> {
        if Instant::now() >= self.deadline() {
            return Err(TransactionRefusal::Busy.into());
        }
        Ok(())
    }

    /// Handles a durable commit. `newest` is the row if changes of other requests were folded into the commit.
    fn finish_committed(
        &mut self,
        decision: &CommitDecision,
        planned: PlannedCommit,
        newest: Option<Arc<BaseRow>>,
    ) -> Result<(), RunStop> {
        let newest = newest.or_else(|| planned.after().cloned());
        self.remember(&planned.commit.id, newest.as_ref());
        self.continue_on(decision, planned)
    }

    /// Continues after another run's commit has written this run's changes. That commit also confirms the row that this run
    /// had started from.
    fn finish_folded(&mut self, mut decision: CommitDecision) -> Result<(), RunStop> {
        self.check = SnapshotCheck::Done;
        self.shared.counters.folded_commits.add_one();
        match decision.planned.take() {
            Some(planned) => self.continue_on(&decision, planned),
            None => self.finish_unwritten(&decision),
        }
    }

    /// Handles a commit that writes no row of the session.
    ///
    /// # Errors
    /// [`TransactionRefusal::SeveralSessions`] when the guest wrote and it is unknown which session it meant. As
    /// [`SessionRun::complete_logout`] for a logout.
    async fn commit_nothing(&mut self, decision: &CommitDecision) -> Result<(), RunStop> {
        if decision.write == RowWrite::Forbidden {
            self.shared.note_several_refused();
            return Err(TransactionRefusal::SeveralSessions.into());
        }
        self.complete_logout(&decision.facts).await?;
        self.finish_unwritten(decision)
    }

    /// Continues the run on the row that was committed.
    fn continue_on(
        &mut self,
        decision: &CommitDecision,
        planned: PlannedCommit,
    ) -> Result<(), RunStop> {
        let facts = &decision.facts;
        self.shared.counters.commits.add_one();
        self.is_saved |= facts.trigger == CommitTrigger::Save;
        self.was_modified |= facts.is_modified;
        self.log_commit(decision, &planned);
        let row_attributes = self.transaction()?.row_attributes().clone();
        self.transaction()?.start_segment(planned);
        let attributes = self.transaction()?.attributes().clone();
        self.change_cookie(facts, decision.write, attributes, row_attributes)
    }

    /// Remembers the row for the session's next visit. Marks `id` as ended if the row was deleted or moved to another id.
    fn remember(&mut self, id: &SessionId, newest: Option<&Arc<BaseRow>>) {
        let was_on_snapshot = !self.is_checked();
        self.check = SnapshotCheck::Done;
        let snapshots = &self.shared.snapshots;
        match newest {
            Some(base) => {
                if base.id != *id {
                    snapshots.end(id);
                }
                snapshots.keep(base, RowKnowledge::Committed);
                if was_on_snapshot {
                    snapshots.confirm(&base.id, LastVisit::Wrote);
                }
            }
            None => snapshots.end(id),
        }
    }

    /// Completes a commit that wrote nothing. The expiry may still be moved, and the cookie may change.
    fn finish_unwritten(&mut self, decision: &CommitDecision) -> Result<(), RunStop> {
        let (facts, write) = (&decision.facts, decision.write);
        let row_attributes = self.transaction()?.row_attributes().clone();
        let mut attributes = self.transaction()?.attributes().clone();
        if let Some(base) = self.transaction()?.base().cloned() {
            self.shared.snapshots.confirm(&base.id, LastVisit::Read);
        }
        match write {
            RowWrite::Touch => {
                let expiry = self.touch(&attributes, decision.now_ms)?;
                attributes.expires_at_ms = expiry.cookie_at_ms;
            }
            RowWrite::Undeliverable => {
                let is_first = self.shared.counters.undeliverable_cookies.add_one() == 0;
                if is_first {
                    tracing::warn!(
                        "a session was not stored: its cookie is `secure` and the visitor's link is not; \
                         later ones are counted, not logged"
                    );
                }
            }
            RowWrite::Nothing
            | RowWrite::Create
            | RowWrite::Replace
            | RowWrite::Move
            | RowWrite::Delete
            | RowWrite::Forbidden => {}
        }
        if facts.trigger == CommitTrigger::Save && facts.ending == SessionEnding::Dropped {
            return Ok(());
        }
        self.change_cookie(facts, write, attributes, row_attributes)
    }

    fn log_commit(&self, decision: &CommitDecision, planned: &PlannedCommit) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let facts = &decision.facts;
        let session = self.shared.fingerprint(&planned.commit.id);
        let renamed = planned.new_id().map(|id| self.shared.fingerprint(id));
        match decision.write {
            RowWrite::Create => tracing::info!(session, "created a session"),
            RowWrite::Move if facts.is_regenerated => {
                tracing::info!(session, renamed, "regenerated a session");
            }
            RowWrite::Move => tracing::info!(session, renamed, "renewed a session's id"),
            RowWrite::Delete => tracing::info!(session, "destroyed a session"),
            RowWrite::Nothing
            | RowWrite::Touch
            | RowWrite::Replace
            | RowWrite::Undeliverable
            | RowWrite::Forbidden => tracing::debug!(session, "committed a session"),
        }
        debug_assert!(facts.row_state != RowState::Detached);
    }
}

//! How a run's changes become durable: by one compare-and-swap, which is repeated on the newer row as long as no data that
//! was read differs there.

use std::sync::Arc;
use std::time::Instant;

use super::{RunStop, SessionRun, SnapshotCheck};
use crate::fold::{FoldedCommit, FoldedOutcome};
use crate::policy;
use crate::policy::{CommitTrigger, RowState, RowWrite, SegmentFacts, SessionEnding};
use crate::record::SessionId;
use crate::settle::{SettledCommit, commit_one, settle};
use crate::snapshots::{LastVisit, RowKnowledge};
use crate::store::{CommitVerdict, RowChange};
use crate::transaction::{BaseRow, PlannedCommit};

/// How often a creation whose reply is lost is tried. Each try may leave a row whose cookie no client has.
const CREATE_TRIES_MAX: u32 = 3;

/// How one try to commit ended.
enum CommitTry {
    Committed,
    /// Another commit came first.
    Overtaken,
    /// The commit was a creation and its outcome is unknown: another id is needed.
    CreationLost,
}

impl SessionRun {
    /// Commits the guest's changes since the last commit, if the decision tables in `policy` require it.
    ///
    /// Not cancel safe; see [`crate::store::SessionStore::commit_many`].
    ///
    /// # Errors
    /// The reason why the changes cannot be committed. None of them is committed then.
    pub(crate) async fn commit(&mut self, trigger: CommitTrigger) -> Result<(), RunStop> {
        let manager = Arc::clone(&self.manager);
        let options = &manager.options;
        self.end_several().await?;
        let (mut creations, mut is_alone) = (0, false);
        loop {
            let now_ms = manager.clock.now_ms();
            let (link, is_saved) = (self.link, self.is_saved);
            let transaction = self.transaction()?;
            let facts = transaction.facts(trigger, link, is_saved);
            let write = policy::write(options, &facts);
            let Some(mut planned) = transaction.plan(write, options, now_ms) else {
                if !self.is_checked() {
                    self.verify().await?;
                    continue;
                }
                self.check_unwritten(&facts, write).await?;
                return self.finish_unwritten(&facts, write, now_ms);
            };
            let can_share = trigger == CommitTrigger::Release && planned.is_replacement();
            if self.must_wait_for_lock() {
                match can_share {
                    true => {
                        if let Some(outcome) = self.wait_or_fold().await? {
                            return self.finish_folded(outcome);
                        }
                    }
                    false => self.take_lock().await?,
                }
                if !planned.is_blind() {
                    self.catch_up().await?;
                    continue;
                }
            }
            let folded = match can_share && !is_alone {
                true => self.fold_waiting(&mut planned, now_ms),
                false => FoldedCommit::default(),
            };
            match self.send(&planned).await {
                Ok(CommitTry::Committed) => {
                    let finished = self.finish_committed(&facts, write, planned, folded.newest());
                    folded.notify_committed();
                    finished?;
                    return self.complete_logout(&facts).await;
                }
                Ok(CommitTry::Overtaken) => {
                    folded.return_to_queue();
                    if let Some(outcome) = self.resolve_conflict(can_share).await? {
                        return self.finish_folded(outcome);
                    }
                }
                Ok(CommitTry::CreationLost) => {
                    creations += 1;
                    if creations == CREATE_TRIES_MAX || Instant::now() >= self.deadline() {
                        return Err(RunStop::Store);
                    }
                }
                // The session may fit without the folded changes, or the table may refuse the change of another request.
                Err(RunStop::TooLarge | RunStop::Refused) if !folded.is_empty() => {
                    folded.return_to_queue();
                    is_alone = true;
                }
                Err(stop) => {
                    folded.notify_failed();
                    return Err(stop);
                }
            }
        }
    }

    async fn send(&self, planned: &PlannedCommit) -> Result<CommitTry, RunStop> {
        let manager = &self.manager;
        let (store, clock) = (manager.store.as_ref(), &manager.clock);
        match commit_one(store, clock, &planned.commit).await {
            CommitVerdict::Committed => Ok(CommitTry::Committed),
            CommitVerdict::Conflict | CommitVerdict::RolledBack(_) => Ok(CommitTry::Overtaken),
            CommitVerdict::Failed(error) => {
                manager.log_store_fault("could not commit a session", &error);
                Err(RunStop::of(error.kind))
            }
            CommitVerdict::Ambiguous(error) => {
                manager.counters.ambiguous_commits.add_one();
                manager.log_store_fault("the reply to a session's commit was lost", &error);
                if matches!(planned.commit.change, RowChange::Create(_)) {
                    return Ok(CommitTry::CreationLost);
                }
                let (commit, token) = (&planned.commit, planned.token);
                match settle(store, clock, commit, token, self.deadline()).await {
                    SettledCommit::Committed => Ok(CommitTry::Committed),
                    SettledCommit::NotApplied => Ok(CommitTry::Overtaken),
                    SettledCommit::Unknown => Err(RunStop::Store),
                }
            }
        }
    }

    /// Reacts to a commit that came first. From now on, the session's requests proceed one at a time, or one commits for several.
    async fn resolve_conflict(
        &mut self,
        can_share: bool,
    ) -> Result<Option<Box<FoldedOutcome>>, RunStop> {
        let Some(before) = self.transaction()?.base().cloned() else {
            // The id that was just generated is already in use. The next try generates another one.
            return self.check_deadline().map(|()| None);
        };
        self.manager.counters.conflicts.add_one();
        if self.lock.is_taken() {
            let eager_max = self.manager.options.eager_reruns_max;
            let deadline = self.deadline();
            let waited = self.lock.back_off(eager_max, deadline).await;
            waited.map_err(|_| RunStop::Busy)?;
            self.refresh().await?;
            return Ok(None);
        }
        self.lock.note_conflict();
        if can_share {
            if let Some(outcome) = self.wait_or_fold().await? {
                return Ok(Some(outcome));
            }
        } else {
            self.take_lock().await?;
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
            return Err(RunStop::Busy);
        }
        Ok(())
    }

    /// Returns whether requests contend for this session while this run does not hold its lock.
    pub(crate) fn must_wait_for_lock(&mut self) -> bool {
        if self.lock.is_taken() {
            return false;
        }
        let locks = Arc::clone(&self.manager.locks);
        let base = self.transaction().ok().and_then(|t| t.base());
        base.is_some_and(|base| locks.is_contended(&base.id))
    }

    pub(crate) async fn take_lock(&mut self) -> Result<(), RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(());
        };
        let deadline = self.deadline();
        let taken = self
            .lock
            .take(&self.manager, &id, deadline, self.place.clone())
            .await;
        taken.map_err(|_| RunStop::Busy)
    }

    /// Handles a durable commit. `newest` is the row if changes of other requests were folded into the commit.
    fn finish_committed(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        planned: PlannedCommit,
        newest: Option<Arc<BaseRow>>,
    ) -> Result<(), RunStop> {
        let id = planned.commit.id.clone();
        let newest = newest.or_else(|| planned.after().cloned());
        self.remember(&id, newest.as_ref());
        self.continue_on(facts, write, planned)
    }

    /// Continues the run on the row that was committed.
    pub(crate) fn continue_on(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        planned: PlannedCommit,
    ) -> Result<(), RunStop> {
        self.manager.counters.commits.add_one();
        self.is_saved |= facts.trigger == CommitTrigger::Save;
        self.was_modified |= facts.is_modified;
        self.log_commit(facts, write, &planned);
        let row_attributes = self.transaction()?.row_attributes().clone();
        self.transaction()?.start_segment(planned);
        let attributes = self.transaction()?.attributes().clone();
        self.change_cookie(facts, write, attributes, row_attributes)
    }

    /// Remembers the row for the session's next visit. Marks `id` as ended if the row was deleted or moved to another id.
    fn remember(&mut self, id: &SessionId, newest: Option<&Arc<BaseRow>>) {
        let was_on_snapshot = !self.is_checked();
        self.check = SnapshotCheck::Done;
        let manager = Arc::clone(&self.manager);
        match newest {
            Some(base) => {
                if base.id != *id {
                    manager.snapshots.end(id);
                }
                manager.snapshots.keep(base, RowKnowledge::Committed);
                if was_on_snapshot {
                    manager.snapshots.confirm(&base.id, LastVisit::Wrote);
                }
            }
            None => manager.snapshots.end(id),
        }
    }

    /// Handles a commit that writes nothing. The expiry may still be moved, and the cookie may change.
    pub(crate) fn finish_unwritten(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        now_ms: i64,
    ) -> Result<(), RunStop> {
        let row_attributes = self.transaction()?.row_attributes().clone();
        let mut attributes = self.transaction()?.attributes().clone();
        if let Some(base) = self.transaction()?.base().cloned() {
            self.manager.snapshots.confirm(&base.id, LastVisit::Read);
        }
        match write {
            RowWrite::Touch => {
                let expiry = self.touch(&attributes, now_ms)?;
                attributes.expires_at_ms = expiry.cookie_at_ms;
            }
            RowWrite::Undeliverable => {
                let is_first = self.manager.counters.undeliverable_cookies.add_one() == 0;
                if is_first {
                    tracing::warn!(
                        "a session was not stored: its cookie is `secure` and the visitor's link is not; \
                         later ones are counted, not logged"
                    );
                }
            }
            _ => {}
        }
        if facts.trigger == CommitTrigger::Save && facts.ending == SessionEnding::Dropped {
            return Ok(());
        }
        self.change_cookie(facts, write, attributes, row_attributes)
    }

    fn log_commit(&self, facts: &SegmentFacts, write: RowWrite, planned: &PlannedCommit) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let session = self.manager.keys.load().fingerprint(&planned.commit.id);
        let renamed = planned
            .new_id()
            .map(|id| self.manager.keys.load().fingerprint(id));
        match write {
            RowWrite::Create => tracing::info!(session, "created a session"),
            RowWrite::Move if facts.is_regenerated => {
                tracing::info!(session, renamed, "regenerated a session");
            }
            RowWrite::Move => tracing::info!(session, renamed, "renewed a session's id"),
            RowWrite::Delete => tracing::info!(session, "destroyed a session"),
            _ => tracing::debug!(session, "committed a session"),
        }
        debug_assert!(facts.row_state != RowState::Detached);
    }
}

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
    Landed,
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
        let (mut creations, mut goes_alone) = (0, false);
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
                self.may_leave_unwritten(&facts, write).await?;
                return self.left_unwritten(&facts, write, now_ms);
            };
            let can_share = trigger == CommitTrigger::Release && planned.is_replacement();
            if self.awaits_turn() {
                match can_share {
                    true => {
                        if let Some(landing) = self.ride().await? {
                            return self.rode(landing);
                        }
                    }
                    false => self.take_its_turn().await?,
                }
                if !planned.is_blind() {
                    self.catch_up().await?;
                    continue;
                }
            }
            let convoy = match can_share && !goes_alone {
                true => self.take_along(&mut planned, now_ms),
                false => FoldedCommit::default(),
            };
            match self.attempt(&planned).await {
                Ok(CommitTry::Landed) => {
                    let landed = self.landed(&facts, write, planned, convoy.newest());
                    convoy.land();
                    landed?;
                    return self.after_landing(&facts).await;
                }
                Ok(CommitTry::Overtaken) => {
                    convoy.turn_back();
                    if let Some(landing) = self.give_way(can_share).await? {
                        return self.rode(landing);
                    }
                }
                Ok(CommitTry::CreationLost) => {
                    creations += 1;
                    if creations == CREATE_TRIES_MAX || Instant::now() >= self.deadline() {
                        return Err(RunStop::Store);
                    }
                }
                // The session may fit without the folded changes, or the table may refuse the change of another request.
                Err(RunStop::TooLarge | RunStop::Refused) if !convoy.is_empty() => {
                    convoy.turn_back();
                    goes_alone = true;
                }
                Err(stop) => {
                    convoy.fail();
                    return Err(stop);
                }
            }
        }
    }

    async fn attempt(&self, planned: &PlannedCommit) -> Result<CommitTry, RunStop> {
        let manager = &self.manager;
        let (store, clock) = (manager.store.as_ref(), &manager.clock);
        match commit_one(store, clock, &planned.commit).await {
            CommitVerdict::Committed => Ok(CommitTry::Landed),
            CommitVerdict::Conflict | CommitVerdict::RolledBack(_) => Ok(CommitTry::Overtaken),
            CommitVerdict::Failed(error) => {
                manager.tell_store_fault("could not commit a session", &error);
                Err(RunStop::of(error.kind))
            }
            CommitVerdict::Ambiguous(error) => {
                manager.counters.ambiguous_commits.add_one();
                manager.tell_store_fault("the reply to a session's commit was lost", &error);
                if matches!(planned.commit.change, RowChange::Create(_)) {
                    return Ok(CommitTry::CreationLost);
                }
                let (commit, token) = (&planned.commit, planned.token);
                match settle(store, clock, commit, token, self.deadline()).await {
                    SettledCommit::Committed => Ok(CommitTry::Landed),
                    SettledCommit::NotApplied => Ok(CommitTry::Overtaken),
                    SettledCommit::Unknown => Err(RunStop::Store),
                }
            }
        }
    }

    /// Reacts to a commit that came first. From now on, the session's requests proceed one at a time, or one commits for several.
    async fn give_way(&mut self, can_share: bool) -> Result<Option<Box<FoldedOutcome>>, RunStop> {
        let Some(before) = self.transaction()?.base().cloned() else {
            // The id that was just generated is already in use. The next try generates another one.
            return self.check_deadline().map(|()| None);
        };
        self.manager.counters.conflicts.add_one();
        if self.turn.is_taken() {
            let eager_max = self.manager.options.eager_reruns_max;
            let deadline = self.deadline();
            let waited = self.turn.wait_for_others(eager_max, deadline).await;
            waited.map_err(|_| RunStop::Busy)?;
            self.refresh().await?;
            return Ok(None);
        }
        self.turn.note_conflict();
        if can_share {
            if let Some(landing) = self.ride().await? {
                return Ok(Some(landing));
            }
        } else {
            self.take_its_turn().await?;
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
    pub(crate) fn awaits_turn(&mut self) -> bool {
        if self.turn.is_taken() {
            return false;
        }
        let slots = Arc::clone(&self.manager.slots);
        let base = self.transaction().ok().and_then(|t| t.base());
        base.is_some_and(|base| slots.is_contended(&base.id))
    }

    pub(crate) async fn take_its_turn(&mut self) -> Result<(), RunStop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(());
        };
        let deadline = self.deadline();
        let taken = self
            .turn
            .take(&self.manager, &id, deadline, self.place.clone())
            .await;
        taken.map_err(|_| RunStop::Busy)
    }

    /// Handles a durable commit. `newest` is the row if changes of other requests were folded into the commit.
    fn landed(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        planned: PlannedCommit,
        newest: Option<Arc<BaseRow>>,
    ) -> Result<(), RunStop> {
        let id = planned.commit.id.clone();
        let newest = newest.or_else(|| planned.after().cloned());
        self.remember(&id, newest.as_ref());
        self.take_over(facts, write, planned)
    }

    /// Continues the run on the row that was committed.
    pub(crate) fn take_over(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        planned: PlannedCommit,
    ) -> Result<(), RunStop> {
        self.manager.counters.commits.add_one();
        self.is_saved |= facts.trigger == CommitTrigger::Save;
        self.was_modified |= facts.is_modified;
        self.log_landing(facts, write, &planned);
        let row_attributes = self.transaction()?.row_attributes().clone();
        self.transaction()?.landed(planned);
        let attributes = self.transaction()?.attributes().clone();
        self.change_cookie(facts, write, attributes, row_attributes)
    }

    /// Remembers the row for the session's next visit. Marks `id` as ended if the row was deleted or moved to another id.
    fn remember(&mut self, id: &SessionId, newest: Option<&Arc<BaseRow>>) {
        let stood_on_snapshot = !self.is_checked();
        self.check = SnapshotCheck::Done;
        let manager = Arc::clone(&self.manager);
        match newest {
            Some(base) => {
                if base.id != *id {
                    manager.snapshots.end(id);
                }
                manager.snapshots.keep(base, RowKnowledge::Committed);
                if stood_on_snapshot {
                    manager.snapshots.held(&base.id, LastVisit::Wrote);
                }
            }
            None => manager.snapshots.end(id),
        }
    }

    /// Handles a commit that writes nothing. The expiry may still be moved, and the cookie may change.
    pub(crate) fn left_unwritten(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        now_ms: i64,
    ) -> Result<(), RunStop> {
        let row_attributes = self.transaction()?.row_attributes().clone();
        let mut attributes = self.transaction()?.attributes().clone();
        if let Some(base) = self.transaction()?.base().cloned() {
            self.manager.snapshots.held(&base.id, LastVisit::Read);
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

    fn log_landing(&self, facts: &SegmentFacts, write: RowWrite, planned: &PlannedCommit) {
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
        debug_assert!(facts.standing != RowState::Detached);
    }
}

//! How a run's changes become durable: by one compare-and-swap, which is repeated on the newer row as long as no data that
//! was read differs there.

use std::sync::Arc;
use std::time::Instant;

use super::{Check, Run, Stop};
use crate::record::SessionId;
use crate::session::fold::{Convoy, Landing};
use crate::session::policy::{self, Ending, Facts, Standing, Trigger, Write};
use crate::session::settle::{Settled, commit_one, settle};
use crate::session::snapshots::{Known, Last};
use crate::session::transaction::{Base, Planned};
use crate::store::{Change, Verdict};

/// How often a creation whose reply is lost is tried. Each try may leave a row whose cookie no client has.
const CREATE_TRIES_MAX: u32 = 3;

/// How one try to commit ended.
enum Try {
    Landed,
    /// Another commit came first.
    Overtaken,
    /// The commit was a creation and its outcome is unknown: another id is needed.
    CreationLost,
}

impl Run {
    /// Commits the guest's changes since the last commit, if the decision tables in `policy` require it.
    ///
    /// Not cancel safe; see [`crate::store::SessionStore::commit_many`].
    ///
    /// # Errors
    /// The reason why the changes cannot be committed. None of them is committed then.
    pub(in crate::session) async fn commit(&mut self, trigger: Trigger) -> Result<(), Stop> {
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
            let can_share = trigger == Trigger::Release && planned.is_replacement();
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
                false => Convoy::default(),
            };
            match self.attempt(&planned).await {
                Ok(Try::Landed) => {
                    let landed = self.landed(&facts, write, planned, convoy.newest());
                    convoy.land();
                    landed?;
                    return self.after_landing(&facts).await;
                }
                Ok(Try::Overtaken) => {
                    convoy.turn_back();
                    if let Some(landing) = self.give_way(can_share).await? {
                        return self.rode(landing);
                    }
                }
                Ok(Try::CreationLost) => {
                    creations += 1;
                    if creations == CREATE_TRIES_MAX || Instant::now() >= self.deadline() {
                        return Err(Stop::Store);
                    }
                }
                // The session may fit without the folded changes, or the table may refuse the change of another request.
                Err(Stop::TooLarge | Stop::Refused) if !convoy.is_empty() => {
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

    async fn attempt(&self, planned: &Planned) -> Result<Try, Stop> {
        let manager = &self.manager;
        let (store, clock) = (manager.store.as_ref(), &manager.clock);
        match commit_one(store, clock, &planned.commit).await {
            Verdict::Committed => Ok(Try::Landed),
            Verdict::Conflict | Verdict::RolledBack(_) => Ok(Try::Overtaken),
            Verdict::Failed(error) => {
                manager.tell_store_fault("could not commit a session", &error);
                Err(Stop::of(error.kind))
            }
            Verdict::Ambiguous(error) => {
                manager.counters.ambiguous_commits.add_one();
                manager.tell_store_fault("the reply to a session's commit was lost", &error);
                if matches!(planned.commit.change, Change::Create(_)) {
                    return Ok(Try::CreationLost);
                }
                let (commit, token) = (&planned.commit, planned.token);
                match settle(store, clock, commit, token, self.deadline()).await {
                    Settled::Committed => Ok(Try::Landed),
                    Settled::NotApplied => Ok(Try::Overtaken),
                    Settled::Unknown => Err(Stop::Store),
                }
            }
        }
    }

    /// Reacts to a commit that came first. From now on, the session's requests proceed one at a time, or one commits for several.
    async fn give_way(&mut self, can_share: bool) -> Result<Option<Box<Landing>>, Stop> {
        let Some(before) = self.transaction()?.base().cloned() else {
            // The id that was just generated is already in use. The next try generates another one.
            return self.check_deadline().map(|()| None);
        };
        self.manager.counters.conflicts.add_one();
        if self.turn.is_taken() {
            let eager_max = self.manager.options.eager_reruns_max;
            let deadline = self.deadline();
            let waited = self.turn.wait_for_others(eager_max, deadline).await;
            waited.map_err(|_| Stop::Busy)?;
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

    fn check_deadline(&self) -> Result<(), Stop> {
        if Instant::now() >= self.deadline() {
            return Err(Stop::Busy);
        }
        Ok(())
    }

    /// Returns whether requests contend for this session while this run does not hold its lock.
    pub(super) fn awaits_turn(&mut self) -> bool {
        if self.turn.is_taken() {
            return false;
        }
        let slots = Arc::clone(&self.manager.slots);
        let base = self.transaction().ok().and_then(|t| t.base());
        base.is_some_and(|base| slots.is_contended(&base.id))
    }

    pub(super) async fn take_its_turn(&mut self) -> Result<(), Stop> {
        let Some(id) = self.transaction()?.base().map(|base| base.id.clone()) else {
            return Ok(());
        };
        let deadline = self.deadline();
        let taken = self
            .turn
            .take(&self.manager, &id, deadline, self.place.clone())
            .await;
        taken.map_err(|_| Stop::Busy)
    }

    /// Handles a durable commit. `newest` is the row if changes of other requests were folded into the commit.
    fn landed(
        &mut self,
        facts: &Facts,
        write: Write,
        planned: Planned,
        newest: Option<Arc<Base>>,
    ) -> Result<(), Stop> {
        let id = planned.commit.id.clone();
        let newest = newest.or_else(|| planned.after().cloned());
        self.remember(&id, newest.as_ref());
        self.take_over(facts, write, planned)
    }

    /// Continues the run on the row that was committed.
    pub(super) fn take_over(
        &mut self,
        facts: &Facts,
        write: Write,
        planned: Planned,
    ) -> Result<(), Stop> {
        self.manager.counters.commits.add_one();
        self.is_saved |= facts.trigger == Trigger::Save;
        self.was_modified |= facts.is_modified;
        self.log_landing(facts, write, &planned);
        let row_attributes = self.transaction()?.row_attributes().clone();
        self.transaction()?.landed(planned);
        let attributes = self.transaction()?.attributes().clone();
        self.change_cookie(facts, write, attributes, row_attributes)
    }

    /// Remembers the row for the session's next visit. Marks `id` as ended if the row was deleted or moved to another id.
    fn remember(&mut self, id: &SessionId, newest: Option<&Arc<Base>>) {
        let stood_on_snapshot = !self.is_checked();
        self.check = Check::Done;
        let manager = Arc::clone(&self.manager);
        match newest {
            Some(base) => {
                if base.id != *id {
                    manager.snapshots.end(id);
                }
                manager.snapshots.keep(base, Known::Committed);
                if stood_on_snapshot {
                    manager.snapshots.held(&base.id, Last::Wrote);
                }
            }
            None => manager.snapshots.end(id),
        }
    }

    /// Handles a commit that writes nothing. The expiry may still be moved, and the cookie may change.
    pub(super) fn left_unwritten(
        &mut self,
        facts: &Facts,
        write: Write,
        now_ms: i64,
    ) -> Result<(), Stop> {
        let row_attributes = self.transaction()?.row_attributes().clone();
        let mut attributes = self.transaction()?.attributes().clone();
        if let Some(base) = self.transaction()?.base().cloned() {
            self.manager.snapshots.held(&base.id, Last::Read);
        }
        match write {
            Write::Touch => {
                let expiry = self.touch(&attributes, now_ms)?;
                attributes.expires_at_ms = expiry.cookie_at_ms;
            }
            Write::Undeliverable => {
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
        if facts.trigger == Trigger::Save && facts.ending == Ending::Dropped {
            return Ok(());
        }
        self.change_cookie(facts, write, attributes, row_attributes)
    }

    fn log_landing(&self, facts: &Facts, write: Write, planned: &Planned) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let session = self.manager.keys.load().fingerprint(&planned.commit.id);
        let renamed = planned
            .new_id()
            .map(|id| self.manager.keys.load().fingerprint(id));
        match write {
            Write::Create => tracing::info!(session, "created a session"),
            Write::Move if facts.is_regenerated => {
                tracing::info!(session, renamed, "regenerated a session");
            }
            Write::Move => tracing::info!(session, renamed, "renewed a session's id"),
            Write::Delete => tracing::info!(session, "destroyed a session"),
            _ => tracing::debug!(session, "committed a session"),
        }
        debug_assert!(facts.standing != Standing::Detached);
    }
}

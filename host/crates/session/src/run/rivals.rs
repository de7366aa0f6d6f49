//! A run's duties towards valid cookies that do not name its session: a logout ends all sessions that they name, and the
//! browser drops the cookies.

use std::sync::Arc;

use super::{LoadPhase, RunStop, SessionRun};
use crate::CookieChange;
use crate::cookie::{DuplicateCookies, RequestTarget, stray_places};
use crate::policy;
use crate::policy::{RowState, RowWrite, SegmentFacts, SessionEnding};
use crate::rivals::RowClaim;
use crate::settle::{SettledCommit, settle};
use crate::store::{Commit, CommitVerdict, RowChange};
use crate::transaction::BaseRow;
use cloakroom_base::limits::SESSION_SET_COOKIES_MAX;

impl SessionRun {
    /// Notes that the row of the visit's session exists. Without it, the session would have been in state `absent`.
    pub(crate) fn note_seen(&mut self, base: &BaseRow, absent: RowState) {
        self.seen = Some(base.id.clone());
        // The visit's first run chooses among several sessions; a later run loads the session that was chosen.
        if absent == RowState::New && matches!(self.claim, RowClaim::Several(_)) {
            self.manager.counters.stray_cookies.add_one();
        }
    }

    /// Handles a commit that writes no row of the session.
    ///
    /// # Errors
    /// [`RunStop::Several`] when the guest wrote and it is unknown which session it meant. As [`SessionRun::commit`] for a logout.
    pub(crate) async fn check_unwritten(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
    ) -> Result<(), RunStop> {
        if write == RowWrite::Forbidden {
            self.manager.counters.several_refused.add_one();
            self.manager.log_rivals(
                "a request that came with valid cookies of several sessions was refused because its guest wrote; \
                 nothing was stored",
            );
            return Err(RunStop::Several);
        }
        self.complete_logout(facts).await
    }

    /// Completes a commit. A logout also deletes the other sessions that the visit's cookies name.
    ///
    /// # Errors
    /// As [`RunStop::of`] when a session is not known to be deleted. The browser keeps its cookies then.
    pub(crate) async fn complete_logout(&mut self, facts: &SegmentFacts) -> Result<(), RunStop> {
        match facts.ending == SessionEnding::Destroyed || facts.was_destroyed {
            true => self.delete_unseen().await,
            false => Ok(()),
        }
    }

    /// Deletes several sessions that the guest result before it continued with a new one. Nothing is stored while they exist.
    ///
    /// # Errors
    /// As [`SessionRun::complete_logout`].
    pub(crate) async fn end_several(&mut self) -> Result<(), RunStop> {
        if self.transaction()?.continues_after_several() {
            self.delete_unseen().await?;
            self.transaction()?.become_new();
        }
        Ok(())
    }

    /// Deletes, by id, the sessions that the visit's cookies name and whose row the run has not seen. A lagging database
    /// server may have such a row, and a logout must not leave it alive. If a deletion fails, the browser keeps its
    /// cookies.
    async fn delete_unseen(&mut self) -> Result<(), RunStop> {
        if std::mem::replace(&mut self.has_deleted_unseen, true) {
            return Ok(());
        }
        let result = self.try_delete_unseen().await;
        if result.is_err() {
            self.cookie = CookieChange::Keep;
        }
        result
    }

    async fn try_delete_unseen(&self) -> Result<(), RunStop> {
        if matches!(&self.claim, RowClaim::Several(rivals) if rivals.are_unknown()) {
            return Err(RunStop::Several);
        }
        let ids = self.claim.ids().iter();
        let unseen = ids.filter(|id| self.seen.as_ref() != Some(*id));
        let commits: Vec<Commit> = unseen
            .map(|id| Commit {
                id: id.clone(),
                change: RowChange::Delete { base: None },
            })
            .collect();
        if commits.is_empty() {
            return Ok(());
        }
        let manager = Arc::clone(&self.manager);
        let now_s = manager.clock.now_s();
        let verdicts = manager.store.commit_many(&commits, now_s).await;
        let mut result = Ok(());
        for (commit, verdict) in commits.iter().zip(verdicts) {
            let deleted = match verdict {
                CommitVerdict::Committed | CommitVerdict::Conflict => Ok(()),
                CommitVerdict::Failed(error) => {
                    manager.log_store_fault("could not delete a session", &error);
                    Err(RunStop::of(error.kind))
                }
                // A deletion that cannot be settled makes the response a 503. Settling the others as well would only delay it.
                CommitVerdict::RolledBack(_) | CommitVerdict::Ambiguous(_) if result.is_err() => {
                    continue;
                }
                CommitVerdict::RolledBack(_) => self.settle_deletion(commit).await,
                CommitVerdict::Ambiguous(error) => {
                    manager.counters.ambiguous_commits.add_one();
                    manager.log_store_fault("the reply to a session's commit was lost", &error);
                    self.settle_deletion(commit).await
                }
            };
            if deleted.is_ok() {
                manager.snapshots.end(&commit.id);
            }
            result = result.and(deleted);
        }
        result
    }

    async fn settle_deletion(&self, commit: &Commit) -> Result<(), RunStop> {
        let manager = &self.manager;
        let (store, clock) = (manager.store.as_ref(), &manager.clock);
        match settle(store, clock, commit, None, self.deadline()).await {
            SettledCommit::Committed | SettledCommit::NotApplied => Ok(()),
            SettledCommit::Unknown => Err(RunStop::Store),
        }
    }

    /// Adds the expiry of the duplicate cookies of a visit with several sessions, once it is known which session is the visit's own.
    pub(crate) fn with_duplicates(&self, own: CookieChange) -> CookieChange {
        let (RowClaim::Several(rivals), LoadPhase::Open(transaction)) = (&self.claim, &self.phase)
        else {
            return own;
        };
        // If the session vanished during the visit, the browser may have another cookie by now. If the store failed to
        // delete a session, its cookie may be needed to name it again.
        if transaction.row_state() == RowState::Detached || self.has_store_failed {
            return own;
        }
        let mut kept = Vec::new();
        if transaction.base().is_some() {
            kept.push(transaction.row_attributes());
        }
        if let CookieChange::Set { attributes, .. } | CookieChange::Expire { attributes } = &own {
            kept.push(attributes);
        }
        let manager = &self.manager;
        let options = &manager.options.cookie;
        let DuplicateCookies {
            places: strays,
            hits_kept,
        } = stray_places(
            &options.name,
            RequestTarget {
                host: &rivals.host,
                path: &rivals.path,
            },
            &policy::new_cookie(options, self.link, manager.clock.now_ms()),
            &kept,
            SESSION_SET_COOKIES_MAX - usize::from(!kept.is_empty()),
        );
        if strays.is_empty() {
            return own;
        }
        let own = match (own, transaction.id()) {
            // The `Set-Cookie` field of the session's own cookie follows the fields of the duplicates, so a client that
            // dropped the cookie stores it again.
            (CookieChange::Keep, Some(id)) if hits_kept => CookieChange::Set {
                value: manager.keys.load().sign(id),
                attributes: transaction.row_attributes().clone(),
            },
            (own, _) => own,
        };
        CookieChange::WithStrays {
            own: Box::new(own),
            strays,
        }
    }
}

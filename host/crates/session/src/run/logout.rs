//! A logout ends all sessions that the visit's valid cookies name, not only the one that the guest saw.

use std::sync::Arc;

use super::{RunStop, SessionRun};
use crate::outcome::{CookieChange, TransactionRefusal};
use crate::policy::{SegmentFacts, SessionEnding};
use crate::rivals::RowClaim;
use crate::settle::{LostCommit, settle};
use crate::store::{Commit, CommitVerdict, RowChange, StoreError};

impl SessionRun {
    /// Completes a commit. A logout also deletes the other sessions that the visit's cookies name.
    ///
    /// # Errors
    /// [`RunStop::Refused`] when a session is not known to be deleted. The browser keeps its cookies then.
    pub(crate) async fn complete_logout(&mut self, facts: &SegmentFacts) -> Result<(), RunStop> {
        match facts.ending == SessionEnding::Destroyed || facts.was_destroyed {
            true => self.delete_unseen().await,
            false => Ok(()),
        }
    }

    /// Deletes several sessions that the guest ended before it continued with a new one. Nothing is stored while they exist.
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
            return Err(TransactionRefusal::SeveralSessions.into());
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
        let shared = Arc::clone(&self.shared);
        let now_s = shared.clock.now_s();
        let verdicts = shared.store.commit_many(&commits, now_s).await;
        let mut result = Ok(());
        for (commit, verdict) in commits.iter().zip(verdicts) {
            let deleted = match verdict {
                CommitVerdict::Committed | CommitVerdict::Conflict => Ok(()),
                CommitVerdict::Failed(error) => {
                    shared.log_store_fault("could not delete a session", &error);
                    Err(error.kind.into())
                }
                // A deletion that cannot be settled makes the response a 503. Settling the others as well would only delay it.
                CommitVerdict::RolledBack(_) | CommitVerdict::Ambiguous(_) if result.is_err() => {
                    continue;
                }
                CommitVerdict::RolledBack(error) => self.settle_deletion(commit, error).await,
                CommitVerdict::Ambiguous(error) => {
                    shared.note_lost_reply(&error);
                    self.settle_deletion(commit, error).await
                }
            };
            if deleted.is_ok() {
                shared.snapshots.end(&commit.id);
            }
            result = result.and(deleted);
        }
        result
    }

    async fn settle_deletion(&self, commit: &Commit, error: StoreError) -> Result<(), RunStop> {
        let (store, clock) = (self.shared.store.as_ref(), &self.shared.clock);
        let lost = LostCommit {
            commit,
            token: None,
            error,
        };
        match settle(store, clock, lost, self.deadline()).await {
            CommitVerdict::Committed | CommitVerdict::Conflict => Ok(()),
            CommitVerdict::RolledBack(_)
            | CommitVerdict::Ambiguous(_)
            | CommitVerdict::Failed(_) => Err(TransactionRefusal::StoreUnavailable.into()),
        }
    }
}

//! A run's duties towards valid cookies that do not name its session: a logout ends all sessions that they name, and the
//! browser drops the cookies.

use std::sync::Arc;

use super::{Phase, Run, Stop};
use crate::cookie::{Sent, Strays, stray_places};
use crate::limits::SESSION_SET_COOKIES_MAX;
use crate::session::CookieChange;
use crate::session::policy::{self, Ending, Facts, Standing, Write};
use crate::session::rivals::Claim;
use crate::session::settle::{Settled, settle};
use crate::session::transaction::Base;
use crate::store::{Change, Commit, Verdict};

impl Run {
    /// Notes that the row of the visit's session exists. Without it, the session would have been in state `absent`.
    pub(super) fn note_seen(&mut self, base: &Base, absent: Standing) {
        self.seen = Some(base.id.clone());
        // The visit's first run chooses among several sessions; a later run loads the session that was chosen.
        if absent == Standing::New && matches!(self.claim, Claim::Several(_)) {
            self.manager.counters.stray_cookies.add_one();
        }
    }

    /// Handles a commit that writes no row of the session.
    ///
    /// # Errors
    /// [`Stop::Several`] when the guest wrote and it is unknown which session it meant. As [`Run::commit`] for a logout.
    pub(super) async fn may_leave_unwritten(
        &mut self,
        facts: &Facts,
        write: Write,
    ) -> Result<(), Stop> {
        if write == Write::Forbidden {
            self.manager.counters.several_refused.add_one();
            self.manager.tell_rivals(
                "a request that came with valid cookies of several sessions was refused because its guest wrote; \
                 nothing was stored",
            );
            return Err(Stop::Several);
        }
        self.after_landing(facts).await
    }

    /// Completes a commit. A logout also deletes the other sessions that the visit's cookies name.
    ///
    /// # Errors
    /// As [`Stop::of`] when a session is not known to be deleted. The browser keeps its cookies then.
    pub(super) async fn after_landing(&mut self, facts: &Facts) -> Result<(), Stop> {
        match facts.ending == Ending::Destroyed || facts.was_destroyed {
            true => self.end_unseen().await,
            false => Ok(()),
        }
    }

    /// Deletes several sessions that the guest ended before it continued with a new one. Nothing is stored while they exist.
    ///
    /// # Errors
    /// As [`Run::after_landing`].
    pub(super) async fn end_several(&mut self) -> Result<(), Stop> {
        if self.transaction()?.goes_on_after_several() {
            self.end_unseen().await?;
            self.transaction()?.begin_anew();
        }
        Ok(())
    }

    /// Deletes, by id, the sessions that the visit's cookies name and whose row the run has not seen. A lagging database
    /// server may have such a row, and a logout must not leave it alive. If a deletion fails, the browser keeps its
    /// cookies.
    async fn end_unseen(&mut self) -> Result<(), Stop> {
        if std::mem::replace(&mut self.has_ended_unseen, true) {
            return Ok(());
        }
        let ended = self.try_end_unseen().await;
        if ended.is_err() {
            self.cookie = CookieChange::Keep;
        }
        ended
    }

    async fn try_end_unseen(&self) -> Result<(), Stop> {
        if matches!(&self.claim, Claim::Several(rivals) if rivals.are_unknown()) {
            return Err(Stop::Several);
        }
        let ids = self.claim.ids().iter();
        let unseen = ids.filter(|id| self.seen.as_ref() != Some(*id));
        let commits: Vec<Commit> = unseen
            .map(|id| Commit {
                id: id.clone(),
                change: Change::Delete { base: None },
            })
            .collect();
        if commits.is_empty() {
            return Ok(());
        }
        let manager = Arc::clone(&self.manager);
        let now_s = manager.clock.now_s();
        let verdicts = manager.store.commit_many(&commits, now_s).await;
        let mut ended = Ok(());
        for (commit, verdict) in commits.iter().zip(verdicts) {
            let told = match verdict {
                Verdict::Committed | Verdict::Conflict => Ok(()),
                Verdict::Failed(error) => {
                    manager.tell_store_fault("could not delete a session", &error);
                    Err(Stop::of(error.kind))
                }
                // A deletion that cannot be settled makes the response a 503. Settling the others as well would only delay it.
                Verdict::RolledBack(_) | Verdict::Ambiguous(_) if ended.is_err() => continue,
                Verdict::RolledBack(_) => self.settle_end(commit).await,
                Verdict::Ambiguous(error) => {
                    manager.counters.ambiguous_commits.add_one();
                    manager.tell_store_fault("the reply to a session's commit was lost", &error);
                    self.settle_end(commit).await
                }
            };
            if told.is_ok() {
                manager.snapshots.end(&commit.id);
            }
            ended = ended.and(told);
        }
        ended
    }

    async fn settle_end(&self, commit: &Commit) -> Result<(), Stop> {
        let manager = &self.manager;
        let (store, clock) = (manager.store.as_ref(), &manager.clock);
        match settle(store, clock, commit, None, self.deadline()).await {
            Settled::Committed | Settled::NotApplied => Ok(()),
            Settled::Unknown => Err(Stop::Store),
        }
    }

    /// Adds the expiry of the duplicate cookies of a visit with several sessions, once it is known which session is the visit's own.
    pub(super) fn with_strays(&self, own: CookieChange) -> CookieChange {
        let (Claim::Several(rivals), Phase::Open(transaction)) = (&self.claim, &self.phase) else {
            return own;
        };
        // If the session vanished during the visit, the browser may have another cookie by now. If the store failed to
        // delete a session, its cookie may be needed to name it again.
        if transaction.standing() == Standing::Detached || self.has_store_failed {
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
        let Strays {
            places: strays,
            hits_kept,
        } = stray_places(
            &options.name,
            Sent {
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

//! Copies sessions from one store to another while both are in use. A pass can be interrupted and repeated, and writes
//! only differences. Knows no URL and no terminal.
//!
//! A pass reads the source page by page and asks the target for the same ids, so it needs no state from an earlier
//! pass. A session that ended after a pass went by it stays in the target until [`StoreCopier::remove`] runs. Only
//! [`StoreCopier::verify`] shows that both ends are equal. Before the first pass, [`StoreCopier::survey`] decides whether the
//! copy may write at all.
//!
//! Ids come in the order of the source's own key, whose collation may differ from the target's. So the two ends are compared by
//! look-ups, never by merging. Ended sessions are deleted only by the last pass: during the copy, an id that is absent in the
//! source may be about to arrive.

mod look;
mod plan;
mod progress;
mod walk;

pub use look::{CopyDifferences, CopySurvey};
pub use progress::{CopyProgress, CopyProgressReading};
pub use walk::IdWalk;

use std::fmt;

use super::scan::StoreScan;
use super::{Commit, CommitVerdict, RowChange, SessionStore, StoreError, StoreErrorKind};
use crate::record::{SessionId, SessionRecord};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::{COPY_ATTEMPTS_MAX, COPY_RETRY_WAIT};
use plan::PagePlan;

/// A copy from one store to another.
#[derive(Debug)]
pub struct StoreCopier<'a> {
    /// The store from which sessions are read. Nothing is written to it.
    pub source: &'a dyn StoreScan,
    /// The store to which sessions are written, for reading.
    pub target: &'a dyn StoreScan,
    /// The same target, for writing.
    pub writer: &'a dyn SessionStore,
    /// The clock that decides which sessions are valid.
    pub clock: &'a Clock,
    /// The progress of the copy.
    pub gauge: &'a CopyProgress,
}

/// Totals over the passes of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyTotals {
    /// Sessions that the target did not have.
    pub copied: u64,
    /// Sessions that differed in the target and were rewritten.
    pub replaced: u64,
    /// Sessions that differed only in their expiry.
    pub extended: u64,
    /// Sessions deleted from the target because the source no longer has them.
    pub removed: u64,
    /// Sessions that a host has used in the target since they were copied. They are left unchanged.
    pub newer: u64,
    /// Sessions that the target refuses permanently.
    pub refused: u64,
    /// The target's reason for the first refusal. Never contains an id or data.
    pub refusal: Option<String>,
    /// Rows of the source whose key no cookie can name. They are not copied.
    pub unusable: u64,
}

/// One end of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEnd {
    /// The store from which sessions are copied.
    Source,
    /// The store to which sessions are copied.
    Target,
}

impl fmt::Display for CopyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Error that ended a pass early. Rows already written stay, and the next run continues from there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the {end} of the copy failed: {}", error.detail)]
pub struct CopyError {
    /// The end that failed.
    pub end: CopyEnd,
    /// The error of that end.
    pub error: StoreError,
}

impl StoreCopier<'_> {
    /// Runs one pass over the source: writes sessions that the target lacks or that differ there.
    ///
    /// # Errors
    /// Returns an error if one of the ends fails for more than a few attempts. Sessions that the target refuses are
    /// counted and are not an error.
    ///
    /// Cancel safety: rows already written stay. A session that was about to be rewritten may be absent until the next
    /// pass.
    pub async fn copy(&self, tally: &mut CopyTotals) -> Result<(), CopyError> {
        let mut walk = self.walk(CopyEnd::Source, "copying").await;
        while let Some((ids, now_s)) = walk.next().await? {
            self.settle(&ids, now_s, tally).await?;
            self.gauge.advance(as_u64(ids.len()));
        }
        tally.unusable = walk.unusable;
        Ok(())
    }

    /// Runs one pass over the target: deletes the sessions that the source does not have, but at most `agreed` of them.
    /// Correct only while no host writes to the source and no host serves from the target.
    ///
    /// # Errors
    /// The same as for [`StoreCopier::copy`].
    ///
    /// Cancel safety: deleted sessions stay deleted, and the next pass continues.
    pub async fn remove(&self, agreed: u64, tally: &mut CopyTotals) -> Result<(), CopyError> {
        let mut left = usize::try_from(agreed).unwrap_or(usize::MAX);
        let mut walk = self.walk(CopyEnd::Target, "removing").await;
        while let Some((ids, now_s)) = walk.next().await? {
            let mut ended = self.absent_in_source(&ids, now_s).await?;
            // If the source has lost more sessions since the survey, it is still in use. The comparison at the end
            // reports that.
            ended.truncate(left);
            let count = ended.len();
            left -= count;
            self.delete(ended, now_s).await?;
            tally.removed += as_u64(count);
            self.gauge.advance(as_u64(ids.len()));
        }
        Ok(())
    }

    /// Makes these sessions in the target equal to the source. Compares again if the target did not apply every change.
    pub async fn settle(
        &self,
        ids: &[SessionId],
        now_s: i64,
        tally: &mut CopyTotals,
    ) -> Result<(), CopyError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let plan = self.plan(ids, now_s).await?;
            let newer = as_u64(plan.newer);
            let mut refused = Vec::new();
            let unsettled = self.apply(plan, now_s, tally, &mut refused).await;
            match unsettled {
                Some(_) if attempts < COPY_ATTEMPTS_MAX => {
                    tokio::time::sleep(COPY_RETRY_WAIT).await;
                }
                Some(error) => {
                    let end = CopyEnd::Target;
                    return Err(CopyError { end, error });
                }
                None => {
                    tally.newer += newer;
                    tally.refused += as_u64(refused.len());
                    let first = refused.into_iter().next();
                    tally.refusal = tally.refusal.take().or(first.map(|error| error.detail));
                    return Ok(());
                }
            }
        }
    }

    /// Writes a plan. Returns the first temporary error, if there was one.
    async fn apply(
        &self,
        plan: PagePlan,
        now_s: i64,
        tally: &mut CopyTotals,
        refused: &mut Vec<StoreError>,
    ) -> Option<StoreError> {
        let mut unsettled: Option<StoreError> = None;
        let mut note = |outcome: PageOutcome, refused: &mut Vec<StoreError>| {
            refused.extend(outcome.refused);
            unsettled = unsettled.take().or(outcome.unsettled);
            outcome.conflicts
        };
        let created = self.commit(plan.creates, now_s).await;
        tally.copied += created.committed;
        // An expired row with the same id exists in the target.
        let mut rewrites = note(created, refused);
        let updated = self.commit(plan.updates, now_s).await;
        tally.replaced += updated.committed;
        // The row changed in the meantime, or the table cannot distinguish its versions. The next comparison decides.
        let mut gone_on = note(updated, refused).len();
        rewrites.extend(plan.rewrites);
        if !rewrites.is_empty() {
            let deletes = rewrites.iter().map(|commit| delete(&commit.id)).collect();
            let deleted = self.commit(deletes, now_s).await;
            let may_delete = deleted.refused.is_empty();
            note(deleted, refused);
            let rewritten = self.commit(rewrites, now_s).await;
            tally.replaced += rewritten.committed;
            let still_there = note(rewritten, refused).len();
            gone_on += if may_delete { still_there } else { 0 };
        }
        if !plan.touches.is_empty() {
            match self.writer.touch_many(&plan.touches, now_s).await {
                Ok(()) => tally.extended += as_u64(plan.touches.len()),
                Err(error) => unsettled = Some(error),
            }
        }
        if gone_on > 0 {
            unsettled = unsettled.or_else(|| Some(changing()));
        }
        unsettled
    }

    async fn commit(&self, commits: Vec<Commit>, now_s: i64) -> PageOutcome {
        let mut outcome = PageOutcome::default();
        if commits.is_empty() {
            return outcome;
        }
        let verdicts = self.writer.commit_many(&commits, now_s).await;
        for (commit, verdict) in commits.into_iter().zip(verdicts) {
            match verdict {
                CommitVerdict::Committed => outcome.committed += 1,
                CommitVerdict::Conflict => outcome.conflicts.push(commit),
                CommitVerdict::Failed(error) if error.kind != StoreErrorKind::Unavailable => {
                    outcome.refused.push(error);
                }
                CommitVerdict::RolledBack(error)
                | CommitVerdict::Failed(error)
                | CommitVerdict::Ambiguous(error) => {
                    outcome.unsettled = Some(error);
                }
            }
        }
        outcome
    }

    /// Deletes these sessions from the target. Deletes that other transactions roll back are repeated a few times.
    ///
    /// # Errors
    /// [`CopyError`] if a delete is refused, or still fails after the last attempt.
    pub async fn delete(&self, ids: Vec<SessionId>, now_s: i64) -> Result<(), CopyError> {
        let mut deletes: Vec<_> = ids.iter().map(delete).collect();
        let mut attempts = 0;
        while !deletes.is_empty() {
            attempts += 1;
            let outcome = self.commit(deletes, now_s).await;
            let end = CopyEnd::Target;
            if let Some(error) = outcome.refused.into_iter().next() {
                return Err(CopyError { end, error });
            }
            let conflict = (!outcome.conflicts.is_empty()).then(changing);
            let Some(error) = outcome.unsettled.or(conflict) else {
                break;
            };
            if attempts >= COPY_ATTEMPTS_MAX {
                return Err(CopyError { end, error });
            }
            tokio::time::sleep(COPY_RETRY_WAIT).await;
            // Ids are never reused, so deleting twice has the same effect as deleting once.
            deletes = ids.iter().map(delete).collect();
        }
        Ok(())
    }
}

/// The outcome of a set of commits.
#[derive(Default)]
struct PageOutcome {
    committed: u64,
    conflicts: Vec<Commit>,
    refused: Vec<StoreError>,
    unsettled: Option<StoreError>,
}

fn delete(id: &SessionId) -> Commit {
    Commit {
        id: id.clone(),
        change: RowChange::Delete { base: None },
    }
}

fn create(id: &SessionId, record: SessionRecord) -> Commit {
    Commit {
        id: id.clone(),
        change: RowChange::Create(record),
    }
}

fn changing() -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        detail: "sessions of the target change while they are written: another process writes it"
            .to_owned(),
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

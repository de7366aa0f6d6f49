//! The read-only passes: the survey before anything is written, and the comparison at the end.

use super::plan::{PagePlan, held_in};
use super::walk::patiently;
use super::{CopyEnd, CopyError, StoreCopier, as_u64};
use crate::record::SessionId;

/// The result of the check of both ends before anything is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopySurvey {
    /// Sessions that a host has used in the target since they were copied. A copy would bring old rows back.
    pub used: u64,
    /// Valid sessions of the target; 0 if they were not counted.
    pub sessions: u64,
    /// Number of those sessions that the source does not have.
    pub alone: u64,
}

/// The result of the comparison of both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyDifferences {
    /// Sessions that are equal at both ends.
    pub equal: u64,
    /// Sessions of the source that are missing or different in the target.
    pub different: u64,
    /// Sessions that only the target has.
    pub extra: u64,
}

impl CopySurvey {
    /// Returns whether the sessions that only the target has may be treated as ended. Without confirmation, they may be
    /// at most half of all sessions. With the operator's confirmation, their number must be exactly `agreed`. More of
    /// them more likely belong to another application, or the target is the wrong one.
    pub fn may_delete(&self, agreed: Option<u64>) -> bool {
        match agreed {
            _ if self.alone == 0 => true,
            Some(agreed) => agreed == self.alone,
            None => self.alone <= self.sessions - self.alone,
        }
    }
}

impl StoreCopier<'_> {
    /// Checks whether a copy may write. With `is_last`, also counts the sessions that [`StoreCopier::remove`] would delete.
    ///
    /// # Errors
    /// The same as for [`StoreCopier::copy`].
    ///
    /// Cancel safety: reads; dropping it changes nothing.
    pub async fn survey(&self, is_last: bool) -> Result<CopySurvey, CopyError> {
        let mut found = CopySurvey::default();
        let mut walk = self.walk(CopyEnd::Source, "examining").await;
        while let Some((ids, now_s)) = walk.next().await? {
            found.used += as_u64(self.plan(&ids, now_s).await?.newer);
            self.gauge.advance(as_u64(ids.len()));
        }
        if !is_last {
            return Ok(found);
        }
        let mut walk = self.walk(CopyEnd::Target, "examining").await;
        while let Some((ids, now_s)) = walk.next().await? {
            found.sessions += as_u64(ids.len());
            found.alone += as_u64(self.absent_in_source(&ids, now_s).await?.len());
            self.gauge.advance(as_u64(ids.len()));
        }
        Ok(found)
    }

    /// Compares both ends, row by row in both directions.
    ///
    /// # Errors
    /// The same as for [`StoreCopier::copy`].
    ///
    /// Cancel safety: reads; dropping it changes nothing.
    pub async fn verify(&self) -> Result<CopyDifferences, CopyError> {
        let mut found = CopyDifferences::default();
        let mut walk = self.walk(CopyEnd::Source, "verifying").await;
        while let Some((ids, now_s)) = walk.next().await? {
            let plan = self.plan(&ids, now_s).await?;
            found.equal += as_u64(plan.equal);
            found.different += as_u64(plan.different());
            self.gauge.advance(as_u64(ids.len()));
        }
        let mut walk = self.walk(CopyEnd::Target, "verifying").await;
        while let Some((ids, now_s)) = walk.next().await? {
            found.extra += as_u64(self.absent_in_source(&ids, now_s).await?.len());
            self.gauge.advance(as_u64(ids.len()));
        }
        Ok(found)
    }

    /// Compares these sessions of the source with those of the target.
    pub(crate) async fn plan(&self, ids: &[SessionId], now_s: i64) -> Result<PagePlan, CopyError> {
        let sources = patiently(CopyEnd::Source, || self.source.rows(ids, now_s)).await?;
        let targets = patiently(CopyEnd::Target, || self.target.rows(ids, now_s)).await?;
        let (columns, charset) = (self.target.own_columns(), self.target.charset());
        let mut plan = PagePlan::default();
        for ((id, source), target) in ids.iter().zip(sources).zip(targets) {
            let source = source.map(|record| held_in(charset, record));
            plan.add(id, source, target.as_ref(), columns);
        }
        Ok(plan)
    }

    pub(crate) async fn absent_in_source(
        &self,
        ids: &[SessionId],
        now_s: i64,
    ) -> Result<Vec<SessionId>, CopyError> {
        let rows = patiently(CopyEnd::Source, || self.source.rows(ids, now_s)).await?;
        let absent = ids.iter().zip(rows).filter(|(_, row)| row.is_none());
        Ok(absent.map(|(id, _)| id.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleting_more_than_half_of_the_target_needs_the_operators_consent() {
        let may = |alone, sessions, agreed| {
            let survey = CopySurvey {
                used: 0,
                sessions,
                alone,
            };
            survey.may_delete(agreed)
        };
        assert!(may(0, 0, None) && may(1, 2, None));
        assert!(!may(2, 3, None) && !may(3, 3, None));
        assert!(may(3, 3, Some(3)));
        assert!(!may(3, 3, Some(2)) && !may(1, 9, Some(2)));
        assert!(may(0, 9, Some(3)), "it was done before");
    }
}

//! Reads one end of a copy page by page, and retries while that end is unreachable.

use super::{CopyEnd, CopyError, StoreCopier};
use crate::record::SessionId;
use crate::store::scan::{ScanCursor, StoreScan};
use crate::store::{StoreError, StoreErrorKind};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::{COPY_ATTEMPTS_MAX, COPY_PAGE_ROWS, COPY_RETRY_WAIT};

/// A pass over the ids of one end, page by page.
pub struct IdWalk<'a> {
    scan: &'a dyn StoreScan,
    end: CopyEnd,
    clock: &'a Clock,
    /// `None` after the last page.
    cursor: Option<ScanCursor>,
    /// Number of rows so far whose key no cookie can name.
    pub(crate) unusable: u64,
}

impl StoreCopier<'_> {
    /// Begins a pass over one end.
    pub async fn walk(&self, end: CopyEnd, phase: &'static str) -> IdWalk<'_> {
        let scan = match end {
            CopyEnd::Source => self.source,
            CopyEnd::Target => self.target,
        };
        // Only for the progress display: without the count, the display has no total.
        let total = scan.count(self.clock.now_s()).await.ok();
        self.gauge.begin(phase, total);
        IdWalk {
            scan,
            end,
            clock: self.clock,
            cursor: Some(ScanCursor::default()),
            unusable: 0,
        }
    }
}

impl IdWalk<'_> {
    /// Returns the next page and the time at which its rows are valid.
    pub async fn next(&mut self) -> Result<Option<(Vec<SessionId>, i64)>, CopyError> {
        let Some(cursor) = self.cursor.take() else {
            return Ok(None);
        };
        let now_s = self.clock.now_s();
        let scan = self.scan;
        let page = patiently(self.end, || scan.ids_after(&cursor, COPY_PAGE_ROWS, now_s)).await?;
        self.unusable += page.unusable;
        self.cursor = page.next;
        Ok(Some((page.ids, now_s)))
    }
}

/// Asks one end, and retries if it is unreachable.
pub(crate) async fn patiently<T, F>(
    end: CopyEnd,
    mut ask: impl FnMut() -> F,
) -> Result<T, CopyError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error)
                if error.kind == StoreErrorKind::Unavailable && attempts < COPY_ATTEMPTS_MAX =>
            {
                tokio::time::sleep(COPY_RETRY_WAIT).await;
            }
            Err(error) => return Err(CopyError { end, error }),
        }
    }
}

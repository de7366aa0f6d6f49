//! A target in which deletes fail in favour of other transactions.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A store whose deletes conflict a given number of times. Its other methods are not used.
#[derive(Debug)]
struct Contested {
    conflicts_left: AtomicU32,
    calls: AtomicU32,
}

impl Contested {
    fn new(conflicts: u32) -> Self {
        Self {
            conflicts_left: AtomicU32::new(conflicts),
            calls: AtomicU32::new(0),
        }
    }

    /// Deletes one session. Returns the result and the number of calls to the store.
    async fn delete(&self) -> (Result<(), CopyError>, u32) {
        let both = Both::open();
        let copying = StoreCopier {
            writer: self,
            ..both.copying()
        };
        let deleted = copying.delete(vec![SessionId::generate()], NOW_S).await;
        (deleted, self.calls.load(Ordering::SeqCst))
    }
}

impl SessionStore for Contested {
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        _now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        let rows = ids.iter().map(|_| None).collect();
        Box::pin(std::future::ready(Ok(rows)))
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        _now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let take = |left: u32| left.checked_sub(1);
        let order = Ordering::SeqCst;
        let is_conflict = self.conflicts_left.fetch_update(order, order, take).is_ok();
        let verdict = |_: &Commit| match is_conflict {
            true => CommitVerdict::Conflict,
            false => CommitVerdict::Committed,
        };
        let verdicts = commits.iter().map(verdict).collect();
        Box::pin(std::future::ready(verdicts))
    }

    fn touch_many<'a>(
        &'a self,
        _touches: &'a [Touch],
        _now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn reap(&self, _now_s: i64, _rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn keeps_tokens(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_delete_that_lost_to_another_transaction_is_tried_again() {
    let (deleted, calls) = Contested::new(1).delete().await;
    assert!(deleted.is_ok(), "{deleted:?}");
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn a_delete_that_always_loses_is_an_error() {
    let (deleted, calls) = Contested::new(u32::MAX).delete().await;
    assert_eq!(deleted.unwrap_err().end, CopyEnd::Target);
    assert_eq!(calls, COPY_ATTEMPTS_MAX);
}

//! Sessions in this process's memory, for tests and temporary use. Nothing is written to disk: all sessions are lost
//! when the store is dropped.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    Commit, CommitVerdict, RowChange, RowVersion, SessionStore, StoreError, StoreFuture, Touch,
};
use crate::record::{SessionId, SessionRecord, TokenHistory};

/// A store without durability: one map behind one lock. The lock is held for the duration of one call and never across
/// an await.
///
/// Only the reaper bounds the number of rows.
#[derive(Default)]
pub struct MemoryStore {
    rows: Mutex<MemoryRows>,
}

impl MemoryStore {
    /// Creates a store without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row as a foreign writer (an Express app with express-mysql-session) does: replaces its data and expiry
    /// without comparing them, or inserts it. Leaves Cloakroom's tokens and creation time unchanged.
    pub fn overwrite(&self, id: &SessionId, data: Bytes, expires_at_s: i64) {
        let mut rows = self.rows.lock();
        let (tokens, created_at_s) = match rows.by_id.get(id) {
            Some(row) => (row.tokens.clone(), row.created_at_s),
            None => (TokenHistory::default(), None),
        };
        rows.put(
            id,
            SessionRecord {
                data,
                expires_at_s,
                tokens,
                created_at_s,
            },
        );
    }

    /// Returns the number of rows, including expired ones.
    pub fn row_count(&self) -> usize {
        self.rows.lock().by_id.len()
    }

    /// Returns the rows that are valid at `now_s`, ordered by expiry with the earliest first.
    pub fn rows(&self, now_s: i64) -> Vec<(SessionId, SessionRecord)> {
        let rows = self.rows.lock();
        let valid = rows.by_expiry.iter().filter(|(at_s, _)| *at_s >= now_s);
        let row = |(_, id): &(i64, SessionId)| Some((id.clone(), rows.by_id.get(id)?.clone()));
        valid.filter_map(row).collect()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("row_count", &self.row_count())
            .finish()
    }
}

impl SessionStore for MemoryStore {
    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            let rows = self.rows.lock();
            Ok(ids
                .iter()
                .map(|id| rows.valid(id, now_s).cloned())
                .collect())
        })
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let mut rows = self.rows.lock();
            let verdicts = commits.iter().map(|commit| rows.commit(commit, now_s));
            verdicts.collect()
        })
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rows = self.rows.lock();
            for touch in touches {
                if let Some(row) = rows.valid(&touch.id, now_s) {
                    let moved = SessionRecord {
                        expires_at_s: touch.expires_at_s,
                        ..row.clone()
                    };
                    rows.put(&touch.id, moved);
                }
            }
            Ok(())
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move { Ok(self.rows.lock().reap(now_s, rows_max)) })
    }

    fn keeps_tokens(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct MemoryRows {
    by_id: HashMap<SessionId, SessionRecord>,
    by_expiry: BTreeSet<(i64, SessionId)>,
}

impl MemoryRows {
    fn valid(&self, id: &SessionId, now_s: i64) -> Option<&SessionRecord> {
        let row = self.by_id.get(id)?;
        (row.expires_at_s >= now_s).then_some(row)
    }

    fn is_still(&self, id: &SessionId, base: &RowVersion, now_s: i64) -> bool {
        self.valid(id, now_s)
            .is_some_and(|row| row.tokens == base.tokens && row.data == base.data)
    }

    fn commit(&mut self, commit: &Commit, now_s: i64) -> CommitVerdict {
        let id = &commit.id;
        match &commit.change {
            RowChange::Create(record) => {
                if self.by_id.contains_key(id) {
                    return CommitVerdict::Conflict;
                }
                self.put(id, record.clone());
            }
            RowChange::Update {
                base,
                record,
                new_id,
            } => {
                let target = new_id.as_ref().unwrap_or(id);
                let target_is_taken = target != id && self.by_id.contains_key(target);
                if target_is_taken || !self.is_still(id, base, now_s) {
                    return CommitVerdict::Conflict;
                }
                let created_at_s = self.remove(id).and_then(|row| row.created_at_s);
                self.put(
                    target,
                    SessionRecord {
                        created_at_s: created_at_s.or(record.created_at_s),
                        ..record.clone()
                    },
                );
            }
            RowChange::Delete { base: Some(base) } => {
                if !self.is_still(id, base, now_s) {
                    return CommitVerdict::Conflict;
                }
                self.remove(id);
            }
            RowChange::Delete { base: None } => {
                self.remove(id);
            }
        }
        CommitVerdict::Committed
    }

    fn reap(&mut self, now_s: i64, rows_max: usize) -> usize {
        for reaped in 0..rows_max {
            match self.by_expiry.first() {
                Some((expires_at_s, _)) if *expires_at_s < now_s => {
                    if let Some((_, id)) = self.by_expiry.pop_first() {
                        self.by_id.remove(&id);
                    }
                }
                _ => return reaped,
            }
        }
        rows_max
    }

    fn put(&mut self, id: &SessionId, row: SessionRecord) {
        self.remove(id);
        self.by_expiry.insert((row.expires_at_s, id.clone()));
        self.by_id.insert(id.clone(), row);
    }

    fn remove(&mut self, id: &SessionId) -> Option<SessionRecord> {
        let row = self.by_id.remove(id)?;
        self.by_expiry.remove(&(row.expires_at_s, id.clone()));
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::CommitToken;
    use crate::store::contract;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_keeps_the_contract() {
        let make = async || Arc::new(MemoryStore::new()) as Arc<dyn SessionStore>;
        contract::check_all(make).await;
    }

    #[tokio::test]
    async fn a_foreign_write_makes_our_commit_conflict_and_keeps_our_columns() {
        let store = MemoryStore::new();
        let id = SessionId::generate();
        let ours = SessionRecord {
            data: Bytes::from_static(b"{\"cookie\":{}}"),
            expires_at_s: 100,
            tokens: TokenHistory::default().push(CommitToken::generate()),
            created_at_s: Some(1),
        };
        let create = Commit {
            id: id.clone(),
            change: RowChange::Create(ours.clone()),
        };
        assert!(matches!(
            store.commit_many(&[create], 50).await[..],
            [CommitVerdict::Committed]
        ));

        store.overwrite(&id, Bytes::from_static(b"{\"cookie\":{},\"n\":1}"), 200);

        let update = Commit {
            id: id.clone(),
            change: RowChange::Update {
                base: RowVersion::of(&ours),
                record: ours.clone(),
                new_id: None,
            },
        };
        assert!(matches!(
            store.commit_many(&[update], 50).await[..],
            [CommitVerdict::Conflict]
        ));
        let row = store.load_many(&[id], 50).await.unwrap().remove(0).unwrap();
        assert_eq!((row.tokens, row.created_at_s), (ours.tokens, Some(1)));
        assert_eq!(
            (&row.data[..], row.expires_at_s),
            (&b"{\"cookie\":{},\"n\":1}"[..], 200)
        );
    }

    #[test]
    fn rows_that_have_expired_are_not_listed() {
        let store = MemoryStore::new();
        for at_s in [30, 10, 20] {
            store.overwrite(&SessionId::generate(), Bytes::from_static(b"{}"), at_s);
        }
        let listed: Vec<_> = store
            .rows(20)
            .into_iter()
            .map(|it| it.1.expires_at_s)
            .collect();
        assert_eq!(listed, [20, 30]);
    }

    #[test]
    fn a_foreign_write_of_an_absent_row_inserts_it() {
        let store = MemoryStore::new();
        store.overwrite(&SessionId::generate(), Bytes::from_static(b"{}"), 1);
        assert_eq!(store.row_count(), 1);
    }
}

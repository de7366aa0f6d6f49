//! A store in memory that simulates failures of a real deployment: another host writes a session first, or the database is
//! unavailable. Independent of HTTP and guests.

use std::collections::VecDeque;
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use cloakroom_session::record::{CommitToken, Document, SessionId, SessionRecord};
use cloakroom_session::store::layer;
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, RowVersion, SessionStore, StoreError, StoreErrorKind,
    StoreFuture, Touch,
};

/// A store in memory with simulated failures.
pub(crate) struct FaultyStore {
    rows: Arc<MemoryStore>,
    is_down: AtomicBool,
    rivals: Mutex<VecDeque<RivalWrite>>,
}

/// A change that another host makes to a session immediately before a commit of this host. Has no `Debug` because it contains
/// session data.
#[derive(Clone)]
pub(crate) enum RivalWrite {
    /// Deletes the session.
    Destroy,
    /// Changes the session.
    Write {
        /// The keys to set and their values as JSON texts.
        set: Vec<(String, String)>,
        /// The keys to delete.
        delete: Vec<String>,
    },
}

impl FaultyStore {
    /// Creates a store on top of `rows` without failures.
    pub(crate) fn over(rows: Arc<MemoryStore>) -> Self {
        Self {
            rows,
            is_down: AtomicBool::new(false),
            rivals: Mutex::default(),
        }
    }

    /// Makes the store unavailable or available again. While it is unavailable, every call fails.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Queues a change of another host. Each commit applies at most one queued change.
    pub(crate) fn send(&self, rival: RivalWrite) {
        self.rivals.lock().push_back(rival);
    }

    /// Returns how many queued changes have not been applied yet.
    pub(crate) fn waiting(&self) -> usize {
        self.rivals.lock().len()
    }

    /// Returns the error of the MySQL store for an unreachable server: nothing was sent, and a retry may succeed.
    fn check_up(&self) -> Result<(), StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError {
                kind: StoreErrorKind::Unavailable,
                detail: "the test has taken it down".to_owned(),
            });
        }
        Ok(())
    }

    async fn commit(&self, commit: &Commit, now_s: i64) -> CommitVerdict {
        if let Err(error) = self.check_up() {
            return CommitVerdict::Failed(error);
        }
        match commit.change {
            // No other host knows the session yet.
            RowChange::Create(_) => {}
            RowChange::Update { .. } | RowChange::Delete { .. } => {
                self.let_a_rival_pass(&commit.id, now_s).await;
            }
        }
        verdict(&self.rows, commit, now_s).await
    }

    /// Applies the next queued change to the row, if both exist.
    async fn let_a_rival_pass(&self, id: &SessionId, now_s: i64) {
        if self.waiting() == 0 || row(&self.rows, id, now_s).await.is_none() {
            return;
        }
        let Some(rival) = self.rivals.lock().pop_front() else {
            return;
        };
        // Requests of this host may write the row at the same time. The change is retried until it succeeds.
        while let Some(row) = row(&self.rows, id, now_s).await {
            let Some(change) = rival.change(row) else {
                return;
            };
            let id = id.clone();
            let commit = Commit { id, change };
            if matches!(
                verdict(&self.rows, &commit, now_s).await,
                CommitVerdict::Committed
            ) {
                return;
            }
        }
    }
}

impl RivalWrite {
    /// Returns the change to commit to this row, or `None` if the row is not a valid session.
    fn change(&self, row: SessionRecord) -> Option<RowChange> {
        let base = RowVersion::of(&row);
        let (set, delete) = match self {
            Self::Destroy => return Some(RowChange::Delete { base: None }),
            Self::Write { set, delete } => (set, delete),
        };
        let mut document = Document::parse(&row.data).ok()?;
        for (key, value) in set {
            document.set(key, value);
        }
        for key in delete {
            document.delete(key);
        }
        let record = SessionRecord {
            data: document.to_bytes(),
            tokens: row.tokens.push(CommitToken::generate()),
            ..row
        };
        Some(RowChange::Update {
            base,
            record,
            new_id: None,
        })
    }
}

async fn row(rows: &MemoryStore, id: &SessionId, now_s: i64) -> Option<SessionRecord> {
    let loaded = rows.load_many(slice::from_ref(id), now_s).await;
    loaded.ok()?.pop()?
}

async fn verdict(rows: &MemoryStore, commit: &Commit, now_s: i64) -> CommitVerdict {
    let verdicts = rows.commit_many(slice::from_ref(commit), now_s).await;
    let verdict = verdicts.into_iter().next();
    verdict.expect("a store gives one verdict for each commit")
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("rows", &self.rows)
            .field("is_down", &self.is_down)
            .finish_non_exhaustive()
    }
}

impl layer::StoreLayer for FaultyStore {
    fn inner(&self) -> &dyn SessionStore {
        &*self.rows
    }

    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            self.check_up()?;
            self.rows.load_many(ids, now_s).await
        })
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::with_capacity(commits.len());
            for commit in commits {
                verdicts.push(self.commit(commit, now_s).await);
            }
            verdicts
        })
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.check_up()?;
            self.rows.touch_many(touches, now_s).await
        })
    }

    fn reap(&self, now_s: i64, rows_max: usize) -> StoreFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            self.check_up()?;
            self.rows.reap(now_s, rows_max).await
        })
    }
}

#[cfg(test)]
mod tests;

//! A dialect on a memory store. It records its statements, and a statement that names a certain row can fail, lose its
//! reply, stall or panic.

use std::collections::HashMap;
use std::sync::Arc;

use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, SessionStore as _, StoreError, StoreErrorKind,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::{BatchLimits, Dialect, FailureScope, RowInsert, RowSwap, RowsById, StatementFailure};

/// Number of connections: one for each worker of both queues, and one more.
const CONNECTIONS: u32 = 7;

/// A table in memory. Its statements take at most four rows and 100 bytes.
pub(crate) struct FakeDialect {
    pub(crate) rows: MemoryStore,
    connections: Semaphore,
    faults: Mutex<HashMap<SessionId, FakeFault>>,
    statements: Mutex<Vec<FakeStatement>>,
}

/// What happens to a statement that names a certain row.
#[derive(Clone)]
pub(crate) enum FakeFault {
    /// Each statement fails because of this row, and nothing is applied.
    RowFault,
    /// The next statement is applied, and its reply is lost.
    LostReply,
    /// The next statement is applied by other members of the group, while this one reports a rollback.
    AppliedByOthers,
    /// The next statement is rolled back, and this member cannot exclude that others apply it.
    RolledBackHere,
    /// The next statement panics.
    Panic,
    /// The next statement waits until it is notified.
    Stall(Arc<Notify>),
}

/// The ids of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FakeStatement {
    Swap(Vec<SessionId>),
    Insert(Vec<SessionId>),
    Load(Vec<SessionId>),
    Single(SessionId),
}

pub(crate) struct FakeConnection<'a> {
    _permit: SemaphorePermit<'a>,
}

#[derive(Debug)]
pub(crate) enum FakeError {
    Duplicate,
    RowFault,
    LostReply,
    RolledBackHere,
}

impl FakeDialect {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: MemoryStore::new(),
            connections: Semaphore::new(CONNECTIONS as usize),
            faults: Mutex::default(),
            statements: Mutex::default(),
        })
    }

    /// Takes all connections, so that jobs wait until the result is dropped.
    pub(crate) async fn take_connections(&self) -> SemaphorePermit<'_> {
        let permits = self.connections.acquire_many(CONNECTIONS).await;
        permits.expect("the semaphore is never closed")
    }

    pub(crate) fn set_fault(&self, id: &SessionId, fault: FakeFault) {
        self.faults.lock().insert(id.clone(), fault);
    }

    /// Returns the statements since the last call.
    pub(crate) fn take_statements(&self) -> Vec<FakeStatement> {
        std::mem::take(&mut self.statements.lock())
    }

    /// Waits until this many statements were sent since the last [`FakeDialect::take_statements`].
    pub(crate) async fn wait_for_statements(&self, count: usize) {
        while self.statements.lock().len() < count {
            tokio::task::yield_now().await;
        }
    }

    /// Records a statement, and applies the changes unless a fault prevents that. Returns one verdict per change.
    async fn run(
        &self,
        statement: FakeStatement,
        commits: Vec<Commit>,
        now_s: i64,
    ) -> Result<Vec<CommitVerdict>, FakeError> {
        let fault = self.take_fault(statement.ids());
        self.statements.lock().push(statement);
        match fault {
            None => {}
            Some(FakeFault::Stall(notify)) => notify.notified().await,
            Some(FakeFault::RowFault) => return Err(FakeError::RowFault),
            Some(FakeFault::RolledBackHere) => return Err(FakeError::RolledBackHere),
            Some(FakeFault::Panic) => panic!("the statement's fault is a panic"),
            Some(FakeFault::LostReply) => {
                self.rows.commit_many(&commits, now_s).await;
                return Err(FakeError::LostReply);
            }
            Some(FakeFault::AppliedByOthers) => {
                self.rows.commit_many(&commits, now_s).await;
                return Err(FakeError::RolledBackHere);
            }
        }
        Ok(self.rows.commit_many(&commits, now_s).await)
    }

    fn take_fault(&self, ids: &[SessionId]) -> Option<FakeFault> {
        let mut faults = self.faults.lock();
        let id = ids.iter().find(|id| faults.contains_key(*id))?;
        match faults.get(id) {
            Some(FakeFault::RowFault) => Some(FakeFault::RowFault),
            _ => faults.remove(id),
        }
    }
}

impl FakeStatement {
    pub(crate) fn ids(&self) -> &[SessionId] {
        match self {
            Self::Swap(ids) | Self::Insert(ids) | Self::Load(ids) => ids,
            Self::Single(id) => std::slice::from_ref(id),
        }
    }
}

impl Dialect for FakeDialect {
    type Connection<'a> = FakeConnection<'a>;
    type Error = FakeError;

    const BATCH_LIMITS: BatchLimits = BatchLimits {
        rows_max: 4,
        bytes_max: 100,
    };

    fn rows_in_flight_max(&self) -> usize {
        2
    }

    fn swaps_many(&self) -> bool {
        true
    }

    fn insert_rows_max(&self, rows: usize) -> usize {
        1 << rows.ilog2()
    }

    fn refusal(&self, _commit: &Commit) -> Option<StoreError> {
        None
    }

    async fn acquire(&self) -> Result<FakeConnection<'_>, FakeError> {
        let permit = self.connections.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        Ok(FakeConnection { _permit })
    }

    async fn swap_rows<'a>(
        &'a self,
        connection: FakeConnection<'a>,
        rows: &[RowSwap<'_>],
        now_s: i64,
    ) -> Result<(u64, FakeConnection<'a>), FakeError> {
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let commit = |row: &RowSwap<'_>| Commit {
            id: row.id.clone(),
            change: RowChange::Update {
                base: row.base.clone(),
                record: row.record.clone(),
                new_id: None,
            },
        };
        let commits = rows.iter().map(commit).collect();
        let verdicts = self.run(FakeStatement::Swap(ids), commits, now_s).await?;
        let swapped = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, CommitVerdict::Committed));
        Ok((swapped.count() as u64, connection))
    }

    async fn insert_rows<'a>(
        &'a self,
        connection: FakeConnection<'a>,
        rows: &[RowInsert<'_>],
    ) -> Result<FakeConnection<'a>, FakeError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        // One id that exists fails the whole statement.
        let existing = self.rows.load_many(&ids, i64::MIN).await;
        let is_duplicate = existing.is_ok_and(|rows| rows.iter().any(Option::is_some));
        if is_duplicate {
            return Err(FakeError::Duplicate);
        }
        let commit = |row: &RowInsert<'_>| Commit {
            id: row.id.clone(),
            change: RowChange::Create(row.record.clone()),
        };
        let commits = rows.iter().map(commit).collect();
        self.run(FakeStatement::Insert(ids), commits, 0).await?;
        Ok(connection)
    }

    async fn read_tokens(
        &self,
        _connection: &mut Self::Connection<'_>,
        ids: &[&SessionId],
    ) -> Result<RowsById<TokenHistory>, FakeError> {
        let rows = self.read(ids, i64::MIN).await;
        let tokens = rows.into_iter().map(|(id, row)| (id, row.tokens));
        Ok(tokens.collect())
    }

    async fn load_rows<'a>(
        &'a self,
        _connection: FakeConnection<'a>,
        ids: &[&SessionId],
        now_s: i64,
    ) -> Result<RowsById<SessionRecord>, FakeError> {
        let statement = FakeStatement::Load(ids.iter().map(|id| (*id).clone()).collect());
        self.run(statement, Vec::new(), now_s).await?;
        Ok(self.read(ids, now_s).await)
    }

    async fn commit_row(&self, commit: &Commit, now_s: i64) -> CommitVerdict {
        let statement = FakeStatement::Single(commit.id.clone());
        match self.run(statement, vec![commit.clone()], now_s).await {
            Ok(mut verdicts) => verdicts.remove(0),
            Err(error) => error.to_verdict(),
        }
    }
}

impl FakeDialect {
    async fn read(&self, ids: &[&SessionId], now_s: i64) -> RowsById<SessionRecord> {
        let ids: Vec<_> = ids.iter().map(|id| (*id).clone()).collect();
        let rows = self.rows.load_many(&ids, now_s).await;
        let rows = rows.expect("a memory store does not fail");
        let key = |id: SessionId| id.as_str().as_bytes().to_vec();
        let found = ids.into_iter().zip(rows);
        found
            .filter_map(|(id, row)| Some((key(id), row?)))
            .collect()
    }
}

impl StatementFailure for FakeError {
    fn scope(&self) -> FailureScope {
        match self {
            Self::LostReply => FailureScope::AllRows,
            Self::Duplicate | Self::RowFault => FailureScope::OneRow,
            Self::RolledBackHere => FailureScope::MayStillApply,
        }
    }

    fn to_verdict(&self) -> CommitVerdict {
        match self {
            Self::Duplicate => CommitVerdict::Conflict,
            Self::LostReply | Self::RolledBackHere => {
                CommitVerdict::Ambiguous(self.to_store_error())
            }
            Self::RowFault => CommitVerdict::Failed(self.to_store_error()),
        }
    }

    fn to_store_error(&self) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Unavailable,
            detail: format!("{self:?}"),
        }
    }
}

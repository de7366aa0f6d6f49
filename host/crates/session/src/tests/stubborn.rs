//! The in-memory store with controllable faults. It records the calls, and fails, loses replies or waits on command.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::record::{SessionId, SessionRecord};
use crate::store::layer;
use crate::store::memory::MemoryStore;
use crate::store::{
    Commit, CommitVerdict, RowChange, SessionStore, StoreError, StoreErrorKind, StoreFuture, Touch,
};

/// A call on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A row was read.
    Load,
    /// A row was inserted.
    Create,
    /// A row was replaced.
    Replace,
    /// A row was replaced and got another id.
    Move,
    /// A row was deleted if it had not changed since it was read.
    Delete,
    /// A row was deleted regardless of its content.
    BlindDelete,
    /// A row's expiry was moved.
    Touch,
}

impl Asked {
    fn of(change: &RowChange) -> Self {
        match change {
            RowChange::Create(_) => Self::Create,
            RowChange::Update { new_id: None, .. } => Self::Replace,
            RowChange::Update { .. } => Self::Move,
            RowChange::Delete { base: None } => Self::BlindDelete,
            RowChange::Delete { .. } => Self::Delete,
        }
    }
}

/// The outcome of one load or commit.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It succeeds.
    Done,
    /// It is not performed, and the store returns an error.
    Fails(StoreErrorKind),
    /// It is not performed: the store rolled it back for another transaction, and the row is unchanged.
    RolledBack,
    /// It is performed, and the reply is lost.
    DoneReplyLost,
    /// It is not performed, and the reply is lost.
    NotDoneReplyLost,
    /// It is performed later, by [`StubbornStore::deliver`], and the reply is lost.
    LateReplyLost,
    /// It waits at the gate and then has this outcome.
    Held(Arc<Gate>, Box<Fate>),
}

impl Fate {
    pub(crate) const DOWN: Self = Self::Fails(StoreErrorKind::Unavailable);
}

/// A point where a store call waits until the test lets it continue.
#[derive(Debug)]
pub(crate) struct Gate {
    arrived: Semaphore,
    open: Semaphore,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            arrived: Semaphore::new(0),
            open: Semaphore::new(0),
        })
    }

    /// Returns an outcome that waits at this gate first.
    pub(crate) fn then(self: &Arc<Self>, fate: Fate) -> Fate {
        Fate::Held(Arc::clone(self), Box::new(fate))
    }

    /// Waits until a store call has reached the gate.
    pub(crate) async fn arrival(&self) {
        self.arrived.acquire().await.expect("never closed").forget();
    }

    pub(crate) fn open(&self) {
        self.open.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.acquire().await.expect("never closed").forget();
    }
}

/// The in-memory store with controllable faults.
#[derive(Debug)]
pub(crate) struct StubbornStore {
    pub(crate) inner: Arc<MemoryStore>,
    /// How often each call yields before and after it is performed.
    pub(crate) pauses: AtomicUsize,
    /// Whether the store claims that rows keep commit tokens.
    pub(crate) keeps_tokens: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    asked: Vec<Asked>,
    loads: VecDeque<Fate>,
    commits: VecDeque<Fate>,
    /// The outcome of all calls without a specific outcome.
    rest: Fate,
    late: Vec<Commit>,
    /// The ids of rows that were to be created.
    ids: Vec<SessionId>,
}

fn error(kind: StoreErrorKind) -> StoreError {
    let detail = "the test said so".to_owned();
    StoreError { kind, detail }
}

impl StubbornStore {
    pub(crate) fn new(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            pauses: AtomicUsize::new(0),
            keeps_tokens: AtomicBool::new(true),
            state: Mutex::new(State {
                asked: Vec::new(),
                loads: VecDeque::new(),
                commits: VecDeque::new(),
                rest: Fate::Done,
                late: Vec::new(),
                ids: Vec::new(),
            }),
        })
    }

    /// Sets the outcomes of the next loads, in order.
    pub(crate) fn will_load(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().loads.extend(fates);
    }

    /// Sets the outcomes of the next commits, in order.
    pub(crate) fn will_commit(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().commits.extend(fates);
    }

    /// Sets the outcome of all other calls, including touches.
    pub(crate) fn will(&self, rest: Fate) {
        self.state.lock().rest = rest;
    }

    /// Returns the calls since the last invocation.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().asked)
    }

    /// Returns the ids of rows that were to be created, in order.
    pub(crate) fn ids(&self) -> Vec<SessionId> {
        self.state.lock().ids.clone()
    }

    /// Performs the statements that were in transit when the connection broke.
    pub(crate) async fn deliver(&self, now_s: i64) -> Vec<CommitVerdict> {
        let late = std::mem::take(&mut self.state.lock().late);
        self.inner.commit_many(&late, now_s).await
    }

    async fn pause(&self) {
        for _ in 0..self.pauses.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    /// Returns the final outcome, after the wait at its gates.
    async fn settled(&self, mut fate: Fate) -> Fate {
        self.pause().await;
        while let Fate::Held(gate, then) = fate {
            gate.pass().await;
            fate = *then;
        }
        fate
    }

    async fn commit(&self, commit: &Commit, now_s: i64) -> CommitVerdict {
        let fate = {
            let mut state = self.state.lock();
            state.asked.push(Asked::of(&commit.change));
            if matches!(commit.change, RowChange::Create(_)) {
                state.ids.push(commit.id.clone());
            }
            let next = state.commits.pop_front();
            next.unwrap_or_else(|| state.rest.clone())
        };
        let one = std::slice::from_ref(commit);
        let lost = || CommitVerdict::Ambiguous(error(StoreErrorKind::Unavailable));
        match self.settled(fate).await {
            Fate::Done | Fate::Held(..) => {
                let verdicts = self.inner.commit_many(one, now_s).await;
                verdicts.into_iter().next().expect("one verdict")
            }
            Fate::Fails(kind) => CommitVerdict::Failed(error(kind)),
            Fate::RolledBack => CommitVerdict::RolledBack(error(StoreErrorKind::Unavailable)),
            Fate::DoneReplyLost => {
                self.inner.commit_many(one, now_s).await;
                lost()
            }
            Fate::NotDoneReplyLost => lost(),
            Fate::LateReplyLost => {
                self.state.lock().late.push(commit.clone());
                lost()
            }
        }
    }
}

impl layer::StoreLayer for StubbornStore {
    fn inner(&self) -> &dyn SessionStore {
        &*self.inner
    }

    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            let fate = {
                let mut state = self.state.lock();
                state.asked.push(Asked::Load);
                let next = state.loads.pop_front();
                next.unwrap_or_else(|| state.rest.clone())
            };
            match self.settled(fate).await {
                Fate::Done => {
                    let rows = self.inner.load_many(ids, now_s).await;
                    self.pause().await;
                    rows
                }
                Fate::Fails(kind) => Err(error(kind)),
                _ => Err(error(StoreErrorKind::Unavailable)),
            }
        })
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let mut verdicts = Vec::new();
            for commit in commits {
                verdicts.push(self.commit(commit, now_s).await);
            }
            self.pause().await;
            verdicts
        })
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let fate = {
                let mut state = self.state.lock();
                state.asked.push(Asked::Touch);
                state.rest.clone()
            };
            match self.settled(fate).await {
                Fate::Done => self.inner.touch_many(touches, now_s).await,
                _ => Err(error(StoreErrorKind::Unavailable)),
            }
        })
    }

    fn keeps_tokens(&self) -> bool {
        self.keeps_tokens.load(Ordering::Relaxed)
    }
}

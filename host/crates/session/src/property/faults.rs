//! A store that answers late, loses replies and fails, as a wrapper of a real store; and a wall clock that moves only
//! between its answers.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::script::{Rng, pause};
use crate::record::{SessionId, SessionRecord};
use crate::store::layer;
use crate::store::{
    Commit, CommitVerdict, RowChange, SessionStore, StoreError, StoreErrorKind, StoreFuture, Touch,
};
use cloakroom_base::clock::Clock;

/// A store that answers late, loses replies and fails.
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<dyn SessionStore>,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    state: Mutex<State>,
}

/// The faults, in percent of the commits, and the delays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) lost_percent: usize,
    /// Whether a commit whose reply is lost may also land later.
    pub(crate) may_land_late: bool,
    /// Whether another program may recreate a deleted row. Then a commit that compares no token must not be sent again: a
    /// blind deletion would also delete the new row, and a row without tokens may look like the deleted one.
    pub(crate) rows_may_return: bool,
    pub(crate) fail_percent: usize,
    /// Whether commits are delayed before they are performed. The clock must then stand still, because their rows were computed earlier.
    pub(crate) may_start_late: bool,
    pub(crate) pauses: usize,
}

struct State {
    rng: Rng,
    /// Every id for which a write was performed or tried.
    ids: HashSet<SessionId>,
    /// The ids of creations and moves whose reply was lost.
    lost: HashSet<SessionId>,
    /// The ids of commits whose reply was lost.
    doubted: HashSet<SessionId>,
    lost_replies: usize,
    failures: usize,
    under_way: usize,
    /// The rows whose commit will be sent again.
    unsettled: HashSet<SessionId>,
}

/// A real store that loses a reply knows this, and does not batch the repeated commit with others. Here the reply is lost
/// without the store's knowledge, so this lock keeps repeated commits separate.
static RESENT: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

impl State {
    fn note_lost(&mut self, commit: &Commit) {
        self.lost_replies += 1;
        self.lost.insert(written_id(commit));
        self.doubted.insert(commit.id.clone());
        if !matches!(commit.change, RowChange::Create(_)) {
            self.unsettled.insert(commit.id.clone());
        }
    }
}

/// Returns the id of the commit's row afterwards.
fn written_id(commit: &Commit) -> SessionId {
    match &commit.change {
        RowChange::Update {
            new_id: Some(new_id),
            ..
        } => new_id.clone(),
        _ => commit.id.clone(),
    }
}

/// The outcome of a commit.
enum Fate {
    Done,
    DoneReplyLost,
    NotDoneReplyLost,
    DoneLateReplyLost,
    Failed,
    RolledBack,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

fn gone() -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        detail: "the test cut the link".to_owned(),
    }
}

impl FaultyStore {
    pub(crate) fn new(
        inner: Arc<dyn SessionStore>,
        clock: Clock,
        faults: Faults,
        rng: Rng,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            clock,
            faults,
            state: Mutex::new(State {
                rng,
                ids: HashSet::new(),
                lost: HashSet::new(),
                doubted: HashSet::new(),
                lost_replies: 0,
                failures: 0,
                under_way: 0,
                unsettled: HashSet::new(),
            }),
        })
    }

    /// Returns every id for which a write was performed or tried, and those among them of creations and moves whose reply was lost.
    pub(crate) fn ids(&self) -> (HashSet<SessionId>, HashSet<SessionId>) {
        let state = self.state.lock();
        (state.ids.clone(), state.lost.clone())
    }

    /// Returns the numbers of lost replies and of failures so far.
    pub(crate) fn faults_made(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.lost_replies, state.failures)
    }

    /// Returns whether nothing is in transit, including late commits. The clock may move then.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.under_way == 0 && state.unsettled.is_empty()
    }

    /// Like [`FaultyStore::is_quiet`], but for the end of a round, when no commit will be sent again.
    pub(crate) fn is_finished(&self) -> bool {
        self.state.lock().under_way == 0
    }

    pub(crate) fn forget_unsettled(&self) {
        self.state.lock().unsettled.clear();
    }

    fn fork(&self) -> Rng {
        self.state.lock().rng.fork()
    }

    /// Keeps the clock from moving.
    pub(crate) fn hold(&self) -> UnderWay<'_> {
        self.begin()
    }

    fn begin(&self) -> UnderWay<'_> {
        self.state.lock().under_way += 1;
        UnderWay(self)
    }

    fn fate(&self, commit: &Commit) -> Fate {
        let mut state = self.state.lock();
        state.ids.insert(written_id(commit));
        let fate = if state.rng.chance(self.faults.lost_percent) && self.may_be_lost(commit) {
            match state.rng.below(3) {
                0 => Fate::DoneReplyLost,
                1 if self.faults.may_land_late => Fate::DoneLateReplyLost,
                _ => Fate::NotDoneReplyLost,
            }
        } else if state.rng.chance(self.faults.fail_percent) {
            match state.rng.below(2) {
                0 => Fate::Failed,
                _ => return Fate::RolledBack,
            }
        } else {
            Fate::Done
        };
        match fate {
            Fate::Done | Fate::Failed => {
                state.unsettled.remove(&commit.id);
                state.failures += usize::from(matches!(fate, Fate::Failed));
            }
            _ => state.note_lost(commit),
        }
        fate
    }

    fn may_be_lost(&self, commit: &Commit) -> bool {
        let compares_tokens = match &commit.change {
            RowChange::Create(_) => true,
            RowChange::Update { base, .. } => base.tokens.newest().is_some(),
            RowChange::Delete { base } => {
                base.as_ref().is_some_and(|b| b.tokens.newest().is_some())
            }
        };
        compares_tokens || !self.faults.rows_may_return
    }

    async fn apply(&self, commit: &Commit) -> CommitVerdict {
        let (_shared, _alone);
        if self.state.lock().doubted.contains(&commit.id) {
            _alone = RESENT.write().await;
        } else {
            _shared = RESENT.read().await;
        }
        let verdicts = self
            .inner
            .commit_many(std::slice::from_ref(commit), self.clock.now_s())
            .await;
        verdicts.into_iter().next().expect("one verdict")
    }

    async fn one(&self, commit: &Commit, mut rng: Rng) -> (CommitVerdict, bool) {
        match self.fate(commit) {
            Fate::Done => {
                let verdict = self.apply(commit).await;
                // A store may lose track by itself, for example of a statement with many rows, some of which are gone now.
                if matches!(verdict, CommitVerdict::Ambiguous(_)) {
                    self.state.lock().note_lost(commit);
                }
                (verdict, false)
            }
            Fate::DoneReplyLost => {
                self.apply(commit).await;
                pause(&mut rng, self.faults.pauses).await;
                (CommitVerdict::Ambiguous(gone()), false)
            }
            Fate::NotDoneReplyLost => (CommitVerdict::Ambiguous(gone()), false),
            Fate::DoneLateReplyLost => (CommitVerdict::Ambiguous(gone()), true),
            Fate::Failed => (CommitVerdict::Failed(gone()), false),
            Fate::RolledBack => (CommitVerdict::RolledBack(gone()), false),
        }
    }
}

/// An operation that the clock waits for.
pub(crate) struct UnderWay<'a>(&'a FaultyStore);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state.lock().under_way -= 1;
    }
}

/// The store as the managers see it. It can give clones of itself to its tasks.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) Arc<FaultyStore>);

impl layer::StoreLayer for Link {
    fn inner(&self) -> &dyn SessionStore {
        &*self.0.inner
    }

    fn load_many<'a>(
        &'a self,
        ids: &'a [SessionId],
        _now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            let store = &self.0;
            let mut rng = store.fork();
            let failing = rng.chance(store.faults.fail_percent);
            pause(&mut rng, store.faults.pauses).await;
            let under_way = store.begin();
            if failing {
                store.state.lock().failures += 1;
                return Err(gone());
            }
            let rows = store.inner.load_many(ids, store.clock.now_s()).await;
            drop(under_way);
            pause(&mut rng, store.faults.pauses).await;
            rows
        })
    }

    fn commit_many<'a>(
        &'a self,
        commits: &'a [Commit],
        _now_s: i64,
    ) -> StoreFuture<'a, Vec<CommitVerdict>> {
        Box::pin(async move {
            let store = &self.0;
            let under_way = store.begin();
            let mut rng = store.fork();
            if store.faults.may_start_late {
                pause(&mut rng, store.faults.pauses).await;
            }
            let mut verdicts = Vec::new();
            for commit in commits {
                let (verdict, lands_late) = store.one(commit, rng.fork()).await;
                if lands_late {
                    self.land_late(commit.clone(), rng.fork());
                }
                verdicts.push(verdict);
            }
            drop(under_way);
            // An unsettled commit must not wait, because it would be sent again after the clock has moved.
            if store.is_quiet() || store.faults.may_start_late {
                pause(&mut rng, store.faults.pauses).await;
            }
            verdicts
        })
    }

    fn touch_many<'a>(
        &'a self,
        touches: &'a [Touch],
        _now_s: i64,
    ) -> StoreFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rng = self.0.fork();
            let _under_way = self.0.begin();
            pause(&mut rng, self.0.faults.pauses).await;
            self.0.inner.touch_many(touches, self.0.clock.now_s()).await
        })
    }
}

impl Link {
    /// Performs a statement late: it was in transit when the connection broke.
    fn land_late(&self, commit: Commit, mut rng: Rng) {
        let store = Arc::clone(&self.0);
        store.state.lock().under_way += 1;
        tokio::spawn(async move {
            let _under_way = UnderWay(&store);
            pause(&mut rng, 12).await;
            store.apply(&commit).await;
        });
    }
}

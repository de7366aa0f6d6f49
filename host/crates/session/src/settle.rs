//! Determines the outcome of a commit whose reply was lost, from rows and tokens alone.
//!
//! The same compare-and-swap is sent again. If it succeeds, the first one cannot succeed any more. If it does not, the
//! row's token history shows whether the first one succeeded.
//!
//! The weaker rule "not applied if the history is not full" was found unsound by the property test. Decision 6 in
//! `host/docs/decisions` has the reasons.

use std::time::{Duration, Instant};

use crate::record::{CommitToken, SessionId, SessionRecord};
use crate::store::{Commit, CommitVerdict, RowChange, SessionStore, StoreError};
use cloakroom_base::clock::Clock;

/// A commit whose reply was lost.
pub(crate) struct LostCommit<'a> {
    /// The commit. A creation is not allowed: it could succeed after the session's end.
    pub(crate) commit: &'a Commit,
    /// The token by which the commit can be recognised, if it writes a row.
    pub(crate) token: Option<CommitToken>,
    /// The store's error.
    pub(crate) error: StoreError,
}

/// The smallest and the largest wait between tries.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Determines the outcome of a commit: [`CommitVerdict::Committed`] if it is durable, [`CommitVerdict::Conflict`] if it did not
/// happen and never will, because another commit came first, and [`CommitVerdict::Ambiguous`] if its outcome cannot be
/// determined. The commit must not be repeated then.
///
/// If the store is down, this tries until the deadline, but at least once.
pub(crate) async fn settle(
    store: &dyn SessionStore,
    clock: &Clock,
    lost: LostCommit<'_>,
    deadline: Instant,
) -> CommitVerdict {
    let is_blind = matches!(lost.commit.change, RowChange::Delete { base: None });
    if !is_blind && !store.keeps_tokens() {
        return CommitVerdict::Ambiguous(lost.error);
    }
    let mut wait = WAITS.0;
    loop {
        let verdict = commit_one(store, clock, lost.commit).await;
        match verdict {
            CommitVerdict::Committed => return CommitVerdict::Committed,
            CommitVerdict::Conflict => {
                if let Some(rows) = read(store, clock, lost.commit).await {
                    return judge(lost, &rows);
                }
            }
            // A rolled-back statement proves nothing: the row may still be the commit's base, so the first statement may still succeed.
            CommitVerdict::RolledBack(_)
            | CommitVerdict::Ambiguous(_)
            | CommitVerdict::Failed(_) => {}
        }
        if Instant::now() + wait >= deadline {
            return CommitVerdict::Ambiguous(lost.error);
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

/// Commits one change and returns its verdict.
pub(crate) async fn commit_one(
    store: &dyn SessionStore,
    clock: &Clock,
    commit: &Commit,
) -> CommitVerdict {
    let verdicts = store
        .commit_many(std::slice::from_ref(commit), clock.now_s())
        .await;
    verdicts
        .into_iter()
        .next()
        .expect("a store gives one verdict per change")
}

/// Returns a random duration between half of `wait` and one and a half times `wait`.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().expect("the operating system gives random numbers");
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The row under the commit's id, and the row under the id that the commit moves the session to.
struct CommitRows {
    own: Option<SessionRecord>,
    moved: Option<SessionRecord>,
}

/// Reads both rows. Returns `None` when the store does not answer.
async fn read(store: &dyn SessionStore, clock: &Clock, commit: &Commit) -> Option<CommitRows> {
    let mut ids = vec![commit.id.clone()];
    ids.extend(new_id(&commit.change).cloned());
    let mut rows = store.load_many(&ids, clock.now_s()).await.ok()?.into_iter();
    Some(CommitRows {
        own: rows.next().flatten(),
        moved: rows.next().flatten(),
    })
}

fn new_id(change: &RowChange) -> Option<&SessionId> {
    match change {
        RowChange::Update { new_id, .. } => new_id.as_ref(),
        _ => None,
    }
}

fn judge(lost: LostCommit<'_>, rows: &CommitRows) -> CommitVerdict {
    let is_mine = |row: &SessionRecord| lost.token.is_some_and(|mine| row.tokens.contains(mine));
    // Only this commit knows the id that it moves the session to.
    if rows.moved.is_some() || rows.own.as_ref().is_some_and(is_mine) {
        return CommitVerdict::Committed;
    }
    let base = match &lost.commit.change {
        RowChange::Update { base, .. } | RowChange::Delete { base: Some(base) } => base,
        RowChange::Create(_) | RowChange::Delete { base: None } => {
            return CommitVerdict::Ambiguous(lost.error);
        }
    };
    // If our token is missing but the token before it is present, our commit never happened. If both are missing, the row
    // is another one under the same id (Express recreates rows that were deleted), and our commit may have been in the old
    // one.
    let is_overtaken = |row: &SessionRecord| {
        let before_ours = base.tokens.newest();
        before_ours.is_some_and(|token| row.tokens.contains(token))
    };
    if rows.own.as_ref().is_some_and(is_overtaken) {
        CommitVerdict::Conflict
    } else {
        CommitVerdict::Ambiguous(lost.error)
    }
}

//! Determines the outcome of a commit whose reply was lost, from rows and tokens alone.
//!
//! The same compare-and-swap is sent again. If it succeeds, the first one cannot succeed any more. If it does not, the
//! row's token history shows whether the first one succeeded.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::record::{CommitToken, SessionId, SessionRecord};
use crate::store::{Change, Commit, SessionStore, Verdict};

/// The outcome of a commit whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The commit is durable.
    Committed,
    /// The commit did not happen and never will: another commit came first.
    NotApplied,
    /// The outcome cannot be determined. The commit must not be repeated.
    Unknown,
}

/// The smallest and the largest wait between tries.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Determines the outcome of `commit`. A creation is not allowed: it could succeed after the session's end.
///
/// If the store is down, this tries until the deadline, but at least once.
pub(super) async fn settle(
    store: &dyn SessionStore,
    clock: &Clock,
    commit: &Commit,
    token: Option<CommitToken>,
    deadline: Instant,
) -> Settled {
    let is_blind = matches!(commit.change, Change::Delete { base: None });
    if !is_blind && !store.keeps_tokens() {
        return Settled::Unknown;
    }
    let mut wait = WAITS.0;
    loop {
        let verdict = commit_one(store, clock, commit).await;
        match verdict {
            Verdict::Committed => return Settled::Committed,
            Verdict::Conflict => {
                if let Some(rows) = read(store, clock, commit).await {
                    return judge(commit, token, &rows);
                }
            }
            // A rolled-back statement proves nothing: the row may still be the commit's base, so the first statement may still succeed.
            Verdict::RolledBack(_) | Verdict::Ambiguous(_) | Verdict::Failed(_) => {}
        }
        if Instant::now() + wait >= deadline {
            return Settled::Unknown;
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

/// Commits one change and returns its verdict.
pub(super) async fn commit_one(
    store: &dyn SessionStore,
    clock: &Clock,
    commit: &Commit,
) -> Verdict {
    let verdicts = store
        .commit_many(std::slice::from_ref(commit), clock.now_s())
        .await;
    verdicts
        .into_iter()
        .next()
        .expect("a store gives one verdict per change")
}

/// Returns a random duration between half of `wait` and one and a half times `wait`.
pub(super) fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().expect("the operating system gives random numbers");
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The row under the commit's id, and the row under the id that the commit moves the session to.
struct Rows {
    own: Option<SessionRecord>,
    moved: Option<SessionRecord>,
}

/// Reads both rows. Returns `None` when the store does not answer.
async fn read(store: &dyn SessionStore, clock: &Clock, commit: &Commit) -> Option<Rows> {
    let mut ids = vec![commit.id.clone()];
    ids.extend(new_id(&commit.change).cloned());
    let mut rows = store.load_many(&ids, clock.now_s()).await.ok()?.into_iter();
    Some(Rows {
        own: rows.next().flatten(),
        moved: rows.next().flatten(),
    })
}

fn new_id(change: &Change) -> Option<&SessionId> {
    match change {
        Change::Update { new_id, .. } => new_id.as_ref(),
        _ => None,
    }
}

fn judge(commit: &Commit, token: Option<CommitToken>, rows: &Rows) -> Settled {
    let is_mine = |row: &SessionRecord| token.is_some_and(|mine| row.tokens.contains(mine));
    // Only this commit knows the id that it moves the session to.
    if rows.moved.is_some() || rows.own.as_ref().is_some_and(is_mine) {
        return Settled::Committed;
    }
    let base = match &commit.change {
        Change::Update { base, .. } | Change::Delete { base: Some(base) } => base,
        Change::Create(_) | Change::Delete { base: None } => return Settled::Unknown,
    };
    // If our token is missing but the token before it is present, our commit never happened. If both are missing, the row
    // is another one under the same id (Express recreates rows that were deleted), and our commit may have been in the old
    // one.
    let is_overtaken = |row: &SessionRecord| {
        let before_ours = base.tokens.newest();
        before_ours.is_some_and(|token| row.tokens.contains(token))
    };
    if rows.own.as_ref().is_some_and(is_overtaken) {
        Settled::NotApplied
    } else {
        Settled::Unknown
    }
}

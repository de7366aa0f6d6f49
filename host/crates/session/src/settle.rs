//! Determines the outcome of a commit whose reply was lost, from rows and tokens alone.
//!
//! The same compare-and-swap is sent again. If it succeeds, the first one cannot succeed any more. If it does not, the
//! row's token history shows whether the first one succeeded.
//!
//! The weaker rule "not applied if the history is not full" was found unsound by the property test. Decision 6 in
//! `host/docs/decisions` has the reasons.

use std::time::{Duration, Instant};

use crate::record::{CommitToken, SessionId, SessionRecord};
use crate::store::{Commit, CommitVerdict, RowChange, SessionStore};
use cloakroom_base::clock::Clock;

/// The outcome of a commit whose reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettledCommit {
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
pub(crate) async fn settle(
    store: &dyn SessionStore,
    clock: &Clock,
    commit: &Commit,
    token: Option<CommitToken>,
    deadline: Instant,
) -> SettledCommit {
    let is_blind = matches!(commit.change, RowChange::Delete { base: None });
    if !is_blind && !store.keeps_tokens() {
        return SettledCommit::Unknown;
    }
    let mut wait = WAITS.0;
    loop {
        let verdict = commit_one(store, clock, commit).await;
        match verdict {
            CommitVerdict::Committed => return SettledCommit::Committed,
            CommitVerdict::Conflict => {
                if let Some(rows) = read(store, clock, commit).await {
                    return judge(commit, token, &rows);
                }
            }
            // A rolled-back statement proves nothing: the row may still be the commit's base, so the first statement may still succeed.
            CommitVerdict::RolledBack(_)
            | CommitVerdict::Ambiguous(_)
            | CommitVerdict::Failed(_) => {}
        }
        if Instant::now() + wait >= deadline {
            return SettledCommit::Unknown;
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

fn judge(commit: &Commit, token: Option<CommitToken>, rows: &CommitRows) -> SettledCommit {
    let is_mine = |row: &SessionRecord| token.is_some_and(|mine| row.tokens.contains(mine));
    // Only this commit knows the id that it moves the session to.
    if rows.moved.is_some() || rows.own.as_ref().is_some_and(is_mine) {
        return SettledCommit::Committed;
    }
    let base = match &commit.change {
        RowChange::Update { base, .. } | RowChange::Delete { base: Some(base) } => base,
        RowChange::Create(_) | RowChange::Delete { base: None } => return SettledCommit::Unknown,
    };
    // If our token is missing but the token before it is present, our commit never happened. If both are missing, the row
    // is another one under the same id (Express recreates rows that were deleted), and our commit may have been in the old
    // one.
    let is_overtaken = |row: &SessionRecord| {
        let before_ours = base.tokens.newest();
        before_ours.is_some_and(|token| row.tokens.contains(token))
    };
    if rows.own.as_ref().is_some_and(is_overtaken) {
        SettledCommit::NotApplied
    } else {
        SettledCommit::Unknown
    }
}

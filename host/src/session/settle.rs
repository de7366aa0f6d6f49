//! What became of a commit whose reply was lost. Knows rows and tokens alone.
//!
//! The same compare-and-swap is sent again: if it lands, the first one cannot land any more. If it does not, the row's
//! token history says whether the first one did.

use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::record::{CommitToken, SessionId, SessionRecord};
use crate::store::{Change, Commit, SessionStore, Verdict};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is durable.
    Committed,
    /// It did not happen and never will: another commit came first.
    NotApplied,
    /// Nothing can tell. It must not be done again.
    Unknown,
}

/// Waits between tries grow from the first to the second of these.
const WAITS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// Finds out what became of `commit`, which must not be a creation: that could land after the session's end.
///
/// Takes until the deadline where the store is down, and one try at least.
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
            // A statement that was rolled back is no fence: the row may still be its base, and the first one may land.
            Verdict::RolledBack(_) | Verdict::Ambiguous(_) | Verdict::Failed(_) => {}
        }
        if Instant::now() + wait >= deadline {
            return Settled::Unknown;
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

/// One change, one verdict.
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

/// Between half of `wait` and one and a half of it.
pub(super) fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().expect("the operating system gives random numbers");
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The row under the commit's id, and the one under the id that it moves to.
struct Rows {
    own: Option<SessionRecord>,
    moved: Option<SessionRecord>,
}

/// `None` when the store does not answer.
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
    // Nobody else knows the id that it moves to.
    if rows.moved.is_some() || rows.own.as_ref().is_some_and(is_mine) {
        return Settled::Committed;
    }
    let base = match &commit.change {
        Change::Update { base, .. } | Change::Delete { base: Some(base) } => base,
        Change::Create(_) | Change::Delete { base: None } => return Settled::Unknown,
    };
    // Ours is missing where the one before it still stands: ours never was there. If that is missing as well, the row is
    // another one under the same id (Express writes rows anew that were deleted), and ours may have been in the old one.
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

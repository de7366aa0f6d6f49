//! The transaction loop: opens a visit, runs the attempt, commits, and runs the attempt again where this is needed and
//! possible. How one run loads, waits and commits is the subject of [`SessionRun`].

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::attempt::{Attempt, ReplayPolicy};
use crate::cookie::{CookieResolution, path_matches};
use crate::denial::SessionDenial;
use crate::grant::SessionAccessLevel;
use crate::handle::Session;
use crate::outcome::{CookieChange, TransactionOutcome, TransactionRefusal};
use crate::policy::{PresentedCookie, RowState};
use crate::rivals::{RivalSessions, RowClaim};
use crate::run::{NewerRow, RunStop, SessionRun, VisitCookies, WasCalled};
use crate::shared::SessionShared;
use crate::start::{LoadPhase, StartState};
use crate::visit::Visit;
use crate::visit_lock::VisitLock;
use cloakroom_base::limits::SNAPSHOT_UNASKED_MAX;

/// The state that the next run of a visit starts from, and the visit's lock.
type NextRun = (StartState, VisitLock);

/// Handles one request as a transaction; see [`crate::SessionManager::transact`].
pub(crate) async fn transact<A: Attempt>(
    shared: &Arc<SessionShared>,
    visit: Visit,
    attempt: &mut A,
) -> TransactionOutcome<A::Answer, A::Failure> {
    let cookies = match resolve(shared, &visit) {
        Ok(cookies) => cookies,
        Err(denial) => return run_without_session(shared, denial, attempt).await,
    };
    let mut lock = VisitLock::default();
    let mut start = match StartState::first(shared, &visit, &cookies.claim, &mut lock).await {
        Ok(start) => start,
        Err(unavailable) => return refused(unavailable.into(), CookieChange::Keep),
    };
    for number in 1.. {
        shared.counters.runs.add_one();
        let run = SessionRun::new(Arc::clone(shared), &visit, cookies.clone(), start, lock);
        let (session, run) = Session::new(Arc::clone(&visit.grant), run);
        let result = run_with_check(attempt.run(session.clone(), number), &run).await;
        session.freeze();
        // A save that the guest did not wait for holds the lock until it is settled.
        let mut run = run.lock().await;
        match conclude(&mut run, session.was_called(), result, attempt).await {
            ControlFlow::Break(outcome) => {
                // A guest that streams keeps its run for as long as its client reads. The session lock must not be held
                // for that long.
                drop(run.take_lock());
                return outcome;
            }
            ControlFlow::Continue(next) => (start, lock) = next,
        }
        shared.counters.reruns.add_one();
        tracing::debug!(
            run = number + 1,
            "running the guest again on the newer session"
        );
    }
    unreachable!("a deadline ends the re-runs before they pass 2^32")
}

/// Resolves the session cookies of a request.
///
/// # Errors
/// The reason why the request has no session.
fn resolve(shared: &SessionShared, visit: &Visit) -> Result<VisitCookies, SessionDenial> {
    if visit.grant.access == SessionAccessLevel::None {
        return Err(SessionDenial::NoAccess);
    }
    if !path_matches(&shared.options.cookie.path, &visit.path) {
        return Err(SessionDenial::OutsidePath);
    }
    let (presented, claim) = match shared.resolve(&visit.presented) {
        CookieResolution::Absent => (PresentedCookie::Absent, RowClaim::Nothing),
        CookieResolution::Valid(id) => (PresentedCookie::Good, RowClaim::One(id)),
        CookieResolution::Several(ids) => {
            if ids.is_empty() {
                shared.counters.bad_cookies.add_one();
            }
            (PresentedCookie::Good, RivalSessions::claim(ids, visit))
        }
        CookieResolution::Invalid => {
            shared.counters.bad_cookies.add_one();
            tracing::debug!("rejected a cookie that none of the configured secrets has signed");
            (PresentedCookie::Bad, RowClaim::Nothing)
        }
    };
    Ok(VisitCookies { presented, claim })
}

/// Runs a guest that has no session: each of its session calls is denied.
async fn run_without_session<A: Attempt>(
    shared: &SessionShared,
    denial: SessionDenial,
    attempt: &mut A,
) -> TransactionOutcome<A::Answer, A::Failure> {
    shared.counters.runs.add_one();
    let cookie = CookieChange::Keep;
    match attempt.run(Session::closed(denial), 1).await {
        Ok(answer) => TransactionOutcome::Answered { answer, cookie },
        Err(failure) => TransactionOutcome::Failed { failure, cookie },
    }
}

/// Runs a guest. If it starts on an unchecked snapshot and takes longer than [`SNAPSHOT_UNASKED_MAX`], the store is asked meanwhile.
async fn run_with_check<T>(running: impl Future<Output = T>, run: &Mutex<SessionRun>) -> T {
    let mut running = pin!(running);
    let is_due = run.try_lock().is_ok_and(|run| run.is_check_due());
    if is_due && let Ok(result) = timeout(SNAPSHOT_UNASKED_MAX, &mut running).await {
        return result;
    }
    // If the lock is held, the guest is in a call that asks the store itself.
    if is_due && let Ok(mut run) = run.try_lock() {
        run.start_check();
    }
    running.await
}

/// Commits when the attempt has ended. Returns the outcome, or the state that the next run starts from.
async fn conclude<A: Attempt>(
    run: &mut SessionRun,
    was_called: WasCalled,
    result: Result<A::Answer, A::Failure>,
    attempt: &mut A,
) -> ControlFlow<TransactionOutcome<A::Answer, A::Failure>, NextRun> {
    let stop = match run.take_stop() {
        Some(stop) => {
            // The finished run returns its instance before the next run takes one.
            drop(result);
            stop
        }
        None => match finish(run, was_called, result).await {
            Ok(outcome) => return ControlFlow::Break(outcome),
            Err(stop) => stop,
        },
    };
    match next_run(run, stop, attempt).await {
        Ok(next) => ControlFlow::Continue(next),
        Err(refusal) => ControlFlow::Break(give_up(run, refusal)),
    }
}

/// Commits the changes of a run that gave an answer. A failed run commits nothing; its failure is final unless the run had
/// started on an outdated snapshot.
///
/// # Errors
/// The reason why nothing may be released. The answer has been dropped then.
async fn finish<A, F>(
    run: &mut SessionRun,
    was_called: WasCalled,
    result: Result<A, F>,
) -> Result<TransactionOutcome<A, F>, RunStop> {
    let failure = match result {
        Ok(answer) => {
            let cookie = run.release(was_called).await?;
            return Ok(TransactionOutcome::Answered { answer, cookie });
        }
        Err(failure) => failure,
    };
    if was_called == WasCalled::Yes && Instant::now() < run.deadline() {
        run.verify().await?;
    }
    let cookie = run.take_cookie();
    Ok(match run.has_store_failed() {
        true => refused(TransactionRefusal::StoreUnavailable, cookie),
        false => TransactionOutcome::Failed { failure, cookie },
    })
}

/// Returns the next run of an attempt that was stopped.
///
/// # Errors
/// The reason why the attempt is not run again.
async fn next_run<A: Attempt>(
    run: &mut SessionRun,
    stop: RunStop,
    attempt: &mut A,
) -> Result<NextRun, TransactionRefusal> {
    let newer = match stop {
        RunStop::Refused(refusal) => return Err(refusal),
        RunStop::Conflict(_) if run.is_saved() => return Err(TransactionRefusal::Conflict),
        RunStop::Conflict(newer) => newer,
    };
    match attempt.replay() {
        ReplayPolicy::EffectMade => Err(TransactionRefusal::Conflict),
        ReplayPolicy::BodyGone => Err(TransactionRefusal::BodyGone),
        ReplayPolicy::Possible if Instant::now() >= run.deadline() => Err(TransactionRefusal::Busy),
        ReplayPolicy::Possible => run_on(run, newer).await,
    }
}

/// Returns the next run on the newer row. From the first conflict on, the session lock is held.
///
/// # Errors
/// [`TransactionRefusal::Busy`] when the lock was not available in time.
async fn run_on(run: &mut SessionRun, newer: NewerRow) -> Result<NextRun, TransactionRefusal> {
    let (shared, link) = (Arc::clone(run.shared()), run.link());
    let mut lock = run.take_lock();
    let base = match newer {
        NewerRow::Contended(base) => base,
        NewerRow::Remembered(base) => {
            return Ok((StartState::remembered(&shared, base, link), lock));
        }
        // No request was in the way; the snapshot was old. The session lock is not needed.
        NewerRow::StaleSnapshot(base) => {
            return Ok((LoadPhase::on_row(&shared, base, link).into(), lock));
        }
        // Starts as if the visit began now.
        NewerRow::Unknown(id) => {
            let phase = LoadPhase::loading(&shared, id, RowState::New).await;
            return Ok((phase.into(), lock));
        }
        NewerRow::Gone => {
            let phase = LoadPhase::without_row(&shared, RowState::Detached, link);
            return Ok((phase.into(), VisitLock::default()));
        }
    };
    if lock.is_taken() {
        return Ok((LoadPhase::on_row(&shared, base, link).into(), lock));
    }
    lock.acquire(&shared.locks, &base.id, run.deadline(), run.reservation())
        .await?;
    // Other requests of this process may have changed the session during the wait. They left the row that they wrote.
    if let Some(newest) = shared.snapshots.newest(&base) {
        return Ok((StartState::remembered(&shared, newest, link), lock));
    }
    let phase = LoadPhase::loading(&shared, base.id.clone(), RowState::Detached).await;
    Ok((phase.into(), lock))
}

fn give_up<A, F>(run: &mut SessionRun, refusal: TransactionRefusal) -> TransactionOutcome<A, F> {
    if matches!(
        refusal,
        TransactionRefusal::StoreUnavailable | TransactionRefusal::StoreRefused
    ) {
        // If a session could not be deleted, its cookie is kept, so that the next logout can name it again.
        run.set_store_failed();
    }
    // The access log records the refusal, so a debug line is enough here.
    tracing::debug!(?refusal, "a session's transaction was given up");
    refused(refusal, run.take_cookie())
}

fn refused<A, F>(refusal: TransactionRefusal, cookie: CookieChange) -> TransactionOutcome<A, F> {
    TransactionOutcome::Refused { refusal, cookie }
}

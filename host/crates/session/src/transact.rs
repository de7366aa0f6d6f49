//! The transaction as a whole: opens a visit, runs the attempt, commits, and runs the attempt again where this is needed and possible.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::counters::SessionCounters;
use super::handle::Session;
use super::lock::SessionLocks;
use super::options::SessionOptions;
use super::policy::{LinkSecurity, PresentedCookie, RowState};
use super::rivals::{RivalSessions, RowClaim};
use super::run::{NewerRow, RunStop, SessionRun, StartState, VisitLock, WasCalled};
use super::snapshots::Snapshots;
use super::touches::Touches;
use super::transaction::BaseRow;
use super::{
    Attempt, CookieChange, ReplayPolicy, SessionAccessLevel, SessionDenial, TransactionOutcome,
    TransactionRefusal, Visit,
};
use crate::cookie::{CookieResolution, KeyRing, path_matches};
use crate::store::{SessionStore, StoreError, StoreErrorKind};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::SNAPSHOT_UNASKED_MAX;
use cloakroom_base::telemetry::RateLimitedLines;

/// The sessions of all visitors. Each host has one manager.
pub struct SessionManager {
    pub(crate) options: SessionOptions,
    pub(crate) keys: ArcSwap<KeyRing>,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) clock: Clock,
    pub(crate) locks: Arc<SessionLocks>,
    pub(crate) snapshots: Snapshots,
    pub(crate) touches: Arc<Touches>,
    pub(crate) counters: SessionCounters,
    /// Loads, saves and touches under way.
    pub(crate) tasks: TaskTracker,
    /// Limits the log lines about failed store calls, by message and by error kind.
    store_faults: RateLimitedLines<(&'static str, StoreErrorKind)>,
    /// Limits the log lines about visits with several sessions, by message.
    rival_lines: RateLimitedLines<&'static str>,
}

/// Hides the keys.
impl std::fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionManager")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// The result of reading a row.
pub(crate) enum LoadedRow {
    Row(Arc<BaseRow>),
    Absent,
    Corrupt,
    /// More than one of several ids has a row.
    Several,
}

/// The session cookies of a request, as resolved.
enum OpenedVisit {
    /// No session, for this reason.
    Closed(SessionDenial),
    /// A new session.
    New(PresentedCookie),
    /// One session id or several, each with a valid signature.
    Known(RowClaim),
}

/// The step after a run.
enum NextStep<A, F> {
    End(TransactionOutcome<A, F>),
    Rerun(StartState, VisitLock),
}

impl SessionManager {
    /// Creates a manager of the sessions in `store`.
    pub fn new(
        options: SessionOptions,
        keys: impl Into<Arc<KeyRing>>,
        store: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            locks: SessionLocks::new(options.lock_waiters_max),
            snapshots: Snapshots::new(options.snapshots_bytes_max),
            touches: Arc::default(),
            options,
            keys: ArcSwap::new(keys.into()),
            store,
            clock,
            counters: SessionCounters::default(),
            tasks: TaskTracker::new(),
            store_faults: RateLimitedLines::default(),
            rival_lines: RateLimitedLines::default(),
        })
    }

    /// Replaces the secrets that sign and verify cookies. A cookie that none of the new secrets has signed no longer names a session.
    pub fn replace_keys(&self, keys: Arc<KeyRing>) {
        self.keys.store(keys);
    }

    /// Returns the manager's counters.
    pub fn counters(&self) -> &SessionCounters {
        &self.counters
    }

    /// Logs the failure of a store call; `what` is the message.
    pub(crate) fn log_store_fault(&self, what: &'static str, error: &StoreError) {
        // A store that is down fails the calls of every request. The metered store in front of it logs when it goes down
        // and when it answers again.
        if error.kind == StoreErrorKind::Unavailable {
            tracing::debug!(%error, "{what}");
            return;
        }
        let key = (what, error.kind);
        if let Some(line) = self.store_faults.take_line(key, Instant::now()) {
            tracing::warn!(%error, untold = line.untold, "{what}");
        }
    }

    /// Logs the outcome of a request with valid cookies of several sessions. The number of lines is limited, because a
    /// browser sends the cookies with each of its requests.
    pub(crate) fn log_rivals(&self, what: &'static str) {
        if let Some(line) = self.rival_lines.take_line(what, Instant::now()) {
            tracing::warn!(untold = line.untold, "{what}");
        }
    }

    /// Waits until the touches and saves under way have ended. Call it when no transaction is running.
    pub async fn shutdown(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Handles one request as a transaction: runs `attempt` on the visitor's session and commits its changes before its
    /// answer may be released. Runs the attempt again on the newer session if another request changed data that it had
    /// read.
    ///
    /// Waiting and re-running end at the visit's deadline. A commit that was sent is settled even after the deadline.
    ///
    /// Not cancel safe: a dropped call may or may not have committed. Call it from a task that is never cancelled.
    pub async fn transact<A: Attempt>(
        self: &Arc<Self>,
        visit: Visit,
        attempt: &mut A,
    ) -> TransactionOutcome<A::Answer, A::Failure> {
        let mut lock = VisitLock::default();
        let (mut start, presented, claim) = match self.open(&visit) {
            OpenedVisit::Closed(why) => return self.run_without(why, attempt).await,
            OpenedVisit::New(presented) => {
                let phase = self.fresh(RowState::New, LinkSecurity::of(&visit));
                (phase.into(), presented, RowClaim::Nothing)
            }
            OpenedVisit::Known(claim) => match self.enter(&visit, &claim, &mut lock).await {
                Ok(start) => (start, PresentedCookie::Good, claim),
                Err(refusal) => return refused(refusal, CookieChange::Keep),
            },
        };
        for number in 1.. {
            self.counters.runs.add_one();
            let claim = claim.clone();
            let run = SessionRun::new(Arc::clone(self), &visit, presented, claim, start, lock);
            let (session, run) = Session::new(Arc::clone(&visit.grant), run);
            let result = run_with_check(attempt.run(session.clone(), number), &run).await;
            session.freeze();
            // A save that the guest did not wait for holds the lock until it is settled.
            let mut run = run.lock().await;
            match self
                .conclude(&mut run, session.was_called(), result, attempt)
                .await
            {
                NextStep::End(outcome) => {
                    // A guest that streams keeps its run for as long as its client reads. The session lock must not be held
                    // for that long.
                    drop(run.release_lock());
                    return outcome;
                }
                NextStep::Rerun(next, kept) => (start, lock) = (next, kept),
            }
            self.counters.reruns.add_one();
            tracing::debug!(
                run = number + 1,
                "running the guest again on the newer session"
            );
        }
        unreachable!("a deadline ends the re-runs before they pass 2^32")
    }

    fn open(&self, visit: &Visit) -> OpenedVisit {
        if visit.grant.access == SessionAccessLevel::None {
            return OpenedVisit::Closed(SessionDenial::NoAccess);
        }
        if !path_matches(&self.options.cookie.path, &visit.path) {
            return OpenedVisit::Closed(SessionDenial::OutsidePath);
        }
        match visit.presented.resolve(&self.keys.load()) {
            CookieResolution::Absent => OpenedVisit::New(PresentedCookie::Absent),
            CookieResolution::Valid(id) => OpenedVisit::Known(RowClaim::One(id)),
            CookieResolution::Several(ids) => {
                if ids.is_empty() {
                    self.counters.bad_cookies.add_one();
                }
                OpenedVisit::Known(RivalSessions::claim(ids, visit))
            }
            CookieResolution::Invalid => {
                self.counters.bad_cookies.add_one();
                tracing::debug!("rejected a cookie that none of the configured secrets has signed");
                OpenedVisit::New(PresentedCookie::Bad)
            }
        }
    }

    /// Runs a guest that has no session: each of its session calls is denied.
    async fn run_without<A: Attempt>(
        &self,
        why: SessionDenial,
        attempt: &mut A,
    ) -> TransactionOutcome<A::Answer, A::Failure> {
        self.counters.runs.add_one();
        let cookie = CookieChange::Keep;
        match attempt.run(Session::closed(why), 1).await {
            Ok(answer) => TransactionOutcome::Answered { answer, cookie },
            Err(failure) => TransactionOutcome::Failed { failure, cookie },
        }
    }

    /// Decides the next step when the attempt has ended.
    async fn conclude<A: Attempt>(
        self: &Arc<Self>,
        run: &mut SessionRun,
        was_called: WasCalled,
        result: Result<A::Answer, A::Failure>,
        attempt: &mut A,
    ) -> NextStep<A::Answer, A::Failure> {
        let stop = match run.take_stop() {
            Some(stop) => {
                // The finished run returns its instance before the next run takes one.
                drop(result);
                stop
            }
            None => match result {
                Err(failure) => match self.after_failure(run, was_called, failure).await {
                    Ok(outcome) => return NextStep::End(outcome),
                    Err(stop) => stop,
                },
                Ok(answer) => match run.release(was_called).await {
                    Ok(cookie) => {
                        return NextStep::End(TransactionOutcome::Answered { answer, cookie });
                    }
                    Err(stop) => stop,
                },
            },
        };
        self.after_stop(run, stop, attempt).await
    }

    /// Handles a failed run. The failure is final unless the run had started on an outdated snapshot.
    async fn after_failure<A, F>(
        &self,
        run: &mut SessionRun,
        was_called: WasCalled,
        failure: F,
    ) -> Result<TransactionOutcome<A, F>, RunStop> {
        if was_called == WasCalled::Yes && Instant::now() < run.deadline() {
            run.verify().await?;
        }
        let cookie = run.take_cookie();
        Ok(match run.has_store_failed() {
            true => refused(TransactionRefusal::StoreUnavailable, cookie),
            false => TransactionOutcome::Failed { failure, cookie },
        })
    }

    async fn after_stop<A: Attempt>(
        self: &Arc<Self>,
        run: &mut SessionRun,
        stop: RunStop,
        attempt: &mut A,
    ) -> NextStep<A::Answer, A::Failure> {
        let refusal = match stop {
            RunStop::Store => TransactionRefusal::StoreUnavailable,
            RunStop::TooLarge => TransactionRefusal::TooLarge,
            RunStop::Refused => TransactionRefusal::StoreRefused,
            RunStop::Busy => TransactionRefusal::Busy,
            RunStop::Several => TransactionRefusal::SeveralSessions,
            RunStop::Conflict(_) if run.is_saved() => TransactionRefusal::Conflict,
            RunStop::Conflict(successor) => match attempt.replay() {
                ReplayPolicy::EffectMade => TransactionRefusal::Conflict,
                ReplayPolicy::BodyGone => TransactionRefusal::BodyGone,
                ReplayPolicy::Possible if Instant::now() >= run.deadline() => {
                    TransactionRefusal::Busy
                }
                ReplayPolicy::Possible => match self.successor(run, successor).await {
                    Ok((start, lock)) => return NextStep::Rerun(start, lock),
                    Err(refusal) => refusal,
                },
            },
        };
        if matches!(
            refusal,
            TransactionRefusal::StoreUnavailable | TransactionRefusal::StoreRefused
        ) {
            // If a session could not be deleted, its cookie is kept, so that the next logout can name it again.
            run.set_store_failed();
        }
        // The access log records the refusal, so a debug line is enough here.
        tracing::debug!(?refusal, "a session's transaction was given up");
        NextStep::End(refused(refusal, run.take_cookie()))
    }

    /// Returns the state that the next run starts from. From the first conflict on, the session lock is held.
    async fn successor(
        self: &Arc<Self>,
        run: &mut SessionRun,
        successor: NewerRow,
    ) -> Result<(StartState, VisitLock), TransactionRefusal> {
        let mut lock = run.release_lock();
        let base = match successor {
            NewerRow::Row(base) => base,
            NewerRow::Remembered(base) => return Ok((self.remembered(base, run.link()), lock)),
            // No request was in the way; the snapshot was old. The session lock is not needed.
            NewerRow::Newer(base) => return Ok((self.on_row(base, run.link()).into(), lock)),
            // Starts as if the visit began now.
            NewerRow::Unknown(id) => {
                return Ok((self.loading(id, RowState::New).await.into(), lock));
            }
            NewerRow::Gone => {
                let phase = self.fresh(RowState::Detached, run.link());
                return Ok((phase.into(), VisitLock::default()));
            }
        };
        if lock.is_taken() {
            return Ok((self.on_row(base, run.link()).into(), lock));
        }
        let taken = lock.take(self, &base.id, run.deadline(), run.place()).await;
        taken.map_err(|_| TransactionRefusal::Busy)?;
        // Other requests of this process may have changed the session during the wait. They left the row that they wrote.
        if let Some(newest) = self.snapshots.newest(&base) {
            return Ok((self.remembered(newest, run.link()), lock));
        }
        let phase = self.loading(base.id.clone(), RowState::Detached).await;
        Ok((phase.into(), lock))
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

fn refused<A, F>(refusal: TransactionRefusal, cookie: CookieChange) -> TransactionOutcome<A, F> {
    TransactionOutcome::Refused { refusal, cookie }
}

//! The transaction as a whole: opens a visit, runs the attempt, commits, and runs the attempt again where this is needed and possible.

mod footing;

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::counters::Counters;
use super::handle::Session;
use super::options::Options;
use super::policy::{Link, Standing, Ticket};
use super::rivals::{Claim, Rivals};
use super::run::{Footing, Run, Stop, Successor, Turn, WasCalled};
use super::slot::Slots;
use super::snapshots::Snapshots;
use super::touches::Touches;
use super::transaction::Base;
use super::{Access, Attempt, CookieChange, Denial, Outcome, Refusal, Replay, Visit};
use crate::clock::Clock;
use crate::cookie::{KeyRing, Resolution, path_matches};
use crate::limits::SNAPSHOT_UNASKED_MAX;
use crate::store::{SessionStore, StoreError, StoreErrorKind};
use crate::telemetry::Recurring;

/// The sessions of all visitors. Each host has one manager.
pub struct SessionManager {
    pub(super) options: Options,
    pub(super) keys: ArcSwap<KeyRing>,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) clock: Clock,
    pub(super) slots: Arc<Slots>,
    pub(super) snapshots: Snapshots,
    pub(super) touches: Arc<Touches>,
    pub(super) counters: Counters,
    /// Loads, saves and touches under way.
    pub(super) tasks: TaskTracker,
    /// Limits the log lines about failed store calls, by message and by error kind.
    store_faults: Recurring<(&'static str, StoreErrorKind)>,
    /// Limits the log lines about visits with several sessions, by message.
    rival_lines: Recurring<&'static str>,
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
pub(super) enum Loaded {
    Row(Arc<Base>),
    Absent,
    Corrupt,
    /// More than one of several ids has a row.
    Several,
}

/// The session cookies of a request, as resolved.
enum Opening {
    /// No session, for this reason.
    Closed(Denial),
    /// A new session.
    New(Ticket),
    /// One session id or several, each with a valid signature.
    Known(Claim),
}

/// The step after a run.
enum Next<A, F> {
    End(Outcome<A, F>),
    Rerun(Footing, Turn),
}

impl SessionManager {
    /// Creates a manager of the sessions in `store`.
    pub fn new(
        options: Options,
        keys: impl Into<Arc<KeyRing>>,
        store: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(options.slot_waiters_max),
            snapshots: Snapshots::new(options.snapshots_bytes_max),
            touches: Arc::default(),
            options,
            keys: ArcSwap::new(keys.into()),
            store,
            clock,
            counters: Counters::default(),
            tasks: TaskTracker::new(),
            store_faults: Recurring::default(),
            rival_lines: Recurring::default(),
        })
    }

    /// Replaces the secrets that sign and verify cookies. A cookie that none of the new secrets has signed no longer names a session.
    pub fn replace_keys(&self, keys: Arc<KeyRing>) {
        self.keys.store(keys);
    }

    /// Returns the manager's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Logs the failure of a store call; `what` is the message.
    pub(super) fn tell_store_fault(&self, what: &'static str, error: &StoreError) {
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
    pub(super) fn tell_rivals(&self, what: &'static str) {
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
    ) -> Outcome<A::Answer, A::Failure> {
        let mut turn = Turn::default();
        let (mut footing, ticket, claim) = match self.open(&visit) {
            Opening::Closed(why) => return self.run_without(why, attempt).await,
            Opening::New(ticket) => {
                let phase = self.fresh(Standing::New, Link::of(&visit));
                (phase.into(), ticket, Claim::Nothing)
            }
            Opening::Known(claim) => match self.enter(&visit, &claim, &mut turn).await {
                Ok(footing) => (footing, Ticket::Good, claim),
                Err(refusal) => return refused(refusal, CookieChange::Keep),
            },
        };
        for number in 1.. {
            self.counters.runs.add_one();
            let claim = claim.clone();
            let run = Run::new(Arc::clone(self), &visit, ticket, claim, footing, turn);
            let (session, run) = Session::new(Arc::clone(&visit.grant), run);
            let result = run_beside_check(attempt.run(session.clone(), number), &run).await;
            session.freeze();
            // A save that the guest did not wait for holds the lock until it is settled.
            let mut run = run.lock().await;
            match self
                .conclude(&mut run, session.was_called(), result, attempt)
                .await
            {
                Next::End(outcome) => {
                    // A guest that streams keeps its run for as long as its client reads. The session lock must not be held
                    // for that long.
                    drop(run.take_turn());
                    return outcome;
                }
                Next::Rerun(next, kept) => (footing, turn) = (next, kept),
            }
            self.counters.reruns.add_one();
            tracing::debug!(
                run = number + 1,
                "running the guest again on the newer session"
            );
        }
        unreachable!("a deadline ends the re-runs before they pass 2^32")
    }

    fn open(&self, visit: &Visit) -> Opening {
        if visit.grant.access == Access::None {
            return Opening::Closed(Denial::NoAccess);
        }
        if !path_matches(&self.options.cookie.path, &visit.path) {
            return Opening::Closed(Denial::OutsidePath);
        }
        match visit.presented.resolve(&self.keys.load()) {
            Resolution::Absent => Opening::New(Ticket::Absent),
            Resolution::Valid(id) => Opening::Known(Claim::One(id)),
            Resolution::Several(ids) => {
                if ids.is_empty() {
                    self.counters.bad_cookies.add_one();
                }
                Opening::Known(Rivals::claim(ids, visit))
            }
            Resolution::Invalid => {
                self.counters.bad_cookies.add_one();
                tracing::debug!("rejected a cookie that no secret of ours has signed");
                Opening::New(Ticket::Bad)
            }
        }
    }

    /// Runs a guest that has no session: each of its session calls is denied.
    async fn run_without<A: Attempt>(
        &self,
        why: Denial,
        attempt: &mut A,
    ) -> Outcome<A::Answer, A::Failure> {
        self.counters.runs.add_one();
        let cookie = CookieChange::Keep;
        match attempt.run(Session::closed(why), 1).await {
            Ok(answer) => Outcome::Answered { answer, cookie },
            Err(failure) => Outcome::Failed { failure, cookie },
        }
    }

    /// Decides the next step when the attempt has ended.
    async fn conclude<A: Attempt>(
        self: &Arc<Self>,
        run: &mut Run,
        was_called: WasCalled,
        result: Result<A::Answer, A::Failure>,
        attempt: &mut A,
    ) -> Next<A::Answer, A::Failure> {
        let stop = match run.take_stop() {
            Some(stop) => {
                // The finished run returns its instance before the next run takes one.
                drop(result);
                stop
            }
            None => match result {
                Err(failure) => match self.after_failure(run, was_called, failure).await {
                    Ok(outcome) => return Next::End(outcome),
                    Err(stop) => stop,
                },
                Ok(answer) => match run.release(was_called).await {
                    Ok(cookie) => return Next::End(Outcome::Answered { answer, cookie }),
                    Err(stop) => stop,
                },
            },
        };
        self.after_stop(run, stop, attempt).await
    }

    /// Handles a failed run. The failure is final unless the run had started on an outdated snapshot.
    async fn after_failure<A, F>(
        &self,
        run: &mut Run,
        was_called: WasCalled,
        failure: F,
    ) -> Result<Outcome<A, F>, Stop> {
        if was_called == WasCalled::Yes && Instant::now() < run.deadline() {
            run.verify().await?;
        }
        let cookie = run.take_cookie();
        Ok(match run.has_store_failed() {
            true => refused(Refusal::StoreUnavailable, cookie),
            false => Outcome::Failed { failure, cookie },
        })
    }

    async fn after_stop<A: Attempt>(
        self: &Arc<Self>,
        run: &mut Run,
        stop: Stop,
        attempt: &mut A,
    ) -> Next<A::Answer, A::Failure> {
        let refusal = match stop {
            Stop::Store => Refusal::StoreUnavailable,
            Stop::TooLarge => Refusal::TooLarge,
            Stop::Refused => Refusal::StoreRefused,
            Stop::Busy => Refusal::Busy,
            Stop::Several => Refusal::SeveralSessions,
            Stop::Conflict(_) if run.is_saved() => Refusal::Conflict,
            Stop::Conflict(successor) => match attempt.replay() {
                Replay::EffectMade => Refusal::Conflict,
                Replay::BodyGone => Refusal::BodyGone,
                Replay::Possible if Instant::now() >= run.deadline() => Refusal::Busy,
                Replay::Possible => match self.successor(run, successor).await {
                    Ok((footing, turn)) => return Next::Rerun(footing, turn),
                    Err(refusal) => refusal,
                },
            },
        };
        if matches!(refusal, Refusal::StoreUnavailable | Refusal::StoreRefused) {
            // If a session could not be deleted, its cookie is kept, so that the next logout can name it again.
            run.set_store_failed();
        }
        // The access log records the refusal, so a debug line is enough here.
        tracing::debug!(?refusal, "a session's transaction was given up");
        Next::End(refused(refusal, run.take_cookie()))
    }

    /// Returns the state that the next run starts from. From the first conflict on, the session lock is held.
    async fn successor(
        self: &Arc<Self>,
        run: &mut Run,
        successor: Successor,
    ) -> Result<(Footing, Turn), Refusal> {
        let mut turn = run.take_turn();
        let base = match successor {
            Successor::Row(base) => base,
            Successor::Remembered(base) => return Ok((self.remembered(base, run.link()), turn)),
            // No request was in the way; the snapshot was old. The session lock is not needed.
            Successor::Newer(base) => return Ok((self.on_row(base, run.link()).into(), turn)),
            // Starts as if the visit began now.
            Successor::Unknown(id) => {
                return Ok((self.loading(id, Standing::New).await.into(), turn));
            }
            Successor::Gone => {
                let phase = self.fresh(Standing::Detached, run.link());
                return Ok((phase.into(), Turn::default()));
            }
        };
        if turn.is_taken() {
            return Ok((self.on_row(base, run.link()).into(), turn));
        }
        let taken = turn.take(self, &base.id, run.deadline(), run.place()).await;
        taken.map_err(|_| Refusal::Busy)?;
        // Other requests of this process may have changed the session during the wait. They left the row that they wrote.
        if let Some(newest) = self.snapshots.newest(&base) {
            return Ok((self.remembered(newest, run.link()), turn));
        }
        let phase = self.loading(base.id.clone(), Standing::Detached).await;
        Ok((phase.into(), turn))
    }
}

/// Runs a guest. If it starts on an unchecked snapshot and takes longer than [`SNAPSHOT_UNASKED_MAX`], the store is asked meanwhile.
async fn run_beside_check<T>(running: impl Future<Output = T>, run: &Mutex<Run>) -> T {
    let mut running = pin!(running);
    let is_due = run.try_lock().is_ok_and(|run| run.is_check_due());
    if is_due && let Ok(result) = timeout(SNAPSHOT_UNASKED_MAX, &mut running).await {
        return result;
    }
    // If the lock is held, the guest is in a call that asks the store itself.
    if is_due && let Ok(mut run) = run.try_lock() {
        run.check_beside();
    }
    running.await
}

fn refused<A, F>(refusal: Refusal, cookie: CookieChange) -> Outcome<A, F> {
    Outcome::Refused { refusal, cookie }
}

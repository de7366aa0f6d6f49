//! The transaction as a whole: opens a visit, runs the attempt, commits, and runs it again where that is needed and possible.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use super::counters::Counters;
use super::handle::Session;
use super::options::Options;
use super::policy::{self, Link, Standing, Ticket};
use super::run::{Phase, Run, Stop, Successor, Turn, WasCalled};
use super::slot::Slots;
use super::transaction::{Base, Limits, Transaction};
use super::{Access, Attempt, CookieChange, Outcome, Refusal, Replay, Start, Visit};
use crate::clock::Clock;
use crate::cookie::{KeyRing, Resolution, path_matches};
use crate::record::SessionId;
use crate::store::{SessionStore, StoreError};

/// Everybody's sessions: one per host.
pub struct SessionManager {
    pub(super) options: Options,
    pub(super) keys: ArcSwap<KeyRing>,
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) clock: Clock,
    pub(super) slots: Arc<Slots>,
    pub(super) counters: Counters,
    /// Loads, saves and touches under way.
    pub(super) tasks: TaskTracker,
}

/// Shows no keys.
impl std::fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionManager")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// What a row turned out to be.
pub(super) enum Loaded {
    Row(Box<Base>),
    Absent,
    Corrupt,
}

/// What a request came with.
enum Opening {
    /// No session here, for this reason.
    Closed(&'static str),
    /// No session yet.
    New(Ticket),
    /// A session's id, signed by us.
    Known(SessionId),
}

/// What follows on a run.
enum Next<A, F> {
    End(Outcome<A, F>),
    Rerun(Phase, Turn),
}

impl SessionManager {
    /// A manager of the sessions in `store`.
    pub fn new(
        options: Options,
        keys: KeyRing,
        store: Arc<dyn SessionStore>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            slots: Slots::new(options.slot_waiters_max),
            options,
            keys: ArcSwap::from_pointee(keys),
            store,
            clock,
            counters: Counters::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Signs and verifies with other secrets from now on. A cookie that none of them has signed is no session any more.
    pub fn replace_keys(&self, keys: KeyRing) {
        self.keys.store(Arc::new(keys));
    }

    /// What it has counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Waits until touches and saves that are under way have ended; call it when no transaction is.
    pub async fn shutdown(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// One request as a transaction: runs `attempt` on the visitor's session and commits what it did before its answer may
    /// be released. Runs it again on the newer session if another request changed what it had read.
    ///
    /// Waiting and re-running end at the visit's deadline; a commit that was sent is settled all the same.
    ///
    /// Cancel safety: none. A dropped call may or may not have committed; call it from a task that is never cancelled.
    pub async fn transact<A: Attempt>(
        self: &Arc<Self>,
        visit: Visit,
        attempt: &mut A,
    ) -> Outcome<A::Answer, A::Failure> {
        let mut turn = Turn::default();
        let (mut phase, ticket) = match self.open(&visit) {
            Opening::Closed(why) => return self.run_without(why, attempt).await,
            Opening::New(ticket) => (self.fresh(Standing::New, Link::of(&visit)), ticket),
            Opening::Known(id) => {
                if visit.start == Start::Exclusive
                    && turn.take(self, &id, visit.deadline).await.is_err()
                {
                    return refused(Refusal::Busy, CookieChange::Keep);
                }
                (self.loading(id, Standing::New), Ticket::Good)
            }
        };
        for number in 1.. {
            self.counters.runs.add_one();
            let run = Run::new(Arc::clone(self), &visit, ticket, phase, turn);
            let (session, run) = Session::new(Arc::clone(&visit.grant), run);
            let result = attempt.run(session.clone(), number).await;
            session.freeze();
            // A save that the guest did not wait for holds the lock until it is settled.
            let mut run = run.lock().await;
            match self
                .conclude(&mut run, session.was_called(), result, attempt)
                .await
            {
                Next::End(outcome) => return outcome,
                Next::Rerun(next, kept) => (phase, turn) = (next, kept),
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
            return Opening::Closed("this guest is granted no access to the session");
        }
        if !path_matches(&self.options.cookie.path, &visit.path) {
            return Opening::Closed("this path is outside of the session cookie's path");
        }
        match visit.presented.resolve(&self.keys.load()) {
            Resolution::Absent => Opening::New(Ticket::Absent),
            Resolution::Valid(id) => Opening::Known(id),
            Resolution::Invalid => {
                self.counters.bad_cookies.add_one();
                tracing::debug!("rejected a cookie that no secret of ours has signed");
                Opening::New(Ticket::Bad)
            }
            Resolution::Several => {
                self.counters.ambiguous_cookies.add_one();
                tracing::info!("rejected two valid cookies of different sessions in one request");
                Opening::New(Ticket::Bad)
            }
        }
    }

    /// Runs a guest where there is no session: each of its calls is denied.
    async fn run_without<A: Attempt>(
        &self,
        why: &'static str,
        attempt: &mut A,
    ) -> Outcome<A::Answer, A::Failure> {
        self.counters.runs.add_one();
        let cookie = CookieChange::Keep;
        match attempt.run(Session::closed(why), 1).await {
            Ok(answer) => Outcome::Answered { answer, cookie },
            Err(failure) => Outcome::Failed { failure, cookie },
        }
    }

    /// A session without a row.
    pub(super) fn fresh(&self, standing: Standing, link: Link) -> Phase {
        let cookie = policy::new_cookie(&self.options.cookie, link, self.clock.now_ms());
        let limits = Limits::of(&self.options);
        Phase::Open(Box::new(Transaction::without_row(
            standing, &cookie, limits,
        )))
    }

    /// The session of a row.
    pub(super) fn on_row(&self, base: Base, link: Link) -> Phase {
        let cookie = policy::new_cookie(&self.options.cookie, link, self.clock.now_ms());
        let limits = Limits::of(&self.options);
        Phase::Open(Box::new(Transaction::loaded(base, &cookie, limits)))
    }

    /// Starts to load a row; the guest's instance is made meanwhile. Without a row the session is `absent`.
    fn loading(self: &Arc<Self>, id: SessionId, absent: Standing) -> Phase {
        let (manager, loaded_id) = (Arc::clone(self), id.clone());
        let task = self
            .tasks
            .spawn(async move { manager.load(&loaded_id).await });
        Phase::Loading { id, task, absent }
    }

    /// Reads a session's row.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(super) async fn load(&self, id: &SessionId) -> Result<Loaded, StoreError> {
        self.counters.loads.add_one();
        let now_s = self.clock.now_s();
        let rows = self.store.load_many(std::slice::from_ref(id), now_s).await;
        let row = rows.inspect_err(|error| tracing::warn!(%error, "could not read a session"))?;
        let Some(record) = row.into_iter().next().flatten() else {
            return Ok(Loaded::Absent);
        };
        if policy::is_outlived(&self.options, record.created_at_s, now_s) {
            return Ok(Loaded::Absent);
        }
        match Base::new(id.clone(), record) {
            Ok(base) => Ok(Loaded::Row(Box::new(base))),
            Err(error) => {
                self.counters.corrupt_rows.add_one();
                let session = self.keys.load().fingerprint(id);
                tracing::warn!(session, %error, "a row is no session; it is left as it is");
                Ok(Loaded::Corrupt)
            }
        }
    }

    /// What follows when the attempt has ended.
    async fn conclude<A: Attempt>(
        self: &Arc<Self>,
        run: &mut Run,
        was_called: WasCalled,
        result: Result<A::Answer, A::Failure>,
        attempt: &mut A,
    ) -> Next<A::Answer, A::Failure> {
        let stop = match run.take_stop() {
            Some(stop) => {
                // The run that is over gives its instance back before the next one takes one.
                drop(result);
                stop
            }
            None => match result {
                Err(failure) => {
                    let cookie = run.take_cookie();
                    return Next::End(match run.has_store_failed() {
                        true => refused(Refusal::StoreUnavailable, cookie),
                        false => Outcome::Failed { failure, cookie },
                    });
                }
                Ok(answer) => match run.release(was_called).await {
                    Ok(cookie) => return Next::End(Outcome::Answered { answer, cookie }),
                    Err(stop) => stop,
                },
            },
        };
        self.after_stop(run, stop, attempt).await
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
            Stop::Busy => Refusal::Busy,
            Stop::Conflict(_) if run.is_saved() => Refusal::Conflict,
            Stop::Conflict(successor) => match attempt.replay() {
                Replay::EffectMade => Refusal::Conflict,
                Replay::BodyGone => Refusal::BodyGone,
                Replay::Possible if Instant::now() >= run.deadline() => Refusal::Busy,
                Replay::Possible => match self.successor(run, successor).await {
                    Ok((phase, turn)) => return Next::Rerun(phase, turn),
                    Err(refusal) => refusal,
                },
            },
        };
        tracing::info!(?refusal, "a session's transaction was given up");
        Next::End(refused(refusal, run.take_cookie()))
    }

    /// The session that the next run starts on; from the first conflict on with the session's slot in hand.
    async fn successor(
        self: &Arc<Self>,
        run: &mut Run,
        successor: Successor,
    ) -> Result<(Phase, Turn), Refusal> {
        let Successor::Row(base) = successor else {
            return Ok((self.fresh(Standing::Detached, run.link()), Turn::default()));
        };
        let mut turn = run.take_turn();
        if turn.is_taken() {
            return Ok((self.on_row(*base, run.link()), turn));
        }
        let taken = turn.take(self, &base.id, run.deadline()).await;
        taken.map_err(|_| Refusal::Busy)?;
        // While it waited, others changed the session.
        Ok((self.loading(base.id, Standing::Detached), turn))
    }
}

fn refused<A, F>(refusal: Refusal, cookie: CookieChange) -> Outcome<A, F> {
    Outcome::Refused { refusal, cookie }
}

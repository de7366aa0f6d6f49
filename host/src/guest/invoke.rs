//! One request on one guest: an instance of its own for each run, driven to the point where its answer may be released.
//!
//! The instance is a fresh one, or one that has served before, where its guest is reused. It may serve again only if all went
//! well and its answer leaves: what a run that is thrown away has left in its instance is thrown away with it.
//!
//! The point is the end of the guest's work, or its body passing 64 KiB, or the first bytes of a stream; a guest without a
//! session need not be held back at all. Up to there every failure is a clean [`GuestFailure`]; after it, the body breaks
//! off. Knows no status codes, no cookies, no stores.

mod computing;
pub(super) mod driver;
mod head;
pub(super) mod meter;
mod release;
mod wasi02;
mod wasi03;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::response;

use self::computing::{Computing, Terms, Work};
use self::driver::{Answer, Run, TasksDone};
use self::head::Incoming;
use self::release::{Hold, Releasing};
use super::account::Account;
use super::body::GuestBody;
use super::caller::Caller;
use super::error::{GuestFailure, backtrace, classify};
use super::gate::Permit;
use super::instance::{Exports, Instance};
use super::loaded::Guest;
use super::request::{BodyReader, GuestRequest};
use super::shelf::Kept;
use crate::session::{Attempt, Replay, Session};

/// An answer at its release point. Nothing of it may leave before its session is committed.
#[derive(Debug)]
pub struct Released {
    /// Status and headers, as the guest set them.
    pub head: response::Parts,
    /// The body.
    pub body: GuestBody,
    /// What has served it and may serve again, if its work is done.
    instance: Option<Box<Kept>>,
}

impl Released {
    /// Head and body, to be sent: from here on the instance behind them may serve another request.
    ///
    /// Needs a tokio runtime around it, as the body does.
    pub fn leave(self) -> (response::Parts, GuestBody) {
        if let Some(instance) = self.instance {
            instance.park();
        }
        (self.head, self.body)
    }
}

/// One request on one guest, to be run as often as its session asks for.
pub struct Invocation {
    guest: Arc<Guest>,
    request: GuestRequest,
    account: Account,
    /// What the runs so far have computed.
    computed: Duration,
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("guest", &self.guest)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl Invocation {
    /// Prepares a request for a guest; nothing runs yet.
    pub fn new(guest: Arc<Guest>, request: GuestRequest) -> Self {
        let (denials, request_id) = (guest.denials(), &request.request_id);
        Self {
            account: Account::new(Arc::clone(denials), Arc::clone(request_id)),
            guest,
            request,
            computed: Duration::ZERO,
        }
    }

    /// The one run of a guest that has no session: calls on one, if it makes any, are denied.
    ///
    /// # Errors
    /// When the guest gave no answer.
    ///
    /// Cancel safety: dropping the future drops the run.
    pub async fn run_without_session(&mut self) -> Result<Released, GuestFailure> {
        self.run_once(Session::none(), Hold::WhileItRuns, 1).await
    }

    async fn run_once(
        &mut self,
        session: Session,
        hold: Hold,
        number: u32,
    ) -> Result<Released, GuestFailure> {
        let deadline = self.request.deadline;
        let asked_at = Instant::now();
        let permit = self.guest.gates().enter(deadline).await;
        let metrics = self.guest.metrics().guest();
        metrics.waited(asked_at.elapsed(), &permit);
        let permit = permit?;
        let run = self.start(session, number, permit);
        let mut releasing = Releasing::new(run, hold, &self.guest, &self.request.head.method);
        let released = match tokio::time::timeout_at(
            deadline.into(),
            poll_fn(|cx| releasing.poll(cx)),
        )
        .await
        {
            Ok(released) => released,
            Err(_elapsed) => Err(GuestFailure::Deadline),
        };
        self.computed = releasing.computed();
        // Whatever the guest makes of a body that broke off at its limit, the client is owed the reason.
        if let Some(bytes_max) = self.request.body.passed_limit() {
            return Err(GuestFailure::RequestBodyTooLarge { bytes_max });
        }
        released?;
        releasing.release(&self.guest)
    }

    fn start(&self, session: Session, number: u32, permit: Permit) -> Run {
        let (answer, receiver) = Answer::channel();
        let tasks_done = TasksDone::default();
        let has_answered = answer.has_answered();
        let caller = Caller {
            session,
            has_answered: has_answered.clone(),
            cookies: self.request.cookies(),
            account: self.account.clone(),
        };
        let request_id = &self.request.request_id;
        let mut instance = self.guest.instance(caller, request_id, number);
        let log = instance.log().clone();
        let request_body = self.guest.shelf().map(|_| self.request.body.end());
        let is_reused = request_body.is_some();
        let request = Incoming::new(
            self.request.head.clone(),
            self.request.scheme.clone(),
            self.request.body.reader(),
        );
        let (guest, done) = (Arc::clone(&self.guest), tasks_done.clone());
        let work: Work = Box::pin(async move {
            match serve(&mut instance, &guest, request, answer, done).await {
                Ok(()) => {
                    let shelf = guest.shelf().zip(request_body);
                    Ok(shelf.and_then(|(shelf, body)| shelf.keep(instance, body)))
                }
                Err(error) => {
                    let context = instance.store.data();
                    if let Some(functions) = backtrace(&error) {
                        context.log.backtrace(&functions);
                    }
                    Err(classify(&error, context.refused_memory(guest.limits())))
                }
            }
        });
        let terms = Terms {
            lane: Arc::clone(self.guest.lane()),
            habit: Arc::clone(self.guest.habit()),
            guest: Arc::clone(self.guest.shared_name()),
            computed: self.computed,
            cpu_time: self.guest.limits().cpu_time,
            has_answered,
            log: log.clone(),
        };
        let computing = Computing::new(work, permit, terms);
        Run::new(computing, receiver, tasks_done, is_reused, log)
    }
}

async fn serve(
    instance: &mut Instance,
    guest: &Guest,
    request: Incoming<BodyReader>,
    answer: Answer,
    tasks_done: TasksDone,
) -> wasmtime::Result<()> {
    let (store, exports) = instance.start(guest.handler()).await?;
    match exports {
        Exports::Wasi02(guest) => wasi02::run(store, guest, request, answer).await,
        Exports::Wasi03(guest) => wasi03::run(store, guest, request, answer, tasks_done).await,
    }
}

impl Attempt for Invocation {
    type Answer = Released;
    type Failure = GuestFailure;

    async fn run(&mut self, session: Session, number: u32) -> Result<Released, GuestFailure> {
        self.run_once(session, Hold::UntilCommit, number).await
    }

    fn replay(&self) -> Replay {
        if self.account.has_effects() {
            Replay::EffectMade
        } else if self.request.body.is_gone() {
            Replay::BodyGone
        } else {
            Replay::Possible
        }
    }
}

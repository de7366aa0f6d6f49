//! Runs one request on one guest. Each run has its own instance, and is driven to the point where its response may be released.
//!
//! The instance is new, or has served before if the guest's instances are reused. It may serve again only if the run succeeded and its
//! response is sent. A run that is discarded takes its instance with it, including everything that it left there.
//!
//! The release point is the end of the guest's work, the body passing 64 KiB, or the first bytes of a stream. The response of a guest
//! without a session need not be held at all. Before the release point, every failure is a clean [`GuestFailure`]. After it, the body
//! breaks off. This module knows no status codes, no cookies and no stores.

pub(crate) mod background;
pub(crate) mod blame;
pub(crate) mod body;
pub(crate) mod concurrency;
pub(crate) mod driver;
pub(crate) mod error;
pub(crate) mod guest;
pub(crate) mod guest_settings;
mod head;
pub(crate) mod health;
pub(crate) mod idle;
pub(crate) mod instance;
pub(crate) mod meter;
mod offload;
mod release;
pub(crate) mod request;

mod wasi02;
mod wasi03;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::response;

use self::driver::{GuestRun, ResponseSlot, TasksDone};
use self::head::IncomingRequest;
use self::offload::{OffloadTerms, OffloadableWork, Work};
use self::release::{HoldReason, UnreleasedRun};
use super::interfaces::accounting::RequestAccounting;
use super::interfaces::{RequestState, RunParts};
use super::run::blame::{Blame, RunEnd, blame};
use super::run::body::{BodyRemainder, GuestBody};
use super::run::concurrency::{InstancePermit, RunClient};
use super::run::error::{GuestFailure, backtrace, classify};
use super::run::guest::Guest;
use super::run::idle::IdleInstance;
use super::run::instance::{GuestInstance, InstanceExports};
use super::run::request::{BodyReader, GuestRequest};

use cloakroom_session::{Attempt, ReplayPolicy, Session};

/// A response at its release point. No part of it may be sent before its session is committed.
#[derive(Debug)]
pub struct ReleasedResponse {
    /// Status and headers, as the guest set them.
    pub head: response::Parts,
    /// The body.
    pub body: GuestBody,
    /// The instance that has served it and may serve again, if its work is done.
    instance: Option<Box<IdleInstance>>,
}

impl ReleasedResponse {
    /// Returns the head and the body, to be sent. From here on the instance may serve another request, or continues with this one.
    ///
    /// Must be called within a tokio runtime, as the body requires one.
    pub fn leave(mut self) -> (response::Parts, GuestBody) {
        if let Some(instance) = self.instance {
            instance.make_idle();
        }
        self.body.start();
        (self.head, self.body)
    }
}

/// A request to a guest, which runs as often as its session asks for.
pub struct Invocation {
    guest: Arc<Guest>,
    request: GuestRequest,
    accounting: RequestAccounting,
    /// Time that the runs so far have computed.
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
    /// Prepares a request for a guest. Nothing runs yet.
    pub fn new(guest: Arc<Guest>, request: GuestRequest) -> Self {
        let (denials, request_id) = (guest.denials(), &request.request_id);
        let (denials, request_id) = (Arc::clone(denials), Arc::clone(request_id));
        Self {
            accounting: RequestAccounting::new(denials, request_id, request.source()),
            guest,
            request,
            computed: Duration::ZERO,
        }
    }

    /// Returns the party that is to blame for the end of the request.
    pub fn blame(&self, end: RunEnd<'_>) -> Blame {
        blame(end, self.request.body.state())
    }

    /// Runs a guest that has no session, once. Any session call that it makes is denied.
    ///
    /// # Errors
    /// Fails if the guest gave no response.
    ///
    /// Cancel safety: dropping the future drops the run.
    pub async fn run_without_session(&mut self) -> Result<ReleasedResponse, GuestFailure> {
        self.run_once(Session::none(), HoldReason::WhileItRuns, 1)
            .await
    }

    async fn run_once(
        &mut self,
        session: Session,
        hold: HoldReason,
        number: u32,
    ) -> Result<ReleasedResponse, GuestFailure> {
        let (deadline, reservation) = (&self.request.deadline, &self.request.reservation);
        let asked_at = Instant::now();
        // The first wait is bounded by the queue alone, because the deadline limits the guest's time.
        let queue_until = (!deadline.is_unstarted()).then(|| deadline.at());
        let concurrency_limits = self.guest.concurrency_limits();
        let permit = concurrency_limits
            .enter(queue_until, reservation.as_ref())
            .await;
        let metrics = self.guest.metrics().guest();
        metrics.waited(asked_at.elapsed(), &permit);
        let permit = permit?;
        deadline.start();
        let mut client = RunClient::of(&permit, concurrency_limits, reservation.clone());
        let run = self.start(session, number, permit);
        let mut releasing = UnreleasedRun::new(run, hold, &self.guest, &self.request.head.method);
        let released = self.drive(&mut releasing, &mut client).await;
        self.computed = releasing.computed();
        let end = match (&released, releasing.status()) {
            (Err(failure), _) => RunEnd::Failed(failure),
            (Ok(()), Some(status)) => RunEnd::Answered(status),
            (Ok(()), None) => RunEnd::Failed(&GuestFailure::NoResponse),
        };
        // If the client is to blame, it receives its own failure, whatever the guest answered, and nothing is committed.
        if let Blame::Client(failure) = self.blame(end) {
            return Err(failure);
        }
        released?;
        releasing.release(|run, meter| {
            let (body, peer) = (self.request.body.handle(), self.request.source().peer);
            BodyRemainder::new(run, meter, &self.guest, body, client, peer)
        })
    }

    /// Runs the guest to the release point. The deadline is paused while the guest waits for its client and no other part of the guest can
    /// run. The guest computes only when this function polls it, or in its turn in the background pool.
    async fn drive(
        &self,
        releasing: &mut UnreleasedRun,
        client: &mut RunClient,
    ) -> Result<(), GuestFailure> {
        let (deadline, body) = (&self.request.deadline, &self.request.body);
        let mut timeout = pin!(tokio::time::sleep_until(deadline.at().into()));
        let mut drain_cut = pin!(None);
        let released = poll_fn(|cx| {
            deadline.resume();
            client.resume()?;
            if let Poll::Ready(released) = releasing.poll(cx) {
                return Poll::Ready(released);
            }
            if releasing.is_idle() && body.is_awaited() {
                deadline.pause();
                if drain_cut.is_none() {
                    drain_cut.set(Some(self.guest.cut().cancelled_owned()));
                }
                if let Some(drain_cut) = drain_cut.as_mut().as_pin_mut()
                    && drain_cut.poll(cx).is_ready()
                {
                    return Poll::Ready(Err(GuestFailure::DrainTimeout));
                }
                return client.poll_wait(body.bytes(), cx).map(Err);
            }
            while timeout.as_mut().poll(cx).is_ready() {
                let at = deadline.at();
                if at <= Instant::now() {
                    return Poll::Ready(Err(GuestFailure::Deadline));
                }
                timeout.as_mut().reset(at.into());
            }
            Poll::Pending
        })
        .await;
        deadline.resume();
        released
    }

    fn start(&self, session: Session, number: u32, permit: InstancePermit) -> GuestRun {
        let (answer, receiver) = ResponseSlot::channel();
        let tasks_done = TasksDone::default();
        let has_answered = answer.has_answered();
        let request_state = RequestState::of(&RunParts {
            guest: self.guest.interfaces(),
            services: self.request.services.as_deref(),
            head: &self.request.head,
            session,
            has_answered: has_answered.clone(),
            accounting: self.accounting.clone(),
        });
        let request_id = &self.request.request_id;
        let mut instance = self.guest.instance(request_state, request_id, number);
        let log = instance.log().clone();
        let request_body = self.guest.idle_instances().map(|_| self.request.body.end());
        let is_reused = request_body.is_some();
        let request = IncomingRequest::new(
            self.request.head.clone(),
            self.request.scheme.clone(),
            self.request.body.reader(),
        );
        let (guest, done) = (Arc::clone(&self.guest), tasks_done.clone());
        let work: Work = Box::pin(async move {
            match serve(&mut instance, &guest, request, answer, done).await {
                Ok(()) => {
                    let idle_instances = guest.idle_instances().zip(request_body);
                    Ok(idle_instances
                        .and_then(|(idle_instances, body)| idle_instances.keep(instance, body)))
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
        let terms = OffloadTerms {
            background: Arc::clone(self.guest.background()),
            slow_history: Arc::clone(self.guest.slow_history()),
            guest: Arc::clone(self.guest.shared_name()),
            source: self.request.source(),
            computed: self.computed,
            cpu_time: self.guest.limits().cpu_time,
            has_answered,
            log: log.clone(),
        };
        let computing = OffloadableWork::new(work, permit, terms);
        GuestRun::new(computing, receiver, tasks_done, is_reused, log)
    }
}

async fn serve(
    instance: &mut GuestInstance,
    guest: &Guest,
    request: IncomingRequest<BodyReader>,
    answer: ResponseSlot,
    tasks_done: TasksDone,
) -> wasmtime::Result<()> {
    let (store, exports) = instance.start(guest.prepared()).await?;
    match exports {
        InstanceExports::Wasi02(guest) => wasi02::run(store, guest, request, answer).await,
        InstanceExports::Wasi03(guest) => {
            wasi03::run(store, guest, request, answer, tasks_done).await
        }
    }
}

impl Attempt for Invocation {
    type Answer = ReleasedResponse;
    type Failure = GuestFailure;

    async fn run(
        &mut self,
        session: Session,
        number: u32,
    ) -> Result<ReleasedResponse, GuestFailure> {
        self.run_once(session, HoldReason::UntilCommit, number)
            .await
    }

    fn replay(&self) -> ReplayPolicy {
        if self.accounting.has_effects() {
            ReplayPolicy::EffectMade
        } else if self.request.body.is_gone() {
            ReplayPolicy::BodyGone
        } else {
            ReplayPolicy::Possible
        }
    }
}

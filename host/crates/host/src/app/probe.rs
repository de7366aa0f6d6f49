//! Probes a candidate before it serves: sends a GET for the configured path, with a session in a temporary store.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http::header::HOST;
use http::uri::Scheme;
use http_body_util::Empty;

use super::keys::SigningKeys;
use super::services;
use cloakroom_base::clock::Clock;
use cloakroom_runtime as guest;
use cloakroom_runtime::{
    Guest, GuestFailure, GuestRequest, Invocation, ReleasedResponse, ReplayBody, Services,
};
use cloakroom_session as session;
use cloakroom_session::cookie::{IdComparison, PresentedCookies};
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::{TransactionOutcome, Visit};

/// The name of the session cookie in a probe. No browser receives the response.
const NO_COOKIE: &str = "probe";

/// Sends probes as a visitor with a new session that is discarded afterwards.
pub(crate) struct ScratchVisitor {
    pub(crate) options: session::SessionOptions,
    pub(crate) clock: Clock,
}

impl guest::ProbeRequest for ScratchVisitor {
    fn ask<'a>(
        &'a self,
        candidate: Arc<Guest>,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            let deadline = Instant::now() + candidate.limits().deadline;
            let services = self.services()?;
            let request = request(&candidate, path, Arc::clone(&services), deadline)?;
            let mut invocation = Invocation::new(Arc::clone(&candidate), request);
            if !candidate.imports_session() {
                return judge(invocation.run_without_session().await);
            }
            let visit = Visit {
                presented: PresentedCookies::default(),
                host: "localhost".to_owned(),
                path: path.split('?').next().unwrap_or(path).to_owned(),
                is_secure: false,
                grant: Arc::clone(candidate.grant()),
                deadline: deadline.into(),
                start: candidate.start(),
                reservation: None,
            };
            let outcome = services.sessions.transact(visit, &mut invocation).await;
            services.sessions.shutdown().await;
            match outcome {
                TransactionOutcome::Answered { answer, .. } => judge(Ok(answer)),
                TransactionOutcome::Failed { failure, .. } => judge(Err(failure)),
                TransactionOutcome::Refused { refusal, .. } => {
                    Err(format!("its session was refused: {refusal:?}"))
                }
            }
        })
    }
}

impl ScratchVisitor {
    fn services(&self) -> Result<Arc<Services>, String> {
        let (keys, store) = (SigningKeys::random()?, Arc::new(MemoryStore::new()));
        let mut options = self.options.clone();
        options.cookie.name = NO_COOKIE.to_owned();
        let (ids, clock) = (IdComparison::Exact, &self.clock);
        Ok(services::services(options, &keys, store, ids, clock))
    }
}

fn request(
    candidate: &Guest,
    path: &str,
    services: Arc<Services>,
    deadline: Instant,
) -> Result<GuestRequest, String> {
    let request = http::Request::builder().uri(path).header(HOST, "localhost");
    let request = request.body(()).map_err(|error| error.to_string())?;
    let limits = candidate.limits();
    Ok(GuestRequest {
        head: request.into_parts().0,
        scheme: Scheme::HTTP,
        body: ReplayBody::new(
            Empty::<Bytes>::new(),
            limits.request_body_bytes_max,
            limits.replay_bytes_max,
        ),
        services: Some(services),
        request_id: "probe".into(),
        deadline: deadline.into(),
        reservation: None,
    })
}

fn judge(answer: Result<ReleasedResponse, GuestFailure>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.head.status < StatusCode::INTERNAL_SERVER_ERROR => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.head.status)),
        Err(failure) => Err(failure.to_string()),
    }
}

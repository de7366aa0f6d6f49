//! The guest resources of the admin interface: list, deploy and roll back. `If-Match` names the expected live version. The ETag
//! of a guest is the number of its live version.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{IF_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::AdminServices;
use super::report::{ComponentReport, DeployReport, DryRunReport, GuestListing, GuestReport};
use super::upload::UploadQueue;
use crate::json_api::{Body, Refusal, Reply, json, ok, problem, tagged};
use cloakroom_runtime::{
    ComponentDigest, ComponentSource, DeployError, DeployOutcome, DeployRequest, Deployment,
    LoadError, RollbackError, VersionOrigin,
};
use cloakroom_server::RequestBody;

pub(crate) fn list(parts: &AdminServices) -> Response<Body> {
    let deployments = parts.registry.deployments();
    let guests = deployments.values().map(|it| GuestReport::of(it)).collect();
    ok(&GuestListing { guests })
}

pub(crate) fn show(parts: &AdminServices, name: String) -> Reply {
    let deployment = find(parts, &name)?;
    let guest = GuestReport::of(&deployment);
    Ok(tagged(ok(&guest), guest.live))
}

/// Deploys the component in the request body as a new version, or only validates it.
pub(crate) async fn put<B: RequestBody>(
    parts: &AdminServices,
    uploads: &UploadQueue,
    name: String,
    head: &http::request::Parts,
    body: Pin<&mut B>,
    peer: SocketAddr,
) -> Reply {
    let deployment = find(parts, &name)?;
    let mode = DeployMode::of(head.uri.query())?;
    let expected = expected(&head.headers, deployment.live_version())?;
    // Checked before the component is received, so that it is not sent in vain. The deployment checks again.
    check_expected(&deployment, expected)?;
    let upload = uploads.read(&head.headers, body).await?;
    let bytes = upload.bytes.clone();
    match mode {
        DeployMode::DryRun => dry_run(parts, &deployment, bytes).await,
        DeployMode::Deploy => deploy(parts, &deployment, bytes, expected, peer).await,
    }
}

pub(crate) fn roll_back(parts: &AdminServices, name: String, headers: &HeaderMap) -> Reply {
    let deployment = find(parts, &name)?;
    let expected = expected(headers, deployment.live_version())?;
    match deployment.roll_back(expected) {
        Ok(live) => {
            let change = change(&deployment, live, false);
            Ok(tagged(ok(&change), live))
        }
        Err(error @ RollbackError::NoPrevious) => {
            Err(problem(StatusCode::CONFLICT, error.to_string()))
        }
        Err(error @ RollbackError::Stale { live, .. }) => Err(stale(&error, live)),
    }
}

async fn deploy(
    parts: &AdminServices,
    deployment: &Arc<Deployment>,
    bytes: Bytes,
    expected: Option<u64>,
    peer: SocketAddr,
) -> Reply {
    let deploy_request = DeployRequest {
        source: ComponentSource::Bytes(bytes),
        settings: None,
        origin: VersionOrigin::Admin {
            peer: peer.to_string(),
        },
        expected,
    };
    let deployed = parts.deployer.deploy(deployment, deploy_request).await;
    let live = deployment.live_version();
    match deployed.map_err(|error| refusal(&error, live))? {
        DeployOutcome::Unchanged { version } => {
            let change = change(deployment, version, true);
            Ok(tagged(ok(&change), live))
        }
        DeployOutcome::Activated { version } => {
            let change = change(deployment, version, false);
            let mut response = json(StatusCode::CREATED, &change);
            let location = HeaderValue::from_str(&format!("/guests/{}", deployment.name()));
            if let Ok(location) = location {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(tagged(response, live))
        }
    }
}

async fn dry_run(parts: &AdminServices, deployment: &Arc<Deployment>, bytes: Bytes) -> Reply {
    let digest = ComponentDigest::of(&bytes);
    let tried = parts.deployer.dry_run(deployment, bytes).await;
    let live = deployment.live();
    let number = deployment.live_version();
    let guest = tried.map_err(|error| refusal(&error, number))?;
    let report = DryRunReport {
        guest: deployment.name().to_owned(),
        dry_run: true,
        live: number,
        unchanged: live.is_some_and(|live| live.component().digest == digest),
        component: ComponentReport::of(guest.component()),
    };
    Ok(tagged(ok(&report), number))
}

fn change(deployment: &Deployment, version: u64, unchanged: bool) -> DeployReport {
    let versions = deployment.versions();
    let report = versions.iter().find(|report| report.number == version);
    DeployReport {
        guest: deployment.name().to_owned(),
        version,
        // A version that was removed meanwhile is no longer listed.
        state: report
            .map_or("retired", |report| report.state.name())
            .to_owned(),
        live: deployment.live_version(),
        unchanged,
    }
}

fn find(parts: &AdminServices, name: &str) -> Result<Arc<Deployment>, Refusal> {
    parts.registry.get(name).ok_or_else(|| {
        let deployments = parts.registry.deployments();
        let names: Vec<_> = deployments.keys().map(String::as_str).collect();
        let sentence = format!(
            "there is no such guest; guests come from the configuration, which has {}",
            names.join(", ")
        );
        problem(StatusCode::NOT_FOUND, sentence)
    })
}

/// Whether a component is deployed or only validated.
#[derive(Clone, Copy)]
enum DeployMode {
    Deploy,
    DryRun,
}

impl DeployMode {
    fn of(query: Option<&str>) -> Result<Self, Refusal> {
        match query {
            None | Some("") => Ok(Self::Deploy),
            Some("dry-run" | "dry-run=" | "dry-run=true") => Ok(Self::DryRun),
            Some(_) => {
                let sentence = "the only query parameter is ?dry-run";
                Err(problem(StatusCode::BAD_REQUEST, sentence))
            }
        }
    }
}

/// Returns the live version that the client expects to replace, as named in `If-Match`. Returns `None` if the client does not
/// state one.
fn expected(headers: &HeaderMap, live: u64) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bad = || {
        let sentence = "If-Match holds one version in quotes, as ETag does: \"3\"";
        problem(StatusCode::BAD_REQUEST, sentence)
    };
    let text = value.to_str().map_err(|_| bad())?.trim();
    if values.next().is_some() {
        return Err(bad());
    }
    if text == "*" {
        return Ok(Some(live).filter(|live| *live > 0));
    }
    let number = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let number = number.ok_or_else(bad)?.parse().map_err(|_| bad())?;
    Ok(Some(number))
}

fn check_expected(deployment: &Deployment, expected: Option<u64>) -> Result<(), Refusal> {
    let live = deployment.live_version();
    match expected {
        Some(expected) if expected != live => {
            Err(stale(&RollbackError::Stale { expected, live }, live))
        }
        _ => Ok(()),
    }
}

fn stale(error: &RollbackError, live: u64) -> Refusal {
    let problem = problem(StatusCode::PRECONDITION_FAILED, error.to_string());
    Box::new(tagged(*problem, live))
}

fn refusal(error: &DeployError, live: u64) -> Refusal {
    let status = match error {
        // The component is not at fault: compiling it took too long, or the host is shutting down.
        DeployError::Load(LoadError::NotCompiled { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        DeployError::Load(_) | DeployError::Probe { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        DeployError::Stale(error) => return stale(error, live),
        DeployError::Host(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let value = |value: &&'static str| (IF_MATCH, HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in values.iter().map(value) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn if_match_is_one_version_in_quotes() {
        let read = |values: &[&'static str]| {
            expected(&headers(values), 7).map_err(|refusal| refusal.status().as_u16())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["\"3\""]), Ok(Some(3)));
        assert_eq!(read(&["*"]), Ok(Some(7)));
        for bad in ["3", "W/\"3\"", "\"3\", \"4\"", "\"x\"", "\"\"", ""] {
            assert_eq!(read(&[bad]), Err(400), "{bad}");
        }
        assert_eq!(read(&["\"3\"", "\"3\""]), Err(400));
    }

    #[test]
    fn only_a_dry_run_can_be_asked_for() {
        assert!(matches!(DeployMode::of(None), Ok(DeployMode::Deploy)));
        assert!(matches!(
            DeployMode::of(Some("dry-run")),
            Ok(DeployMode::DryRun)
        ));
        assert!(matches!(
            DeployMode::of(Some("dry-run=true")),
            Ok(DeployMode::DryRun)
        ));
        // A misspelled query must not deploy a component that was only to be validated.
        for slip in ["dryrun", "dry_run", "dry-run=false", "dry-run&x"] {
            assert!(DeployMode::of(Some(slip)).is_err(), "{slip}");
        }
    }
}

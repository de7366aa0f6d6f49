//! `cloakroom guests` lists, deploys and rolls back the guests of a running host. `cloakroom store prefer-first` makes a
//! running host use the first server of its store again.
//!
//! Results are printed to standard output and progress to standard error. This module only uses the HTTP interface of the host.

mod progress;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, IF_MATCH};
use http::{HeaderValue, Method, Request, StatusCode};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use super::client::{AdminClient, AdminResponse, UploadBody};
use super::report::{DeployReport, DryRunReport, GuestListing, GuestReport, PreferredServer};
use crate::json_api::ProblemReport;
use cloakroom_base::files;
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::escape;
use cloakroom_runtime::{COMPONENT_BYTES_MAX, RollbackError};
pub use progress::size;

use progress::UploadProgress;

/// A command for a running host.
#[derive(Debug)]
pub struct AdminCommand {
    /// The URL of the admin interface, for example `http://127.0.0.1:3001`.
    pub url: String,
    /// The token to present.
    pub token: Option<SecretString>,
    /// The operation to perform.
    pub command: GuestsAction,
}

/// The operation to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestsAction {
    /// List guests and their versions.
    List {
        /// The versions to list.
        versions: VersionFilter,
    },
    /// Deploys a new version of a guest.
    Put {
        /// The guest.
        name: String,
        /// The file of the component.
        file: PathBuf,
        /// Whether the component is deployed or only validated.
        purpose: UploadPurpose,
        /// The live version that it must replace, if the caller states one.
        expected: Option<u64>,
    },
    /// Makes the version before the live one live again.
    Rollback {
        /// The guest.
        name: String,
        /// The live version that must be rolled back, if the caller states one.
        expected: Option<u64>,
    },
    /// Use the first server of the session store's list again.
    PreferFirst,
}

/// The versions to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionFilter {
    /// Versions that serve, will serve, are draining or can be live again, and the newest one if it failed.
    Current,
    /// All versions that the host remembers.
    All,
}

/// The purpose of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadPurpose {
    /// To deploy the component.
    Serve,
    /// To validate the component without deploying it.
    DryRun,
}

/// Error returned when a command fails. The text of `Display` does not contain the token.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The input is at fault: an option, a file, the token or the component.
    #[error("{0}")]
    AtFault(String),
    /// The host could not perform the operation, at least not now.
    #[error("{0}")]
    Failed(String),
}

/// Performs the operation and prints its result.
///
/// # Errors
/// Returns a [`ShellError`].
///
/// Cancel safety: if the future is dropped, the host withdraws a component that is not live yet.
pub async fn run(args: AdminCommand) -> Result<(), ShellError> {
    let client = AdminClient::new(&args.url, args.token).map_err(at_fault)?;
    match args.command {
        GuestsAction::List { versions } => list(&client, versions).await,
        GuestsAction::Put {
            name,
            file,
            purpose,
            expected,
        } => put(&client, &name, file, purpose, expected).await,
        GuestsAction::Rollback { name, expected } => roll_back(&client, &name, expected).await,
        GuestsAction::PreferFirst => prefer_first(&client).await,
    }
}

async fn list(client: &AdminClient, versions: VersionFilter) -> Result<(), ShellError> {
    let listing: GuestListing =
        call(client, request(Method::GET, "/guests".to_owned(), None)?).await?;
    print(&table::of(&listing, versions))
}

async fn put(
    client: &AdminClient,
    name: &str,
    file: PathBuf,
    purpose: UploadPurpose,
    expected: Option<u64>,
) -> Result<(), ShellError> {
    let component = read(file).await?;
    look_ahead(client, name, expected).await?;
    let query = match purpose {
        UploadPurpose::Serve => "",
        UploadPurpose::DryRun => "?dry-run",
    };
    let target = format!("{}{query}", target(name)?);
    let sent = Arc::new(AtomicUsize::new(0));
    let progress = UploadProgress::new(name, component.len(), Arc::clone(&sent));
    let mut request = request(Method::PUT, target, expected)?;
    let kind = HeaderValue::from_static("application/wasm");
    request.headers_mut().insert(CONTENT_TYPE, kind);
    *request.body_mut() = UploadBody::new(component, sent);
    let (answer, took) = progress.show_while(client.call(request)).await;
    let answer = answer.map_err(failed)?;
    match purpose {
        UploadPurpose::DryRun => print(&table::of_dry_run(&read_answer::<DryRunReport>(&answer)?)),
        UploadPurpose::Serve => {
            let change = read_answer::<DeployReport>(&answer)?;
            let message = message(&change);
            print(&escape(&format!("{message} ({:.1} s)", took.as_secs_f64())))
        }
    }
}

/// Checks for reasons to refuse a component before it is sent. Otherwise the upload of a large one could be cut off without the
/// reason being received.
async fn look_ahead(
    client: &AdminClient,
    name: &str,
    expected: Option<u64>,
) -> Result<(), ShellError> {
    let found: GuestReport = call(client, request(Method::GET, target(name)?, None)?).await?;
    match expected {
        Some(expected) if expected != found.live => {
            let live = found.live;
            Err(stale(&RollbackError::Stale { expected, live }.to_string()))
        }
        _ => Ok(()),
    }
}

async fn roll_back(
    client: &AdminClient,
    name: &str,
    expected: Option<u64>,
) -> Result<(), ShellError> {
    let target = format!("{}/rollback", target(name)?);
    let change: DeployReport = call(client, request(Method::POST, target, expected)?).await?;
    let message = format!("{}: version {} serves", change.guest, change.live);
    print(&escape(&message))
}

async fn prefer_first(client: &AdminClient) -> Result<(), ShellError> {
    let target = "/store/prefer-first".to_owned();
    let preferred: PreferredServer = call(client, request(Method::POST, target, None)?).await?;
    let message = format!("the session store uses {}", preferred.in_use);
    print(&escape(&message))
}

fn message(change: &DeployReport) -> String {
    let DeployReport {
        guest,
        version,
        state,
        live,
        ..
    } = change;
    match state.as_str() {
        "live" if change.unchanged => {
            format!("{guest}: this is version {version}, which is live already")
        }
        "live" => format!("{guest}: version {version} is live"),
        "canary" => format!(
            "{guest}: version {version} serves its share of the visitors as a canary; version {live} is live"
        ),
        state => format!(
            "{guest}: version {version} was deployed and is {state}; version {live} is live"
        ),
    }
}

async fn read(file: PathBuf) -> Result<Bytes, ShellError> {
    let shown = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || files::read(&file, COMPONENT_BYTES_MAX)).await;
    let bytes = read.expect("reading a file neither panics nor is cancelled");
    let bytes = bytes.map_err(|error| at_fault(format!("cannot read {shown}: {error}")))?;
    Ok(bytes.into())
}

/// Returns the path of a guest. Names contain no characters that need escaping.
fn target(name: &str) -> Result<String, ShellError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        let problem = format!("{name:?} is not a guest name: use letters, digits, - and _");
        return Err(at_fault(problem));
    }
    Ok(format!("/guests/{name}"))
}

fn request(
    method: Method,
    target: String,
    expected: Option<u64>,
) -> Result<Request<UploadBody>, ShellError> {
    let mut request = Request::builder().method(method).uri(target);
    if let Some(version) = expected {
        request = request.header(IF_MATCH, format!("\"{version}\""));
    }
    request.body(UploadBody::default()).map_err(at_fault)
}

async fn call<T: DeserializeOwned>(
    client: &AdminClient,
    request: Request<UploadBody>,
) -> Result<T, ShellError> {
    read_answer(&client.call(request).await.map_err(failed)?)
}

fn read_answer<T: DeserializeOwned>(answer: &AdminResponse) -> Result<T, ShellError> {
    let status = answer.status;
    if status.is_success() {
        let read = serde_json::from_slice(&answer.body);
        return read.map_err(|_| at_fault("the server there has no admin interface of Cloakroom"));
    }
    let problem = serde_json::from_slice::<ProblemReport>(&answer.body);
    let message = problem.map_or_else(|_| format!("it answered {status}"), |it| it.error);
    Err(match status {
        StatusCode::UNAUTHORIZED => ShellError::AtFault(format!(
            "{}\n    set CLOAKROOM_ADMIN_TOKEN to the host's token, or name a file that holds it: --token-file FILE",
            escape(&message)
        )),
        StatusCode::PRECONDITION_FAILED => stale(&message),
        StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT => failed(message),
        status if status.is_server_error() => failed(message),
        _ => at_fault(message),
    })
}

fn stale(message: &str) -> ShellError {
    let remedy = "run `cloakroom guests list`, then name the live version with --expect";
    ShellError::Failed(format!("{}\n    {remedy}", escape(message)))
}

fn at_fault(problem: impl ToString) -> ShellError {
    ShellError::AtFault(escape(&problem.to_string()).into_owned())
}

fn failed(problem: impl ToString) -> ShellError {
    ShellError::Failed(escape(&problem.to_string()).into_owned())
}

fn print(text: &str) -> Result<(), ShellError> {
    telemetry::print(&format!("{}\n", text.trim_end()))
        .map_err(|error| failed(format!("cannot write to standard output: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> AdminResponse {
        AdminResponse {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn client_errors_are_distinguished_from_failures_of_the_host() {
        let read = |status, body| read_answer::<DeployReport>(&answer(status, body)).unwrap_err();
        let problem = "{\"error\": \"no\\u001b[2J\"}";
        for status in [400, 401, 403, 404, 413, 422] {
            let error = read(status, problem);
            assert!(matches!(&error, ShellError::AtFault(message) if message.starts_with("no")));
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        for status in [409, 412, 500, 503] {
            assert!(
                matches!(read(status, problem), ShellError::Failed(_)),
                "{status}"
            );
        }
        let error = read(502, "<html>");
        assert_eq!(error.to_string(), "it answered 502 Bad Gateway");
        let error = read(200, "<html>").to_string();
        assert_eq!(
            error,
            "the server there has no admin interface of Cloakroom"
        );
    }

    #[test]
    fn a_name_cannot_reach_another_path() {
        assert_eq!(target("my-guest_1").unwrap(), "/guests/my-guest_1");
        for name in ["", "a/b", "..", "a?dry-run", "a b", "ä"] {
            assert!(target(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_result_of_a_deployment_is_one_sentence() {
        let change = |state: &str, unchanged| DeployReport {
            guest: "counter".to_owned(),
            version: 3,
            state: state.to_owned(),
            live: 2,
            unchanged,
        };
        assert_eq!(
            message(&change("live", false)),
            "counter: version 3 is live"
        );
        assert!(message(&change("live", true)).contains("live already"));
        assert!(message(&change("canary", false)).contains("version 2 is live"));
        assert!(message(&change("retired", false)).contains("is retired"));
    }
}

//! The admin interface as a part of the host. It listens from before the guests are loaded until every other part has shut
//! down, apart from the store. The commands `cloakroom guests` and `cloakroom store prefer-first` call it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::admin::command;
use crate::admin::command::ShellError;
use crate::admin::{AdminOptions, AdminServer, AdminServices};
use crate::config::Environment;
use crate::failure::StartFailure;
use cloakroom_base::files;
use cloakroom_base::limits;
use cloakroom_base::quota::{QuotaResource, Quotas};
use cloakroom_base::telemetry;
use cloakroom_base::telemetry::escape;
use cloakroom_base::telemetry::metrics::Scrape;
use cloakroom_server as server;

/// The variable that holds the admin token, both for the host and for the commands that call it.
const TOKEN_VARIABLE: &str = "CLOAKROOM_ADMIN_TOKEN";

/// The listener and the server of the admin interface.
#[derive(Debug)]
pub struct AdminListener {
    admin: Arc<AdminServer>,
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl AdminListener {
    /// Starts to listen if the settings ask for it. Until [`App::with_admin`] is called, the interface reports that the host is
    /// alive and not ready.
    ///
    /// # Errors
    /// Returns an error if the address is in use, does not belong to this machine, or may not be opened by this user.
    pub async fn open(options: Option<&AdminOptions>) -> Result<Option<Self>, StartFailure> {
        let Some(options) = options else {
            return Ok(None);
        };
        let elsewhere = "--admin ADDRESS:PORT, CLOAKROOM_ADMIN_LISTEN or `listen` under [admin]";
        let failed = |error| StartFailure::to_listen(options.listen, &error, elsewhere);
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let admin = AdminServer::new(AdminOptions {
            token: options.token.clone(),
            listen: address,
        });
        tracing::info!(%address, "the admin interface listens");
        let options = server::ServerOptions {
            grace: limits::ADMIN_GRACE,
            ..server::ServerOptions::default()
        };
        let stop = CancellationToken::new();
        let service = Arc::clone(&admin);
        let server = server::run(listener, service, options, Arc::default(), stop.clone());
        Ok(Some(Self {
            admin,
            address,
            stop,
            server: tokio::spawn(server),
        }))
    }

    /// Returns the address that the interface listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Marks the host as ready and gives the interface access to its parts. When `shutdown` is cancelled, the host is not ready
    /// any more.
    pub(crate) fn serve(&self, app: &App, shutdown: &CancellationToken) {
        let (handler, connections) = (Arc::clone(&app.handler), Arc::clone(&app.connections));
        let others = move |scrape: &Scrape| {
            handler.metrics().collect_into(scrape);
            let gauge = |name, help, value: usize| {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                scrape.gauge(name, help, &[], value);
            };
            gauge(
                "cloakroom_requests_in_flight",
                "Requests under way.",
                handler.in_flight(),
            );
            gauge(
                "cloakroom_connections",
                "Connections that are open.",
                connections.open(),
            );
            scrape.total(
                "cloakroom_connections_accepted_total",
                "Connections that were accepted.",
                &[],
                connections.accepted(),
            );
            collect_quotas(handler.quotas(), scrape);
        };
        self.admin.open(AdminServices {
            registry: Arc::clone(&app.registry),
            deployer: Arc::clone(&app.deployer),
            sessions: Arc::clone(&app.services.sessions),
            store: Arc::clone(&app.metered),
            shutdown: shutdown.clone(),
            serves_since_s: app.clock.now_s(),
            others: Box::new(others),
        });
    }

    /// Ends the admin interface and the calls in progress, and drops its references to all parts, so that the store can be
    /// closed.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the admin interface failed");
        }
        self.admin.close();
    }
}

fn collect_quotas(quotas: &Quotas, scrape: &Scrape) {
    for resource in QuotaResource::ALL {
        let labels = [("total", resource.key())];
        let gauge = |name, help, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            scrape.gauge(name, help, &labels, value);
        };
        let used = quotas.used(resource);
        gauge(
            "cloakroom_server_used",
            "The used amount of a limit that all clients share.",
            used,
        );
        let max = quotas.max(resource);
        gauge(
            "cloakroom_server_max",
            "The value of a limit that all clients share.",
            max,
        );
        let revoked = "Reservations revoked for other clients because a shared limit was reached.";
        scrape.total(
            "cloakroom_server_revoked_total",
            revoked,
            &labels,
            quotas.revoked(resource),
        );
        let refused = "Reservations refused because a shared limit was reached.";
        scrape.total(
            "cloakroom_server_refused_total",
            refused,
            &labels,
            quotas.refused(resource),
        );
    }
    let peers = i64::try_from(quotas.peers()).unwrap_or(i64::MAX);
    scrape.gauge(
        "cloakroom_server_clients",
        "Clients that are distinguished at present.",
        &[],
        peers,
    );
}

/// The options of a command that calls the admin interface of a running host.
#[derive(Clone, Debug)]
pub struct AdminCall {
    /// The URL of the admin interface.
    pub url: String,
    /// The file that holds the token. Without it, the environment variable is used, if it is set.
    pub token_file: Option<PathBuf>,
    /// The operation to perform.
    pub command: command::GuestsAction,
}

/// Performs the call and prints its result.
///
/// # Errors
/// Returns the errors of [`ShellError`].
pub async fn call_admin(call: AdminCall, environment: &dyn Environment) -> Result<(), ShellError> {
    let token = match &call.token_file {
        Some(file) => Some(token_in(file)?),
        None => environment
            .get(TOKEN_VARIABLE)
            .filter(|token| !token.is_empty())
            .map(SecretString::from),
    };
    command::run(command::AdminCommand {
        url: call.url,
        token,
        command: call.command,
    })
    .await
}

fn token_in(file: &Path) -> Result<SecretString, ShellError> {
    let shown = file.display();
    let at_fault = |problem: String| ShellError::AtFault(escape(&problem).into_owned());
    let read = files::read_secret(file)
        .map_err(|error| at_fault(format!("cannot read {shown}: {error}")))?;
    if read.is_readable_by_all {
        telemetry::print_stderr(&escape(&format!(
            "warning: every user of this machine may read {shown}"
        )));
    }
    let text = String::from_utf8(read.into_bytes())
        .map_err(|_| at_fault(format!("{shown} is not UTF-8")))?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(at_fault(format!("{shown} is empty")));
    }
    Ok(SecretString::from(token))
}

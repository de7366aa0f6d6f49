//! The store resource of the admin interface: the server in use, and the operator's request to use the first server again.

use http::{Response, StatusCode};
use serde::Serialize;

use super::AdminServices;
use super::report::PreferredServer;
use crate::json_api::{Body, Reply, ok, problem};
use cloakroom_session::store::metered::StoreHealth;
use cloakroom_session::store::{ServerStanding, SessionStore as _, StoreErrorKind};

/// The response to `GET /store`.
#[derive(Debug, Serialize)]
struct StoreListing {
    /// up or down.
    standing: &'static str,
    /// The servers in order of preference. Empty for a store without a list of servers.
    servers: Vec<StoreServerReport>,
}

/// A server of the list.
#[derive(Debug, Serialize)]
struct StoreServerReport {
    name: String,
    in_use: bool,
    /// Whether it supplies additional connections that the server in use does not provide.
    helps_out: bool,
    /// Whether the host left it after a failure and only returns on the operator's request.
    left: bool,
    /// The kind of the server.
    is: Option<String>,
    connections: usize,
    connections_max: usize,
    /// The reason why it is not used at present.
    failure: Option<String>,
}

pub(crate) fn show(parts: &AdminServices) -> Response<Body> {
    let standing = match parts.store.standing() {
        StoreHealth::Up => "up",
        StoreHealth::Down => "down",
    };
    let servers = parts
        .store
        .servers()
        .into_iter()
        .map(StoreServerReport::of)
        .collect();
    ok(&StoreListing { standing, servers })
}

/// Makes the first server the one in use.
///
/// Cancel safety: the first server is in use or not, and nothing else changes.
pub(crate) async fn prefer_first(parts: &AdminServices) -> Reply {
    match parts.store.prefer_first().await {
        Ok(in_use) => Ok(ok(&PreferredServer { in_use })),
        Err(error) => {
            let status = match error.kind {
                StoreErrorKind::Broken => StatusCode::CONFLICT,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            let sentence = format!("the first server is not used: {}", error.detail);
            Err(problem(status, sentence))
        }
    }
}

impl StoreServerReport {
    fn of(standing: ServerStanding) -> Self {
        Self {
            name: standing.name,
            in_use: standing.is_in_use,
            helps_out: standing.is_helping,
            left: standing.is_barred,
            is: standing.is,
            connections: standing.connections,
            connections_max: standing.connections_max,
            failure: standing.failure,
        }
    }
}

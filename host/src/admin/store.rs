//! The session store's servers over the admin interface: which one is in use, and the operator's word that the first one is used
//! again.

use http::{Response, StatusCode};
use serde::Serialize;

use super::Parts;
use super::reply::{Body, Reply, json, problem};
use super::report::Preferred;
use crate::store::metered::Standing;
use crate::store::{ServerStanding, SessionStore as _, StoreErrorKind};

/// `GET /store`.
#[derive(Debug, Serialize)]
struct Listing {
    /// up or down.
    standing: &'static str,
    /// In the order in which they are preferred; none for a store without a list of servers.
    servers: Vec<Server>,
}

/// One server of the list.
#[derive(Debug, Serialize)]
struct Server {
    name: String,
    in_use: bool,
    /// Whether it gives connections that the one in use does not give.
    helps_out: bool,
    /// Whether it was left after a failure, and only the operator's word brings it back.
    left: bool,
    /// What it is.
    is: Option<String>,
    connections: usize,
    connections_max: usize,
    /// Why it is left alone just now.
    failure: Option<String>,
}

pub(super) fn show(parts: &Parts) -> Response<Body> {
    let standing = match parts.store.standing() {
        Standing::Up => "up",
        Standing::Down => "down",
    };
    let servers = parts.store.servers().into_iter().map(Server::of).collect();
    json(StatusCode::OK, &Listing { standing, servers })
}

/// Cancel safety: the first server is in use or it is not; nothing else changes.
pub(super) async fn prefer_first(parts: &Parts) -> Reply {
    match parts.store.prefer_first().await {
        Ok(in_use) => Ok(json(StatusCode::OK, &Preferred { in_use })),
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

impl Server {
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

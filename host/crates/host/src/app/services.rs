//! Builds the services that the interfaces of guests use.

use std::sync::Arc;

use super::keys::SigningKeys;
use cloakroom_base::clock::Clock;
use cloakroom_runtime::Services;
use cloakroom_session::cookie::{CookieJar, IdComparison};
use cloakroom_session::store::SessionStore;
use cloakroom_session::{SessionManager, SessionOptions};

/// Builds the services on a store, which compares ids in the way `ids`.
pub(crate) fn services(
    options: SessionOptions,
    keys: &SigningKeys,
    store: Arc<dyn SessionStore>,
    ids: IdComparison,
    clock: &Clock,
) -> Arc<Services> {
    let jar = CookieJar::new(&options.cookie.name, keys.of_jar(ids), clock.clone());
    let session_keys = Arc::clone(&keys.session);
    let sessions = SessionManager::new(options, session_keys, store, clock.clone());
    Arc::new(Services::new(sessions, jar))
}

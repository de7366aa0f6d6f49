//! The guests that `make guests` builds, with settings like the host's.

use std::path::Path;

use cloakroom_runtime::{GuestGrants, GuestLimits, GuestSettings};
use cloakroom_session::SessionGrant;

use super::visits::DEADLINE;

/// Returns the settings of a guest with the host's default limits except the deadline. Each instance serves `reuse` requests.
pub(crate) fn settings(component: &str, reuse: u32) -> GuestSettings {
    // Not cargo's output folder: `make guests` writes components to the repository's own target folder.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    GuestSettings {
        grants: GuestGrants {
            session: SessionGrant::write().into(),
            ..GuestGrants::default()
        },
        reuse,
        limits: GuestLimits {
            deadline: DEADLINE,
            ..GuestLimits::default()
        },
        ..GuestSettings::new(component, folder.join(format!("{component}.wasm")))
    }
}

//! The guests that `make guests` builds, as the host would load them.

use std::path::Path;

use cloakroom::guest::{GuestSettings, Limits, Rollout, StreamPolicy};
use cloakroom::session::{Grant, Start};

use super::visits::DEADLINE;

/// A guest with the host's own limits, but for the deadline. One instance of it serves `reuse` requests.
pub(crate) fn settings(component: &str, reuse: u32) -> GuestSettings {
    // Not where cargo's output goes: `make guests` leaves components in the repository's own target folder.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    GuestSettings {
        name: component.to_owned(),
        component: folder.join(format!("{component}.wasm")),
        grant: Grant::write(),
        start: Start::Optimistic,
        stream: StreamPolicy::Buffered,
        reuse,
        outbound_hosts: Vec::new(),
        environment: Vec::new(),
        limits: Limits {
            deadline: DEADLINE,
            ..Limits::default()
        },
        rollout: Rollout::default(),
    }
}

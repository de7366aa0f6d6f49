//! The history of a deployment's versions, and the state needed for its next change. Requests never use it.

use std::collections::VecDeque;

use super::record::{VersionOrigin, VersionState};
use super::watch::HealthWatch;
use crate::guest::Guest;
use crate::guest::digest::ComponentDigest;
use crate::guest::loader::ComponentInfo;
use crate::guest::settings::GuestSettings;

/// Number of remembered versions. Older ones stay listed only while they are in use or kept for a rollback.
const REMEMBERED: usize = 20;

/// The version history, guarded by the deployment's lock.
pub(super) struct VersionHistory {
    pub(super) settings: GuestSettings,
    pub(super) last_number: u64,
    pub(super) records: VecDeque<VersionRecord>,
    /// The digest of the component's file from when a version was last loaded from it.
    pub(super) file: Option<ComponentDigest>,
    /// Why the last proposal was refused, if it was.
    pub(super) refusal: Option<String>,
    /// The version before the live one, compiled and ready.
    pub(super) previous: Option<Guest>,
    pub(super) live_watch: Option<HealthWatch>,
    pub(super) canary_watch: Option<HealthWatch>,
}

/// One remembered version.
pub(super) struct VersionRecord {
    pub(super) number: u64,
    pub(super) state: VersionState,
    pub(super) origin: VersionOrigin,
    pub(super) since_ms: i64,
    pub(super) component: Option<ComponentInfo>,
}

impl VersionHistory {
    pub(super) fn record(&mut self, number: u64) -> Option<&mut VersionRecord> {
        self.records
            .iter_mut()
            .find(|record| record.number == number)
    }

    pub(super) fn set_state(&mut self, number: u64, state: VersionState) {
        if let Some(record) = self.record(number) {
            record.state = state;
        }
    }

    pub(super) fn forget_old(&mut self) {
        let kept = self.previous.as_ref().map(Guest::version);
        while self.records.len() > REMEMBERED {
            let is_over = |record: &VersionRecord| {
                matches!(
                    record.state,
                    VersionState::Retired | VersionState::Failed { .. }
                ) && Some(record.number) != kept
            };
            match self.records.iter().position(is_over) {
                Some(oldest) => drop(self.records.remove(oldest)),
                None => return,
            }
        }
    }
}

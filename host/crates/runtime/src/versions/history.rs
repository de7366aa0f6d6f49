//! The history of a deployment's versions, and the state needed for its next change. Requests never use it.

use std::collections::VecDeque;

use super::health_watch::HealthWatch;
use super::record::{VersionOrigin, VersionState};
use crate::Guest;
use crate::load::digest::ComponentDigest;
use crate::load::loader::ComponentInfo;
use crate::run::guest_settings::GuestSettings;

/// Number of remembered versions. Older ones stay listed only while they are in use or kept for a rollback.
const RECORDS_MAX: usize = 20;

/// The version history, guarded by the deployment's lock.
pub(crate) struct VersionHistory {
    pub(crate) settings: GuestSettings,
    pub(crate) last_number: u64,
    pub(crate) records: VecDeque<VersionRecord>,
    /// The digest of the component's file from when a version was last loaded from it.
    pub(crate) file: Option<ComponentDigest>,
    /// Why the last proposal was refused, if it was.
    pub(crate) refusal: Option<String>,
    /// The version before the live one, compiled and ready.
    pub(crate) previous: Option<Guest>,
    pub(crate) live_watch: Option<HealthWatch>,
    pub(crate) canary_watch: Option<HealthWatch>,
}

/// One remembered version.
pub(crate) struct VersionRecord {
    pub(crate) number: u64,
    pub(crate) state: VersionState,
    pub(crate) origin: VersionOrigin,
    pub(crate) since_ms: i64,
    pub(crate) component: Option<ComponentInfo>,
}

impl VersionHistory {
    pub(crate) fn record(&mut self, number: u64) -> Option<&mut VersionRecord> {
        self.records
            .iter_mut()
            .find(|record| record.number == number)
    }

    pub(crate) fn set_state(&mut self, number: u64, state: VersionState) {
        if let Some(record) = self.record(number) {
            record.state = state;
        }
    }

    pub(crate) fn forget_old(&mut self) {
        let kept = self.previous.as_ref().map(Guest::version);
        while self.records.len() > RECORDS_MAX {
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

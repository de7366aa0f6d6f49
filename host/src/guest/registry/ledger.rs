//! What a deployment remembers of its versions, and what it keeps for the next change. Requests never come here.

use std::collections::VecDeque;

use super::record::{Origin, State};
use super::watch::Watch;
use crate::guest::Guest;
use crate::guest::digest::Digest;
use crate::guest::loader::ComponentInfo;
use crate::guest::settings::GuestSettings;

/// How many versions are remembered; of the older ones those that serve, and the one that is kept, stay listed.
const REMEMBERED: usize = 20;

/// See the module; behind a deployment's lock.
pub(super) struct Ledger {
    pub(super) settings: GuestSettings,
    pub(super) last_number: u64,
    pub(super) records: VecDeque<Record>,
    /// What the component's file held when a version was last taken from it.
    pub(super) file: Option<Digest>,
    /// Why the last proposal was refused, if it was.
    pub(super) refusal: Option<String>,
    /// The version before the live one, compiled and ready.
    pub(super) previous: Option<Guest>,
    pub(super) live_watch: Option<Watch>,
    pub(super) canary_watch: Option<Watch>,
}

/// One version, as it is remembered.
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) state: State,
    pub(super) origin: Origin,
    pub(super) since_ms: i64,
    pub(super) component: Option<ComponentInfo>,
}

impl Ledger {
    pub(super) fn record(&mut self, number: u64) -> Option<&mut Record> {
        self.records
            .iter_mut()
            .find(|record| record.number == number)
    }

    pub(super) fn set_state(&mut self, number: u64, state: State) {
        if let Some(record) = self.record(number) {
            record.state = state;
        }
    }

    pub(super) fn forget_old(&mut self) {
        let kept = self.previous.as_ref().map(Guest::version);
        while self.records.len() > REMEMBERED {
            let is_over = |record: &Record| {
                matches!(record.state, State::Retired | State::Failed { .. })
                    && Some(record.number) != kept
            };
            match self.records.iter().position(is_over) {
                Some(oldest) => drop(self.records.remove(oldest)),
                None => return,
            }
        }
    }
}

//! `[store]`: the session store. The keys of each kind of store are in `stores`.

use std::sync::Arc;
use std::time::Duration;

use crate::config_reader::Section;
use crate::config_reader::kinds::{boolean, duration};
use crate::stores;
use crate::stores::ConfiguredStore;
use cloakroom_base::limits;

/// The `[store]` section.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The store itself.
    pub(crate) backend: Arc<dyn ConfiguredStore>,
    /// Whether expired rows are deleted.
    pub clear_expired: bool,
    /// Time between two deletions of expired rows.
    pub check_expiration_interval: Duration,
    /// How long a session without a cookie expiry lives after its last use.
    pub expiration: Duration,
    /// Whether reading a session leaves its expiry unchanged.
    pub disable_touch: bool,
}

// A derived `PartialEq` would move the store out of its `Arc`.
impl PartialEq for StoreSettings {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            backend,
            clear_expired,
            check_expiration_interval,
            expiration,
            disable_touch,
        } = self;
        **backend == *other.backend
            && *clear_expired == other.clear_expired
            && *check_expiration_interval == other.check_expiration_interval
            && *expiration == other.expiration
            && *disable_touch == other.disable_touch
    }
}

/// Reads `[store]`. The store is `None` if it is unknown because of a fault.
pub(crate) fn read(mut section: Section<'_>) -> (StoreSettings, Option<Arc<dyn ConfiguredStore>>) {
    let clear_expired = section.get("clear_expired", boolean).unwrap_or(true);
    let interval = section.get("check_expiration_interval", duration);
    let expiration = section.get("expiration", duration);
    let disable_touch = section.get("disable_touch", boolean).unwrap_or(false);
    let store = stores::read(&mut section);
    let settings = StoreSettings {
        backend: store.clone().unwrap_or_else(stores::in_memory),
        clear_expired,
        check_expiration_interval: interval.unwrap_or(limits::CHECK_EXPIRATION_INTERVAL),
        expiration: expiration.unwrap_or(limits::SESSION_EXPIRATION),
        disable_touch,
    };
    (settings, store)
}

//! The effect of a commit on the visitor's cookie, and the touch of a row that is not written.

use super::{RunStop, SessionRun};
use crate::CookieChange;
use crate::policy;
use crate::policy::{CookieFacts, CookieFate, Expiry, RowWrite, SegmentFacts, TouchRequested};
use crate::record::CookieAttributes;
use crate::store::Touch;
use crate::transact::SessionManager;

impl SessionRun {
    /// Decides the cookie change. `attributes` are the session's current ones; `row_attributes` are those that the
    /// visitor's cookie was set with.
    pub(crate) fn change_cookie(
        &mut self,
        facts: &SegmentFacts,
        write: RowWrite,
        attributes: CookieAttributes,
        row_attributes: CookieAttributes,
    ) -> Result<(), RunStop> {
        let about = CookieFacts {
            has_max_age: attributes.original_max_age_ms.is_some(),
            was_modified: self.was_modified || facts.is_modified,
            is_set_pending: matches!(self.cookie, CookieChange::Set { .. }),
        };
        match policy::cookie(&self.manager.options, facts, write, self.presented, about) {
            CookieFate::AsBefore => {}
            CookieFate::Keep => self.cookie = CookieChange::Keep,
            CookieFate::Expire => {
                self.cookie = CookieChange::Expire {
                    attributes: row_attributes,
                };
            }
            CookieFate::Set => {
                let Some(id) = self.transaction()?.id().cloned() else {
                    return Ok(());
                };
                let value = self.manager.keys.load().sign(&id);
                self.cookie = CookieChange::Set { value, attributes };
            }
        }
        Ok(())
    }

    /// Moves the row's expiry if that is due. The response does not wait for it.
    pub(crate) fn touch(
        &mut self,
        attributes: &CookieAttributes,
        now_ms: i64,
    ) -> Result<Expiry, RunStop> {
        let manager = std::sync::Arc::clone(&self.manager);
        let transaction = self.transaction()?;
        let max_age_ms = attributes.original_max_age_ms;
        let asked = if transaction.is_touched() {
            TouchRequested::ByGuest
        } else {
            TouchRequested::No
        };
        let row = transaction.base();
        let created_at_s = row.and_then(|base| base.record.created_at_s);
        let absolute_from_s = created_at_s.unwrap_or(manager.clock.now_s());
        let expiry = policy::expiry(&manager.options, max_age_ms, Some(absolute_from_s), now_ms);
        let Some(row) = row else {
            return Ok(expiry);
        };
        let (from_s, to_s) = (row.record.expires_at_s, expiry.row_at_s);
        if policy::touches(&manager.options, max_age_ms, from_s, to_s, asked) {
            let touch = Touch {
                id: row.id.clone(),
                expires_at_s: to_s,
            };
            let SessionManager {
                touches,
                store,
                clock,
                tasks,
                counters,
                ..
            } = &*manager;
            if touches.send(touch, store, clock, tasks) {
                counters.touches.add_one();
            }
        }
        Ok(expiry)
    }
}

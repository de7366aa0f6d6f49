//! The effect of a commit on the visitor's cookies, and the touch of a row that is not written.

use super::{RunStop, SessionRun};
use crate::cookie::{DuplicateCookies, RequestTarget, duplicate_places};
use crate::outcome::CookieChange;
use crate::policy;
use crate::policy::{
    CookieFacts, CookieFate, Expiry, RowState, RowWrite, SegmentFacts, TouchRequested,
};
use crate::record::CookieAttributes;
use crate::rivals::RowClaim;
use crate::start::LoadPhase;
use crate::store::Touch;
use cloakroom_base::limits::SESSION_SET_COOKIES_MAX;

impl SessionRun {
    /// Returns the change that the run makes to the visitor's cookies. Call it once.
    pub(crate) fn take_cookie(&mut self) -> CookieChange {
        let own = std::mem::replace(&mut self.cookie, CookieChange::Keep);
        self.with_duplicates(own)
    }

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
        match policy::cookie(&self.shared.options, facts, write, self.presented, about) {
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
                let value = self.shared.sign(&id);
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
        let shared = std::sync::Arc::clone(&self.shared);
        let transaction = self.transaction()?;
        let max_age_ms = attributes.original_max_age_ms;
        let asked = if transaction.is_touched() {
            TouchRequested::ByGuest
        } else {
            TouchRequested::No
        };
        let row = transaction.base();
        let created_at_s = row.and_then(|base| base.record.created_at_s);
        let absolute_from_s = created_at_s.unwrap_or(shared.clock.now_s());
        let expiry = policy::expiry(&shared.options, max_age_ms, Some(absolute_from_s), now_ms);
        let Some(row) = row else {
            return Ok(expiry);
        };
        let (from_s, to_s) = (row.record.expires_at_s, expiry.row_at_s);
        if policy::touches(&shared.options, max_age_ms, from_s, to_s, asked) {
            shared.touch(Touch {
                id: row.id.clone(),
                expires_at_s: to_s,
            });
        }
        Ok(expiry)
    }

    /// Adds the expiry of the duplicate cookies of a visit with several sessions, once it is known which session is the visit's own.
    fn with_duplicates(&self, own: CookieChange) -> CookieChange {
        let (RowClaim::Several(rivals), LoadPhase::Open(transaction)) = (&self.claim, &self.phase)
        else {
            return own;
        };
        // If the session vanished during the visit, the browser may have another cookie by now. If the store failed to
        // delete a session, its cookie may be needed to name it again.
        if transaction.row_state() == RowState::Detached || self.has_store_failed {
            return own;
        }
        let mut kept = Vec::new();
        if transaction.base().is_some() {
            kept.push(transaction.row_attributes());
        }
        if let CookieChange::Set { attributes, .. } | CookieChange::Expire { attributes } = &own {
            kept.push(attributes);
        }
        let shared = &self.shared;
        let options = &shared.options.cookie;
        let DuplicateCookies {
            places: duplicates,
            hits_kept,
        } = duplicate_places(
            &options.name,
            RequestTarget {
                host: &rivals.host,
                path: &rivals.path,
            },
            &shared.new_cookie(self.link),
            &kept,
            SESSION_SET_COOKIES_MAX - usize::from(!kept.is_empty()),
        );
        if duplicates.is_empty() {
            return own;
        }
        let own = match (own, transaction.id()) {
            // The `Set-Cookie` field of the session's own cookie follows the fields of the duplicates, so a client that
            // dropped the cookie stores it again.
            (CookieChange::Keep, Some(id)) if hits_kept => CookieChange::Set {
                value: shared.sign(id),
                attributes: transaction.row_attributes().clone(),
            },
            (own, _) => own,
        };
        CookieChange::WithDuplicates {
            own: Box::new(own),
            duplicates,
        }
    }
}

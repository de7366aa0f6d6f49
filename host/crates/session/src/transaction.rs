//! The session of one run: the row that was read, the guest's reads and changes, and the commit that results. A state
//! machine without I/O.
//!
//! The guest's changes are a log over the row that was read (the base). If another commit replaces the row,
//! [`Transaction::rebase`] applies the log to the newer row, unless the guest has seen data that differs there.
//!
//! A `save` closes a segment: it has validated the reads before it, and the reads after it start afresh on the committed row. A
//! request with `save` is serializable segment by segment.

mod base_row;
mod log;
mod plan;
mod reads;
mod working_copy;

use std::sync::Arc;

use crate::error::SessionError;
use crate::grant::SessionGrant;
use crate::policy::{CommitRequest, LinkSecurity, RowState, SegmentFacts, SessionEnding};
use crate::record::{
    CookieAttributes, Document, SessionId, StoredCookieObject, as_integer, is_reserved_key,
};
pub(crate) use base_row::BaseRow;
use log::ChangeLog;
pub(crate) use log::ChangeOp;
pub(crate) use plan::{CommitDecision, PlannedCommit};
use reads::ReadSet;
pub(crate) use working_copy::SessionLimits;
use working_copy::{FreshCookie, WorkingCopy};

/// The row was replaced, and data that the run has seen differs in the new row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadsChanged;

/// The state of one run's session.
pub(crate) struct Transaction {
    row_state: RowState,
    base: Option<Arc<BaseRow>>,
    fresh_cookie: FreshCookie,
    limits: SessionLimits,
    working: WorkingCopy,
    log: ChangeLog,
    reads: ReadSet,
}

impl Transaction {
    /// Starts on a row.
    pub(crate) fn loaded(
        base: Arc<BaseRow>,
        fresh_cookie: &CookieAttributes,
        limits: SessionLimits,
    ) -> Self {
        let document = base.document.clone();
        Self::start(RowState::Loaded, Some(base), document, fresh_cookie, limits)
    }

    /// Starts without a row: a new session, or a detached one that is never stored.
    pub(crate) fn without_row(
        row_state: RowState,
        fresh_cookie: &CookieAttributes,
        limits: SessionLimits,
    ) -> Self {
        let document = Document::new(StoredCookieObject::new(fresh_cookie)).held_in(limits.charset);
        Self::start(row_state, None, document, fresh_cookie, limits)
    }

    fn start(
        row_state: RowState,
        base: Option<Arc<BaseRow>>,
        document: Document,
        fresh_cookie: &CookieAttributes,
        limits: SessionLimits,
    ) -> Self {
        Self {
            row_state,
            base,
            fresh_cookie: FreshCookie::new(fresh_cookie, limits.charset),
            limits,
            working: WorkingCopy::new(document),
            log: ChangeLog::default(),
            reads: ReadSet::default(),
        }
    }

    /// Applies the guest's own limits as well. The host-wide limits remain in force, and applying a grant twice is the same as once.
    pub(crate) fn apply_limits(&mut self, grant: &SessionGrant) {
        self.limits = self.limits.within(grant);
    }

    /// Returns the row that the run is based on.
    pub(crate) fn base(&self) -> Option<&Arc<BaseRow>> {
        self.base.as_ref()
    }

    pub(crate) fn row_state(&self) -> RowState {
        self.row_state
    }

    pub(crate) fn ending(&self) -> SessionEnding {
        self.working.ending
    }

    pub(crate) fn is_touched(&self) -> bool {
        self.working.is_touched
    }

    /// Returns the id that the visitor's next request should present.
    pub(crate) fn id(&self) -> Option<&SessionId> {
        let base = self.base.as_ref()?;
        Some(self.working.new_id.as_ref().unwrap_or(&base.id))
    }

    /// Returns the cookie's current attributes. Does not count as a read by the guest.
    pub(crate) fn attributes(&self) -> &CookieAttributes {
        self.working.document.cookie().attributes()
    }

    /// Returns the attributes that the visitor's cookie was set with.
    pub(crate) fn row_attributes(&self) -> &CookieAttributes {
        let base = self.base.as_ref().map(|base| base.document.cookie());
        base.unwrap_or_else(|| self.fresh_cookie.get()).attributes()
    }

    pub(crate) fn get(&mut self, key: &str) -> Option<&str> {
        if self.working.ending != SessionEnding::Alive || is_reserved_key(key) {
            return None;
        }
        self.note_read_of(key);
        self.working.document.get(key)
    }

    pub(crate) fn keys(&mut self) -> Vec<String> {
        if self.working.ending != SessionEnding::Alive {
            return Vec::new();
        }
        if self.base.is_some() && !self.log.decides_all() {
            self.reads.note_all();
        }
        self.working.document.keys()
    }

    pub(crate) fn cookie(&mut self) -> &CookieAttributes {
        if self.base.is_some() && !self.working.is_regenerated {
            self.reads.note_cookie();
        }
        self.attributes()
    }

    /// Returns the id to compute a fingerprint from.
    pub(crate) fn named_id(&mut self) -> Option<&SessionId> {
        if self.working.ending != SessionEnding::Alive {
            return None;
        }
        if self.base.is_some() {
            self.reads.note_id();
        }
        self.id()
    }

    /// Applies one change.
    ///
    /// # Errors
    /// The reason why the change is refused. Nothing has changed then, and the refusal counts as a read.
    pub(crate) fn change(&mut self, op: ChangeOp) -> Result<(), SessionError> {
        match op.apply(&mut self.working, self.limits, &self.fresh_cookie) {
            Ok(()) => {
                self.log.push(op);
                Ok(())
            }
            Err(error) => {
                self.note_refusal(&op);
                Err(error)
            }
        }
    }

    /// Adds to an integer and returns the sum.
    ///
    /// # Errors
    /// As [`Transaction::change`].
    pub(crate) fn increment(&mut self, key: String, delta: i64) -> Result<i64, SessionError> {
        self.change(ChangeOp::Add {
            key: key.clone(),
            delta,
        })?;
        self.note_read_of(&key);
        let sum = self.working.document.get(&key).and_then(as_integer);
        Ok(sum.expect("a sum was just written there"))
    }

    /// Returns whether the guest has learned anything about the row.
    pub(crate) fn has_seen(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Notes a read of the base, unless the log determines the key's value.
    fn note_read_of(&mut self, key: &str) {
        if self.base.is_some() && !self.log.decides(key) {
            self.reads.note(key);
        }
    }

    fn note_refusal(&mut self, op: &ChangeOp) {
        if self.base.is_none() || self.working.ending != SessionEnding::Alive {
            return;
        }
        match op {
            ChangeOp::Set { key, .. } | ChangeOp::Add { key, .. }
                if !self.limits.allow_key(key) => {}
            ChangeOp::Add { key, .. } if self.working.document.get(key).is_some() => {
                self.note_read_of(key);
            }
            // Whether a change fits depends on all entries.
            ChangeOp::Set { .. } | ChangeOp::Add { .. } | ChangeOp::SetMaxAge { .. } => {
                self.reads.note_all()
            }
            _ => {}
        }
    }

    /// Notes that the store's row matches the base; only its expiry may differ.
    pub(crate) fn confirm(&mut self, row: Arc<BaseRow>) {
        self.base = Some(row);
    }

    /// Moves to a newer row of the same session by applying the log to it.
    ///
    /// # Errors
    /// Fails when data that the guest has seen differs there. Nothing has changed then.
    pub(crate) fn rebase(&mut self, newer: Arc<BaseRow>) -> Result<(), ReadsChanged> {
        let base = self.base.as_ref().ok_or(ReadsChanged)?;
        if self.log.is_overflown() || !self.reads.hold(&base.document, &newer.document) {
            return Err(ReadsChanged);
        }
        let mut working = WorkingCopy::new(newer.document.clone());
        for op in self.log.ops() {
            op.apply(&mut working, self.limits, &self.fresh_cookie)
                .map_err(|_| ReadsChanged)?;
        }
        self.working = working;
        self.base = Some(newer);
        Ok(())
    }

    /// Discards the changes and continues on a newer row, or without a row if there is none.
    ///
    /// # Errors
    /// As [`Transaction::rebase`]. Reads made so far still count.
    pub(crate) fn reload(&mut self, newer: Option<Arc<BaseRow>>) -> Result<(), ReadsChanged> {
        let document = match (&self.base, newer) {
            (Some(base), Some(newer)) => {
                self.reads.note_log(&self.log);
                if !self.reads.hold(&base.document, &newer.document) {
                    return Err(ReadsChanged);
                }
                let document = newer.document.clone();
                self.base = Some(newer);
                document
            }
            _ => self.fresh_cookie.document(),
        };
        self.working = WorkingCopy::new(document);
        self.log = ChangeLog::default();
        Ok(())
    }

    /// Returns whether the guest ended several sessions and continued with a new one.
    pub(crate) fn continues_after_several(&self) -> bool {
        let working = &self.working;
        let has_continued = working.was_destroyed && working.ending == SessionEnding::Alive;
        self.row_state == RowState::Several && has_continued
    }

    /// Notes that the several sessions are deleted. Further writes of the guest belong to a new session.
    pub(crate) fn become_new(&mut self) {
        self.row_state = RowState::New;
    }

    /// Returns the facts that [`policy::write`] needs.
    fn facts(&self, request: CommitRequest) -> SegmentFacts {
        let working = &self.working;
        let is_modified = match &self.base {
            Some(base) => !working.document.has_same_entries(&base.document),
            None => working.document.key_count() > 0,
        };
        SegmentFacts {
            row_state: self.row_state,
            ending: working.ending,
            was_destroyed: working.was_destroyed,
            trigger: request.trigger,
            moves: working.new_id.is_some(),
            is_regenerated: working.is_regenerated,
            is_modified,
            is_cookie_changed: working.is_cookie_changed,
            has_changes: self.log.has_changes(),
            is_saved: request.is_saved,
            is_deliverable: request.link == LinkSecurity::Secure || !self.attributes().secure,
        }
    }
}

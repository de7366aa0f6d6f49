//! The session of one run: the row that was read, the guest's reads and changes, and the commit that results. A state
//! machine without I/O.
//!
//! The guest's changes are a log over the row that was read (the base). If another commit replaces the row,
//! [`Transaction::rebase`] applies the log to the newer row, unless the guest has seen data that differs there.
//!
//! A `save` closes a segment: it has validated the reads before it, and the reads after it start afresh on the committed row. A
//! request with `save` is serializable segment by segment.

mod log;
mod plan;
mod reads;

use std::sync::{Arc, OnceLock};

use crate::record::{
    Charset, CookieAttributes, CorruptDocument, Document, SessionId, SessionRecord,
    StoredCookieObject, as_integer, is_reserved_key,
};

use crate::error::SessionError;
use crate::grant::SessionGrant;
use crate::options::SessionOptions;
use crate::policy::{CommitRequest, LinkSecurity, RowState, SegmentFacts, SessionEnding};
use log::ChangeLog;
pub(crate) use log::ChangeOp;
pub(crate) use plan::{CommitDecision, PlannedCommit};
use reads::ReadSet;

/// A row as it was read, with its parsed content.
pub(crate) struct BaseRow {
    pub(crate) id: SessionId,
    pub(crate) record: SessionRecord,
    document: Document,
}

impl BaseRow {
    /// Parses a row.
    ///
    /// # Errors
    /// Fails when the row's data is not a session.
    pub(crate) fn new(
        id: SessionId,
        record: SessionRecord,
        charset: Charset,
    ) -> Result<Self, CorruptDocument> {
        let document = Document::parse(&record.data)?.held_in(charset);
        Ok(Self {
            id,
            record,
            document,
        })
    }

    /// Returns whether this is the same row, unchanged except for its expiry.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.record.tokens == other.record.tokens && self.record.data == other.record.data
    }

    /// Returns whether this row was written after `other`, as far as the tokens show.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        let (own, others) = (&self.record.tokens, &other.record.tokens);
        let before = others.newest();
        own != others && before.is_some_and(|token| own.contains(token))
    }

    /// Returns the approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        const ROW: usize = 512;
        const KEY: usize = 192;
        // The text that was read may stay alive underneath the text that was written.
        ROW + 2 * self.record.data.len() + KEY * self.document.key_count()
    }
}

/// The row was replaced, and data that the run has seen differs in the new row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadsChanged;

/// The limits on a session's size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    bytes_max: usize,
    keys_max: usize,
    key_bytes_max: usize,
    /// The characters that the store can hold.
    charset: Charset,
}

impl SessionLimits {
    pub(crate) fn of(options: &SessionOptions) -> Self {
        Self {
            bytes_max: options.session_bytes_max,
            keys_max: options.keys_max,
            key_bytes_max: options.key_bytes_max,
            charset: options.charset,
        }
    }

    /// Returns the smaller of these limits and those of the guest's grant.
    fn within(self, grant: &SessionGrant) -> Self {
        let least = |all: usize, own: Option<usize>| own.map_or(all, |own| own.min(all));
        Self {
            bytes_max: least(self.bytes_max, grant.session_bytes_max),
            keys_max: least(self.keys_max, grant.keys_max),
            ..self
        }
    }

    /// Returns whether guests may write a key of this name at all.
    fn allow_key(&self, key: &str) -> bool {
        (1..=self.key_bytes_max).contains(&key.len()) && !is_reserved_key(key)
    }
}

/// The session as the guest sees it: the base with the log applied.
#[derive(Clone)]
pub(crate) struct WorkingCopy {
    document: Document,
    ending: SessionEnding,
    /// Whether the guest called `destroy`, even if it continued with a new session.
    was_destroyed: bool,
    /// The id that the session moves to, because of `renew` or `regenerate`.
    new_id: Option<SessionId>,
    is_regenerated: bool,
    is_cookie_changed: bool,
    is_touched: bool,
}

impl WorkingCopy {
    fn new(document: Document) -> Self {
        Self {
            document,
            ending: SessionEnding::Alive,
            was_destroyed: false,
            new_id: None,
            is_regenerated: false,
            is_cookie_changed: false,
            is_touched: false,
        }
    }
}

/// The cookie of a session that this visit may create. Most visits create none, so its text is generated on demand.
pub(crate) struct FreshCookie {
    attributes: CookieAttributes,
    charset: Charset,
    stored: OnceLock<StoredCookieObject>,
}

impl FreshCookie {
    fn new(attributes: &CookieAttributes, charset: Charset) -> Self {
        Self {
            attributes: attributes.clone(),
            charset,
            stored: OnceLock::new(),
        }
    }

    fn get(&self) -> &StoredCookieObject {
        self.stored
            .get_or_init(|| StoredCookieObject::new(&self.attributes))
    }

    /// Returns a session with only this cookie.
    fn document(&self) -> Document {
        Document::new(self.get().clone()).held_in(self.charset)
    }
}

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

//! The commit of a run: the change to the row, and the session's state once the commit is durable.

use std::sync::Arc;

use crate::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use crate::store::{Commit, RowChange, RowVersion};
use cloakroom_base::clock::round_to_seconds;

use super::Transaction;
use super::base_row::BaseRow;
use super::log::ChangeLog;
use super::reads::ReadSet;
use super::working_copy::WorkingCopy;
use crate::options::SessionOptions;
use crate::policy::{self, CommitRequest, RowState, RowWrite, SegmentFacts, SessionEnding};

/// The decisions about one commit.
pub(crate) struct CommitDecision {
    pub(crate) facts: SegmentFacts,
    pub(crate) write: RowWrite,
    /// `None` if nothing is to be written.
    pub(crate) planned: Option<PlannedCommit>,
    /// The time of the decisions.
    pub(crate) now_ms: i64,
}

/// A commit, and the session's state once it is durable.
pub(crate) struct PlannedCommit {
    pub(crate) commit: Commit,
    /// The token by which the commit can be recognised, if it writes a row.
    pub(crate) token: Option<CommitToken>,
    after: Option<Arc<BaseRow>>,
}

impl PlannedCommit {
    /// Returns whether the commit inserts the row.
    pub(crate) fn is_creation(&self) -> bool {
        matches!(&self.commit.change, RowChange::Create(_))
    }

    /// Returns whether the commit needs no base, because it is a blind deletion.
    pub(crate) fn is_blind(&self) -> bool {
        matches!(self.commit.change, RowChange::Delete { base: None })
    }

    /// Returns the row that the commit leaves, if any.
    pub(crate) fn after(&self) -> Option<&Arc<BaseRow>> {
        self.after.as_ref()
    }

    /// Returns whether the commit replaces the row under the same id. Changes of other requests to the same row can be folded into it.
    pub(crate) fn is_replacement(&self) -> bool {
        matches!(&self.commit.change, RowChange::Update { new_id: None, .. })
    }

    /// Replaces the row to be written by a later state, which contains this commit's changes and those folded on top of them.
    pub(crate) fn replace_row(&mut self, last: &BaseRow) {
        if let RowChange::Update { record, .. } = &mut self.commit.change {
            *record = last.record.clone();
        }
    }

    /// Marks this plan as folded into another commit: its row has that commit's tokens.
    pub(crate) fn set_tokens(&mut self, tokens: &TokenHistory) {
        if let Some(after) = self.after.as_mut().and_then(Arc::get_mut) {
            after.record.tokens = tokens.clone();
        }
    }

    /// Returns the id that the row moves to.
    pub(crate) fn new_id(&self) -> Option<&SessionId> {
        match &self.commit.change {
            RowChange::Update { new_id, .. } => new_id.as_ref(),
            _ => None,
        }
    }
}

impl Transaction {
    /// Decides what to write, and plans the commit that writes it.
    pub(crate) fn decide(
        &self,
        request: CommitRequest,
        options: &SessionOptions,
        now_ms: i64,
    ) -> CommitDecision {
        let facts = self.facts(request);
        let write = policy::write(options, &facts);
        CommitDecision {
            facts,
            write,
            planned: self.plan(write, options, now_ms),
            now_ms,
        }
    }

    /// Plans the commit that performs `write`. Returns `None` if nothing is to be written.
    fn plan(
        &self,
        write: RowWrite,
        options: &SessionOptions,
        now_ms: i64,
    ) -> Option<PlannedCommit> {
        let base = self.base.as_deref();
        let (id, change, token, after) = match (write, base) {
            (RowWrite::Create, _) => {
                let (after, token) = self.written(SessionId::generate(), options, now_ms);
                let change = RowChange::Create(after.record.clone());
                (after.id.clone(), change, Some(token), Some(after))
            }
            (RowWrite::Replace | RowWrite::Move, Some(base)) => {
                let new_id = self.working.new_id.clone();
                let id = new_id.as_ref().unwrap_or(&base.id).clone();
                let (after, token) = self.written(id, options, now_ms);
                let change = RowChange::Update {
                    base: RowVersion::of(&base.record),
                    record: after.record.clone(),
                    new_id,
                };
                (base.id.clone(), change, Some(token), Some(after))
            }
            (RowWrite::Delete, Some(base)) => {
                let is_blind = self.reads.is_empty() && !self.log.depends_on_base();
                let is_destroyed = self.working.ending == SessionEnding::Destroyed;
                let version = RowVersion::of(&base.record);
                let base_version = (!(is_blind && is_destroyed)).then_some(version);
                let change = RowChange::Delete { base: base_version };
                (base.id.clone(), change, None, None)
            }
            _ => return None,
        };
        Some(PlannedCommit {
            commit: Commit { id, change },
            token,
            after,
        })
    }

    /// Returns the row to be written, with the cookie's expiry renewed.
    fn written(
        &self,
        id: SessionId,
        options: &SessionOptions,
        now_ms: i64,
    ) -> (Arc<BaseRow>, CommitToken) {
        let base = self.base.as_ref().map(|base| &base.record);
        let created_at_s = base.and_then(|row| row.created_at_s);
        let created_at_s = created_at_s.unwrap_or(round_to_seconds(now_ms));
        let max_age_ms = self.attributes().original_max_age_ms;
        let expiry = policy::expiry(options, max_age_ms, Some(created_at_s), now_ms);
        let mut document = self.working.document.clone();
        let mut cookie = document.cookie().clone();
        cookie.set_expiry(max_age_ms, expiry.cookie_at_ms);
        document.set_cookie(cookie);
        let token = CommitToken::generate();
        let tokens = base.map_or(TokenHistory::default(), |row| row.tokens.clone());
        let record = SessionRecord {
            data: document.to_bytes(),
            expires_at_s: expiry.row_at_s,
            tokens: tokens.push(token),
            created_at_s: Some(created_at_s),
        };
        let after = Arc::new(BaseRow {
            id,
            record,
            document,
        });
        (after, token)
    }

    /// Starts a new segment on the row that was written, once the commit is durable.
    pub(crate) fn start_segment(&mut self, planned: PlannedCommit) {
        let ending = self.working.ending;
        self.log = ChangeLog::default();
        self.reads = ReadSet::default();
        match planned.after {
            Some(base) => {
                self.row_state = RowState::Loaded;
                self.working = WorkingCopy::new(base.document.clone());
                self.base = Some(base);
            }
            None => {
                self.row_state = RowState::New;
                self.base = None;
                self.working = WorkingCopy::new(self.fresh_cookie.document());
            }
        }
        self.working.ending = ending;
    }
}

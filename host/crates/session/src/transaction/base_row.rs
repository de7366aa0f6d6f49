//! A row as it was read.

use crate::record::{Charset, CorruptDocument, Document, SessionId, SessionRecord};

/// A row as it was read, with its parsed content.
pub(crate) struct BaseRow {
    pub(crate) id: SessionId,
    pub(crate) record: SessionRecord,
    pub(crate) document: Document,
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

//! Decides which rows to write so that the target's sessions equal the source's: row by row, without I/O.
//!
//! A row is copied with its history of tokens, so that a host recognizes a commit that was under way during the move. If the old
//! and the new row have the same token (Express wrote the row), the old one is deleted first.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::create;
use crate::record::{Charset, SessionId, SessionRecord};
use crate::store::scan::OwnColumns;
use crate::store::{Commit, RowChange, RowVersion, Touch};

/// The last second that a MySQL table can hold. A later expiry is clamped.
const EXPIRES_MAX_S: i64 = u32::MAX as i64;

/// The changes that one page of sessions needs.
#[derive(Debug, Default)]
pub(crate) struct PagePlan {
    /// Sessions that are equal at both ends.
    pub(crate) equal: usize,
    /// Sessions that a host has used in the target since they were copied.
    pub(crate) newer: usize,
    /// Sessions in the target that ended in the source after they were listed.
    pub(crate) ended: usize,
    /// Sessions to insert.
    pub(crate) creates: Vec<Commit>,
    /// Sessions to replace by compare-and-swap.
    pub(crate) updates: Vec<Commit>,
    /// Sessions to insert after their row was deleted, because the target could not distinguish the old row from the
    /// new one by its token.
    pub(crate) rewrites: Vec<Commit>,
    /// Sessions whose expiry is moved.
    pub(crate) touches: Vec<Touch>,
}

impl PagePlan {
    /// Adds one session.
    pub(crate) fn add(
        &mut self,
        id: &SessionId,
        source: Option<SessionRecord>,
        target: Option<&SessionRecord>,
        columns: OwnColumns,
    ) {
        match (source, target) {
            (None, None) => {}
            (None, Some(_)) => self.ended += 1,
            (Some(source), None) => self.creates.push(create(id, source)),
            (Some(source), Some(target)) => self.replace(id, source, target, columns),
        }
    }

    fn replace(
        &mut self,
        id: &SessionId,
        source: SessionRecord,
        target: &SessionRecord,
        columns: OwnColumns,
    ) {
        let is_token_same = !columns.tokens || source.tokens == target.tokens;
        let is_creation_same = !columns.created || source.created_at_s == target.created_at_s;
        if is_used(&source, target, is_token_same) {
            self.newer += 1;
        } else if is_token_same && is_creation_same && source.data == target.data {
            if end_of(&source) == end_of(target) {
                self.equal += 1;
                return;
            }
            self.touches.push(Touch {
                id: id.clone(),
                expires_at_s: source.expires_at_s,
            });
        } else if !is_token_same && (is_creation_same || target.created_at_s.is_none()) {
            self.updates.push(Commit {
                id: id.clone(),
                change: RowChange::Update {
                    base: RowVersion::of(target),
                    record: source,
                    new_id: None,
                },
            });
        } else {
            self.rewrites.push(create(id, source));
        }
    }

    /// Returns the number of sessions that differ.
    pub(crate) fn different(&self) -> usize {
        let written = self.creates.len() + self.updates.len() + self.rewrites.len();
        self.newer + self.ended + written + self.touches.len()
    }
}

/// Returns whether a host has used the target's row since it was copied. If the last commits of both rows show which
/// row is newer, they decide. Otherwise the expiry decides, because each visit moves it forward and a copy never moves
/// it back.
///
/// A row that this host never wrote has no commit tokens, and is copied without any.
fn is_used(source: &SessionRecord, target: &SessionRecord, is_token_same: bool) -> bool {
    let ends_later = end_of(target) > end_of(source);
    let (newest, target_newest) = (source.tokens.newest(), target.tokens.newest());
    if is_token_same || newest == target_newest {
        return ends_later;
    }
    match (newest, target_newest) {
        (None, _) => true,
        (Some(newest), _) if target.tokens.contains(newest) => true,
        (_, Some(newest)) if source.tokens.contains(newest) => false,
        _ => ends_later,
    }
}

/// Returns the last valid second, limited to the range of every table.
fn end_of(record: &SessionRecord) -> i64 {
    record.expires_at_s.min(EXPIRES_MAX_S)
}

/// Returns the record as a column of this character set holds it. Characters that the column cannot hold are escaped,
/// as commits do.
pub(crate) fn held_in(charset: Charset, record: SessionRecord) -> SessionRecord {
    match escaped(charset, &record.data) {
        Some(text) => SessionRecord {
            data: text.into(),
            ..record
        },
        None => record,
    }
}

/// Returns the JSON text with escapes. `None` if the column holds the data unchanged, or if the data is not JSON,
/// because an escape would change a text that is not JSON.
fn escaped(charset: Charset, data: &Bytes) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    let Cow::Owned(escaped) = charset.encode(text) else {
        return None;
    };
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    is_json.then_some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CommitToken, TokenHistory};

    const ALL: OwnColumns = OwnColumns {
        tokens: true,
        created: true,
    };

    fn record(data: &str) -> SessionRecord {
        SessionRecord {
            data: Bytes::copy_from_slice(data.as_bytes()),
            expires_at_s: 1_900_000_000,
            tokens: TokenHistory::default().push(CommitToken::generate()),
            created_at_s: Some(1_800_000_000),
        }
    }

    fn successor(record: &SessionRecord, data: &str) -> SessionRecord {
        SessionRecord {
            data: Bytes::copy_from_slice(data.as_bytes()),
            tokens: record.tokens.push(CommitToken::generate()),
            ..record.clone()
        }
    }

    fn plan(source: &SessionRecord, target: &SessionRecord, columns: OwnColumns) -> PagePlan {
        let mut plan = PagePlan::default();
        let id = SessionId::generate();
        plan.add(&id, Some(source.clone()), Some(target), columns);
        plan
    }

    #[test]
    fn the_same_row_is_left_alone_and_an_expiry_is_moved() {
        let row = record("{}");
        assert_eq!(plan(&row, &row, ALL).equal, 1);
        let moved = SessionRecord {
            expires_at_s: row.expires_at_s + 60,
            ..row.clone()
        };
        let found = plan(&moved, &row, ALL);
        assert_eq!(found.touches.len(), 1);
        assert_eq!(found.different(), 1);
    }

    #[test]
    fn a_later_row_of_the_source_replaces_and_a_later_row_of_the_target_stays() {
        let old = record("{}");
        let new = successor(&old, r#"{"n":1}"#);
        assert_eq!(plan(&new, &old, ALL).updates.len(), 1);
        let found = plan(&old, &new, ALL);
        assert_eq!((found.newer, found.different()), (1, 1));
        assert!(found.updates.is_empty() && found.rewrites.is_empty());
    }

    #[test]
    fn a_row_with_a_later_expiry_in_the_target_is_left_unchanged() {
        let row = record("{}");
        let visited = |row: &SessionRecord| SessionRecord {
            expires_at_s: row.expires_at_s + 60,
            ..row.clone()
        };
        let assert_left = |found: PagePlan| {
            assert_eq!((found.newer, found.different()), (1, 1), "{found:?}");
        };
        assert_left(plan(&row, &visited(&row), ALL));
        let by_express = SessionRecord {
            data: Bytes::from_static(b"[]"),
            ..visited(&row)
        };
        assert_left(plan(&row, &by_express, ALL));

        let other = record("[]");
        assert_eq!(plan(&row, &other, ALL).updates.len(), 1);
        assert_left(plan(&row, &visited(&other), ALL));
        let without = SessionRecord {
            tokens: TokenHistory::default(),
            ..row.clone()
        };
        assert_eq!(plan(&row, &without, ALL).updates.len(), 1);
        assert_left(plan(&row, &visited(&without), ALL));

        let next = successor(&visited(&row), "[]");
        let shorter = SessionRecord {
            expires_at_s: row.expires_at_s,
            ..next
        };
        assert_eq!(plan(&shorter, &visited(&row), ALL).updates.len(), 1);
        let clipped = SessionRecord {
            expires_at_s: EXPIRES_MAX_S + 60,
            ..row.clone()
        };
        assert_eq!(plan(&clipped, &visited(&clipped), ALL).equal, 1);
    }

    #[test]
    fn a_row_that_express_wrote_is_written_anew() {
        let old = record("{}");
        let by_express = SessionRecord {
            data: Bytes::from_static(br#"{"n":1}"#),
            ..old.clone()
        };
        assert_eq!(plan(&by_express, &old, ALL).rewrites.len(), 1);
        let never_ours = SessionRecord {
            tokens: TokenHistory::default(),
            created_at_s: None,
            ..old.clone()
        };
        assert_eq!(plan(&never_ours, &never_ours, ALL).equal, 1);
        let written_by_a_host = successor(&never_ours, r#"{"n":2}"#);
        assert_eq!(plan(&never_ours, &written_by_a_host, ALL).newer, 1);
    }

    #[test]
    fn characters_that_the_column_cannot_hold_are_escaped_in_json_alone() {
        let held = |charset, data: &str| held_in(charset, record(data)).data;
        let text = r#"{"cookie":{},"é가":"🦕 \\n"}"#;
        for (charset, expected) in [
            (Charset::Unicode, text),
            (Charset::Basic, r#"{"cookie":{},"é가":"\ud83e\udd95 \\n"}"#),
            (
                Charset::Listed(&['é']),
                r#"{"cookie":{},"é\uac00":"\ud83e\udd95 \\n"}"#,
            ),
        ] {
            assert_eq!(held(charset, text), expected, "{charset:?}");
            let copied = record(expected);
            assert_eq!(held_in(charset, copied.clone()), copied, "{charset:?}");
        }
        assert_eq!(held(Charset::Ascii, "é"), "é");
    }

    #[test]
    fn a_table_without_our_columns_is_compared_without_them() {
        let none = OwnColumns {
            tokens: false,
            created: false,
        };
        let source = record("{}");
        let target = SessionRecord {
            tokens: TokenHistory::default(),
            created_at_s: None,
            ..source.clone()
        };
        assert_eq!(plan(&source, &target, none).equal, 1);
    }
}

//! The contract of every store, as checks that run against a real one. Knows only the trait, no specific store.
//!
//! Unit tests run it on the embedded stores, the end-to-end tests on MySQL. The checks use fresh ids, so they may share
//! one store. Each check panics with a message that names the broken promise. For a store without token columns
//! ([`SessionStore::keeps_tokens`]), the checks require everything that the data alone can decide.

mod bulk;
mod delete;
mod row;
mod swap;

use std::sync::Arc;

use bytes::Bytes;

use super::{Commit, CommitVerdict, RowChange, RowVersion, SessionStore, Touch};
use crate::record::{CommitToken, SessionId, SessionRecord, TokenHistory};

/// The time at which the checks read and write, in seconds since the epoch. It fits an unsigned 32-bit column.
pub const NOW_S: i64 = 1_800_000_000;

/// Runs every check, each on a store from `make`, which may return the same store again.
///
/// No reaper may run on the store during the checks.
///
/// # Panics
/// Panics if the store breaks a promise.
pub async fn check_all(make: impl AsyncFn() -> Arc<dyn SessionStore>) {
    row::data_comes_back_byte_for_byte(&*make().await).await;
    row::an_absent_row_is_none_and_answers_keep_their_order(&*make().await).await;
    row::ids_differ_by_case_and_trailing_space(&*make().await).await;
    row::creating_an_existing_id_is_a_conflict_and_leaves_the_row(&*make().await).await;
    row::a_row_is_valid_up_to_and_including_its_last_second(&*make().await).await;
    row::tokens_and_creation_time_come_back(&*make().await).await;

    swap::an_update_replaces_the_row_it_was_based_on(&*make().await).await;
    swap::a_base_with_other_data_or_other_tokens_is_a_conflict(&*make().await).await;
    swap::an_update_that_changes_nothing_but_the_token_is_committed(&*make().await).await;
    swap::an_expired_row_is_never_updated(&*make().await).await;
    swap::an_update_after_a_delete_never_resurrects(&*make().await).await;
    swap::a_new_id_moves_the_row(&*make().await).await;
    swap::a_new_id_that_exists_is_not_taken_over(&*make().await).await;
    swap::a_token_column_that_somebody_else_wrote_is_no_obstacle(&*make().await).await;
    swap::the_creation_time_is_written_once(&*make().await).await;

    delete::a_delete_takes_the_row_whatever_it_holds(&*make().await).await;
    delete::a_delete_with_a_base_is_a_compare_and_swap(&*make().await).await;

    bulk::a_touch_moves_valid_rows_and_nothing_else(&*make().await).await;
    bulk::the_reaper_takes_expired_rows_alone_and_no_more_than_asked(&*make().await).await;
    bulk::many_changes_get_a_verdict_each_in_order(&*make().await).await;
    bulk::calls_without_rows_are_answered(&*make().await).await;
    bulk::more_rows_than_one_statement_holds_are_all_handled(&*make().await).await;
    bulk::of_many_swaps_on_one_row_exactly_one_wins(make().await).await;
    bulk::concurrent_calls_on_many_rows_do_not_disturb_each_other(make().await).await;
}

/// Returns a row with this data, an expiry in one hour and one token.
fn record(data: impl Into<Bytes>) -> SessionRecord {
    SessionRecord {
        data: data.into(),
        expires_at_s: NOW_S + 3600,
        tokens: TokenHistory::default().push(CommitToken::generate()),
        created_at_s: Some(NOW_S - 60),
    }
}

/// Returns the record that an update of `base` writes: it has one more token.
fn successor(base: &SessionRecord, data: impl Into<Bytes>) -> SessionRecord {
    SessionRecord {
        data: data.into(),
        tokens: base.tokens.push(CommitToken::generate()),
        ..base.clone()
    }
}

/// Returns the record that `store` reads back for `record`. Without Cloakroom's own columns only data and expiry are
/// kept.
fn kept(store: &dyn SessionStore, record: &SessionRecord) -> SessionRecord {
    if store.keeps_tokens() {
        return record.clone();
    }
    SessionRecord {
        tokens: TokenHistory::default(),
        created_at_s: None,
        ..record.clone()
    }
}

fn update(base: &SessionRecord, record: SessionRecord) -> RowChange {
    RowChange::Update {
        base: RowVersion::of(base),
        record,
        new_id: None,
    }
}

fn renewal(base: &SessionRecord, record: SessionRecord, new_id: &SessionId) -> RowChange {
    RowChange::Update {
        base: RowVersion::of(base),
        record,
        new_id: Some(new_id.clone()),
    }
}

async fn commit(store: &dyn SessionStore, id: &SessionId, change: RowChange) -> CommitVerdict {
    let commit = Commit {
        id: id.clone(),
        change,
    };
    let mut verdicts = store.commit_many(&[commit], NOW_S).await;
    assert_eq!(verdicts.len(), 1, "one change gets one verdict");
    verdicts.remove(0)
}

async fn load_at(store: &dyn SessionStore, id: &SessionId, now_s: i64) -> Option<SessionRecord> {
    let rows = store.load_many(std::slice::from_ref(id), now_s).await;
    let mut rows = rows.expect("the store answers a load");
    assert_eq!(rows.len(), 1, "one id gets one answer");
    rows.remove(0)
}

async fn load(store: &dyn SessionStore, id: &SessionId) -> Option<SessionRecord> {
    load_at(store, id, NOW_S).await
}

/// Creates a row and returns it as the store reads it back.
async fn created(
    store: &dyn SessionStore,
    id: &SessionId,
    record: &SessionRecord,
) -> SessionRecord {
    let verdict = commit(store, id, RowChange::Create(record.clone())).await;
    assert_committed(&verdict, "a row with a fresh id is created");
    // Read at the row's last second, so that rows that are expired by NOW_S are returned as well.
    let row = load_at(store, id, record.expires_at_s.min(NOW_S)).await;
    row.expect("a created row is there")
}

async fn touch(store: &dyn SessionStore, touches: &[(&SessionId, i64)]) {
    let touches: Vec<_> = touches
        .iter()
        .map(|(id, expires_at_s)| Touch {
            id: (*id).clone(),
            expires_at_s: *expires_at_s,
        })
        .collect();
    let touched = store.touch_many(&touches, NOW_S).await;
    touched.expect("the store answers a touch");
}

#[track_caller]
fn assert_committed(verdict: &CommitVerdict, promise: &str) {
    assert!(
        matches!(verdict, CommitVerdict::Committed),
        "{promise}: expected a commit, got {verdict:?}"
    );
}

#[track_caller]
fn assert_conflict(verdict: &CommitVerdict, promise: &str) {
    assert!(
        matches!(verdict, CommitVerdict::Conflict),
        "{promise}: expected a conflict, got {verdict:?}"
    );
}

/// Asserts that two rows are equal, column by column.
#[track_caller]
fn assert_row(found: Option<&SessionRecord>, expected: Option<&SessionRecord>, promise: &str) {
    match (found, expected) {
        (None, None) => {}
        (None, Some(_)) => panic!("{promise}: the row is gone"),
        (Some(_), None) => panic!("{promise}: there is a row"),
        (Some(found), Some(expected)) => {
            assert_eq!(found.data, expected.data, "{promise}: data");
            assert_eq!(
                found.expires_at_s, expected.expires_at_s,
                "{promise}: expiry"
            );
            assert_eq!(found.tokens, expected.tokens, "{promise}: tokens");
            assert_eq!(
                found.created_at_s, expected.created_at_s,
                "{promise}: creation time"
            );
        }
    }
}

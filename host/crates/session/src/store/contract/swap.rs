//! Checks of the compare-and-swap: an update applies to the row that was read, or not at all.

use bytes::Bytes;

use super::{
    NOW_S, RowChange, RowVersion, assert_committed, assert_conflict, assert_row, commit, created,
    kept, load, load_at, record, renewal, successor, update,
};
use crate::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use crate::store::SessionStore;

const DATA: &str = r#"{"cookie":{},"name":"Ann"}"#;

pub(crate) async fn an_update_replaces_the_row_it_was_based_on(store: &dyn SessionStore) {
    let id = SessionId::generate();
    let row = created(store, &id, &record(DATA)).await;
    let next = SessionRecord {
        expires_at_s: NOW_S + 7200,
        ..successor(&row, r#"{"cookie":{},"n":2}"#)
    };

    let verdict = commit(store, &id, update(&row, next.clone())).await;

    assert_committed(&verdict, "an update of the row as read");
    let found = load(store, &id).await;
    assert_row(found.as_ref(), Some(&kept(store, &next)), "after an update");

    let verdict = commit(store, &id, update(&row, next)).await;
    assert_conflict(&verdict, "the same update again, its base being gone");
}

pub(crate) async fn a_base_with_other_data_or_other_tokens_is_a_conflict(store: &dyn SessionStore) {
    let id = SessionId::generate();
    let row = created(store, &id, &record(DATA)).await;
    let other_data = [
        r#"{"cookie":{},"name":"Ann"} "#,
        r#"{"cookie":{},"name":"ann"}"#,
        r#"{"cookie":{},"name":"Ánn"}"#,
        r#"{"cookie":{},"name":"Ann" }"#,
        "",
    ];
    let mut bases: Vec<SessionRecord> = other_data
        .iter()
        .map(|data| SessionRecord {
            data: Bytes::from_static(data.as_bytes()),
            ..row.clone()
        })
        .collect();
    if store.keeps_tokens() {
        let others = [
            TokenHistory::default(),
            TokenHistory::default().push(CommitToken::generate()),
            row.tokens.push(CommitToken::generate()),
        ];
        bases.extend(others.map(|tokens| SessionRecord {
            tokens,
            ..row.clone()
        }));
    }
    for base in &bases {
        let next = successor(base, r#"{"cookie":{},"lost":1}"#);
        let verdict = commit(store, &id, update(base, next)).await;
        assert_conflict(&verdict, "an update over a base that differs");
    }
    let found = load(store, &id).await;
    assert_row(found.as_ref(), Some(&row), "after conflicts");
}

pub(crate) async fn an_update_that_changes_nothing_but_the_token_is_committed(
    store: &dyn SessionStore,
) {
    let id = SessionId::generate();
    let row = created(store, &id, &record(DATA)).await;
    let next = successor(&row, DATA);

    let verdict = commit(store, &id, update(&row, next.clone())).await;

    assert_committed(
        &verdict,
        "a store that counts changed rows must not lose it",
    );
    let found = load(store, &id).await;
    assert_row(found.as_ref(), Some(&kept(store, &next)), "the new token");
}

pub(crate) async fn an_expired_row_is_never_updated(store: &dyn SessionStore) {
    let id = SessionId::generate();
    let expired = SessionRecord {
        expires_at_s: NOW_S - 1,
        ..record(DATA)
    };
    let row = created(store, &id, &expired).await;
    let next = SessionRecord {
        expires_at_s: NOW_S + 3600,
        ..successor(&row, r#"{"cookie":{},"risen":1}"#)
    };

    let verdict = commit(store, &id, update(&row, next.clone())).await;
    assert_conflict(&verdict, "an update of an expired row");
    let verdict = commit(store, &id, renewal(&row, next, &SessionId::generate())).await;
    assert_conflict(&verdict, "a new id for an expired row");

    assert_row(load(store, &id).await.as_ref(), None, "an expired row");
    let found = load_at(store, &id, NOW_S - 1).await;
    assert_row(found.as_ref(), Some(&row), "an expired row, unchanged");

    let id = SessionId::generate();
    let last = SessionRecord {
        expires_at_s: NOW_S,
        ..record(DATA)
    };
    let row = created(store, &id, &last).await;
    let verdict = commit(store, &id, update(&row, successor(&row, "{\"cookie\":{}}"))).await;
    assert_committed(&verdict, "an update in a row's last second");
}

pub(crate) async fn an_update_after_a_delete_never_resurrects(store: &dyn SessionStore) {
    let id = SessionId::generate();
    let row = created(store, &id, &record(DATA)).await;
    let verdict = commit(store, &id, RowChange::Delete { base: None }).await;
    assert_committed(&verdict, "a delete");
    let new_id = SessionId::generate();

    let verdict = commit(store, &id, update(&row, successor(&row, DATA))).await;
    assert_conflict(&verdict, "an update after a delete");
    let verdict = commit(store, &id, renewal(&row, successor(&row, DATA), &new_id)).await;
    assert_conflict(&verdict, "a new id after a delete");

    assert_row(load(store, &id).await.as_ref(), None, "a deleted row");
    assert_row(load(store, &new_id).await.as_ref(), None, "its new id");
}

pub(crate) async fn a_new_id_moves_the_row(store: &dyn SessionStore) {
    let (old_id, new_id) = (SessionId::generate(), SessionId::generate());
    let row = created(store, &old_id, &record(DATA)).await;
    let next = successor(&row, r#"{"cookie":{},"admin":true}"#);

    let verdict = commit(store, &old_id, renewal(&row, next.clone(), &new_id)).await;

    assert_committed(&verdict, "a new id");
    let ids = [old_id.clone(), new_id.clone()];
    let rows = store.load_many(&ids, NOW_S).await;
    let rows = rows.expect("the store answers a load");
    assert_row(rows[0].as_ref(), None, "under the old id");
    let expected = kept(store, &next);
    assert_row(rows[1].as_ref(), Some(&expected), "under the new id");

    let verdict = commit(store, &old_id, update(&row, successor(&row, DATA))).await;
    assert_conflict(&verdict, "an update under the old id");
    let verdict = commit(store, &new_id, update(&expected, successor(&next, DATA))).await;
    assert_committed(&verdict, "an update under the new id");
}

pub(crate) async fn a_new_id_that_exists_is_not_taken_over(store: &dyn SessionStore) {
    let (id, taken_id) = (SessionId::generate(), SessionId::generate());
    let row = created(store, &id, &record(DATA)).await;
    let taken = created(store, &taken_id, &record(r#"{"cookie":{},"owner":1}"#)).await;

    let verdict = commit(store, &id, renewal(&row, successor(&row, DATA), &taken_id)).await;

    assert_conflict(&verdict, "a new id that some row has");
    let found = load(store, &id).await;
    assert_row(found.as_ref(), Some(&row), "the row that should have moved");
    let found = load(store, &taken_id).await;
    assert_row(found.as_ref(), Some(&taken), "the row that was there");
}

pub(crate) async fn a_token_column_that_somebody_else_wrote_is_no_obstacle(
    store: &dyn SessionStore,
) {
    if !store.keeps_tokens() {
        return;
    }
    for column in [&b"abc"[..], &[0; 31]] {
        let foreign = SessionRecord {
            tokens: TokenHistory::from_column(column),
            ..record(DATA)
        };
        let id = SessionId::generate();
        let row = created(store, &id, &foreign).await;
        assert_row(Some(&row), Some(&foreign), "a foreign column as it is");

        let verdict = commit(store, &id, update(&record(DATA), successor(&row, DATA))).await;
        assert_conflict(&verdict, "an update over other tokens");
        let next = successor(&row, DATA);
        let verdict = commit(store, &id, update(&row, next.clone())).await;
        assert_committed(&verdict, "an update over a foreign column");
        let found = load(store, &id).await;
        assert_row(found.as_ref(), Some(&next), "a history of ours alone");

        let (old_id, new_id) = (SessionId::generate(), SessionId::generate());
        let row = created(store, &old_id, &foreign).await;
        let next = successor(&row, DATA);
        let verdict = commit(store, &old_id, renewal(&row, next, &new_id)).await;
        assert_committed(&verdict, "a new id over a foreign column");

        let id = SessionId::generate();
        let row = created(store, &id, &foreign).await;
        let base = Some(RowVersion::of(&row));
        let verdict = commit(store, &id, RowChange::Delete { base }).await;
        assert_committed(&verdict, "a delete over a foreign column");
    }
}

pub(crate) async fn the_creation_time_is_written_once(store: &dyn SessionStore) {
    if !store.keeps_tokens() {
        return;
    }
    let id = SessionId::generate();
    let foreign = SessionRecord {
        created_at_s: None,
        ..record(DATA)
    };
    let mut row = created(store, &id, &foreign).await;
    for (offered, expected) in [
        (None, None),
        (Some(7), Some(7)),
        (Some(8), Some(7)),
        (None, Some(7)),
    ] {
        let next = SessionRecord {
            created_at_s: offered,
            ..successor(&row, DATA)
        };
        let verdict = commit(store, &id, update(&row, next)).await;
        assert_committed(&verdict, "an update");
        row = load(store, &id).await.expect("an updated row is there");
        assert_eq!(row.created_at_s, expected, "set where none is, then kept");
    }
    let new_id = SessionId::generate();
    let next = SessionRecord {
        created_at_s: Some(9),
        ..successor(&row, DATA)
    };
    let verdict = commit(store, &id, renewal(&row, next, &new_id)).await;
    assert_committed(&verdict, "a new id");
    let row = load(store, &new_id).await.expect("a moved row is there");
    assert_eq!(row.created_at_s, Some(7), "kept through a new id");
}

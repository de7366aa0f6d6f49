//! Checks of deletes: with a base a delete is a compare-and-swap, without one it always succeeds.

use super::{
    NOW_S, RowChange, assert_committed, assert_conflict, assert_row, commit, created, load,
    load_at, record, successor, update,
};
use crate::record::{SessionId, SessionRecord};
use crate::store::{RowVersion, SessionStore};

const DATA: &str = r#"{"cookie":{},"n":1}"#;

pub(crate) async fn a_delete_takes_the_row_whatever_it_holds(store: &dyn SessionStore) {
    let (id, bystander_id) = (SessionId::generate(), SessionId::generate());
    created(store, &id, &record(DATA)).await;
    let bystander = created(store, &bystander_id, &record(DATA)).await;

    let verdict = commit(store, &id, RowChange::Delete { base: None }).await;

    assert_committed(&verdict, "a delete without a base");
    assert_row(load(store, &id).await.as_ref(), None, "a deleted row");
    let found = load(store, &bystander_id).await;
    assert_row(found.as_ref(), Some(&bystander), "another row");

    let verdict = commit(store, &id, RowChange::Delete { base: None }).await;
    assert_committed(&verdict, "a delete of an absent row without a base");

    let expired = SessionRecord {
        expires_at_s: NOW_S - 1,
        ..record(DATA)
    };
    created(store, &id, &expired).await;
    let verdict = commit(store, &id, RowChange::Delete { base: None }).await;
    assert_committed(&verdict, "a delete of an expired row without a base");
    let found = load_at(store, &id, NOW_S - 1).await;
    assert_row(found.as_ref(), None, "a deleted expired row");
}

pub(crate) async fn a_delete_with_a_base_is_a_compare_and_swap(store: &dyn SessionStore) {
    let id = SessionId::generate();
    let read = created(store, &id, &record(DATA)).await;
    let next = successor(&read, r#"{"cookie":{},"n":2}"#);
    let verdict = commit(store, &id, update(&read, next)).await;
    assert_committed(&verdict, "an update");
    let row = load(store, &id).await.expect("an updated row is there");

    let verdict = commit(store, &id, delete(&read)).await;
    assert_conflict(&verdict, "a delete over a base that has moved");
    let found = load(store, &id).await;
    assert_row(found.as_ref(), Some(&row), "after that conflict");

    let spaced = SessionRecord {
        data: "{\"cookie\":{},\"n\":2} ".into(),
        ..row.clone()
    };
    let verdict = commit(store, &id, delete(&spaced)).await;
    assert_conflict(&verdict, "a delete over a base with one more space");

    let verdict = commit(store, &id, delete(&row)).await;
    assert_committed(&verdict, "a delete of the row as read");
    assert_row(load(store, &id).await.as_ref(), None, "a deleted row");

    let verdict = commit(store, &id, delete(&row)).await;
    assert_conflict(&verdict, "a delete with a base of an absent row");

    let expired = SessionRecord {
        expires_at_s: NOW_S - 1,
        ..record(DATA)
    };
    let id = SessionId::generate();
    let row = created(store, &id, &expired).await;
    let verdict = commit(store, &id, delete(&row)).await;
    assert_conflict(&verdict, "a delete with a base of an expired row");
}

fn delete(base: &SessionRecord) -> RowChange {
    RowChange::Delete {
        base: Some(RowVersion::of(base)),
    }
}

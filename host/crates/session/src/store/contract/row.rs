//! Checks of single rows: a created row is loaded unchanged.

use super::{
    NOW_S, RowChange, assert_committed, assert_conflict, assert_row, commit, created, kept, load,
    load_at, record, successor, update,
};
use crate::record::{CommitToken, SessionId, SessionRecord};
use crate::store::SessionStore;

pub(crate) async fn data_comes_back_byte_for_byte(store: &dyn SessionStore) {
    let long = format!(
        r#"{{"cookie":{{}},"long":"{}"}}"#,
        "é😆x'\\u0000".repeat(6_000)
    );
    assert!(long.len() > 64 << 10);
    let texts = [
        r#"{"cookie":{}}"#,
        "{ \"cookie\" : {} ,\t\"spaced\" : 1 } ",
        r#"{"cookie":{},"name":"Zoë 😆"}"#,
        r#"{"cookie":{},"lone":"\ud83d","pair":"\ud83d\ude06","nul":"\u0000"}"#,
        r#"{"cookie":{},"quotes":"' \" ` \\ \\' %s ? ?1 :a $1 -- ; /*!50000 x*/ x'41'"}"#,
        r#"{"cookie":{},"big":9007199254740993,"huge":1e400,"negative":-0,"one":1.0,"one":2}"#,
        "{\"cookie\":{},\"control\":\"\u{7f}\u{80}\u{2028}\u{feff}\u{10ffff}\"}",
        &long,
    ];
    for text in texts {
        let id = SessionId::generate();
        let written = record(text.to_owned());
        let row = created(store, &id, &written).await;
        assert_row(Some(&row), Some(&kept(store, &written)), "a created row");

        let next = successor(&row, format!("{text} "));
        let verdict = commit(store, &id, update(&row, next.clone())).await;
        assert_committed(&verdict, "a base of any text is recognised");
        let row = load(store, &id).await;
        assert_row(row.as_ref(), Some(&kept(store, &next)), "an updated row");
    }
}

pub(crate) async fn an_absent_row_is_none_and_answers_keep_their_order(store: &dyn SessionStore) {
    let ids: Vec<_> = (0..5).map(|_| SessionId::generate()).collect();
    created(store, &ids[1], &record(r#"{"cookie":{},"n":1}"#)).await;
    created(store, &ids[3], &record(r#"{"cookie":{},"n":3}"#)).await;

    let rows = store.load_many(&ids, NOW_S).await;

    let rows = rows.expect("the store answers a load");
    let data: Vec<_> = rows
        .iter()
        .map(|r| r.as_ref().map(|r| &r.data[..]))
        .collect();
    let expected: [Option<&[u8]>; 5] = [
        None,
        Some(br#"{"cookie":{},"n":1}"#),
        None,
        Some(br#"{"cookie":{},"n":3}"#),
        None,
    ];
    assert_eq!(data, expected, "one answer per id, in the order asked");
}

pub(crate) async fn ids_differ_by_case_and_trailing_space(store: &dyn SessionStore) {
    let stem = SessionId::generate();
    let lower = foreign(&format!("a{}", stem.as_str()));
    let others = [
        foreign(&format!("A{}", stem.as_str())),
        foreign(&format!("a{} ", stem.as_str())),
        foreign(&format!("á{}", stem.as_str())),
    ];
    let row = created(store, &lower, &record(r#"{"cookie":{}}"#)).await;
    for other in &others {
        let found = load(store, other).await;
        assert_row(found.as_ref(), None, "an id that only looks alike");
        let next = successor(&row, r#"{"cookie":{},"stolen":1}"#);
        let verdict = commit(store, other, update(&row, next)).await;
        assert_conflict(&verdict, "an update of an id that only looks alike");
        commit(store, other, RowChange::Delete { base: None }).await;
    }
    let found = load(store, &lower).await;
    assert_row(found.as_ref(), Some(&row), "the row of the exact id");
}

pub(crate) async fn creating_an_existing_id_is_a_conflict_and_leaves_the_row(
    store: &dyn SessionStore,
) {
    let id = SessionId::generate();
    let row = created(store, &id, &record(r#"{"cookie":{},"first":1}"#)).await;
    let second = RowChange::Create(record(r#"{"cookie":{},"second":1}"#));

    let verdict = commit(store, &id, second.clone()).await;

    assert_conflict(&verdict, "creating an id that exists");
    let found = load(store, &id).await;
    assert_row(found.as_ref(), Some(&row), "the row that was first");

    let expired = SessionRecord {
        expires_at_s: NOW_S - 1,
        ..record(r#"{"cookie":{}}"#)
    };
    let id = SessionId::generate();
    let row = created(store, &id, &expired).await;
    let verdict = commit(store, &id, second).await;
    assert_conflict(&verdict, "creating an id whose row is expired but there");
    let found = load_at(store, &id, NOW_S - 1).await;
    assert_row(found.as_ref(), Some(&row), "the expired row");
}

pub(crate) async fn a_row_is_valid_up_to_and_including_its_last_second(store: &dyn SessionStore) {
    let id = SessionId::generate();
    let last = SessionRecord {
        expires_at_s: NOW_S,
        ..record(r#"{"cookie":{}}"#)
    };
    let row = created(store, &id, &last).await;

    let before = load_at(store, &id, NOW_S - 1).await;
    let equal = load_at(store, &id, NOW_S).await;
    let after = load_at(store, &id, NOW_S + 1).await;

    assert_row(before.as_ref(), Some(&row), "a second before its last");
    assert_row(equal.as_ref(), Some(&row), "in its last second");
    assert_row(after.as_ref(), None, "a second after its last");
}

pub(crate) async fn tokens_and_creation_time_come_back(store: &dyn SessionStore) {
    if !store.keeps_tokens() {
        return;
    }
    let bare = SessionRecord {
        tokens: Default::default(),
        created_at_s: None,
        ..record(r#"{"cookie":{}}"#)
    };
    let id = SessionId::generate();
    let row = created(store, &id, &bare).await;
    assert_row(Some(&row), Some(&bare), "a row without tokens and time");

    let mut row = row;
    let mut pushed = Vec::new();
    for _ in 0..6 {
        let token = CommitToken::generate();
        let next = SessionRecord {
            tokens: row.tokens.push(token),
            ..row.clone()
        };
        let verdict = commit(store, &id, update(&row, next.clone())).await;
        assert_committed(&verdict, "an update over the tokens just read");
        pushed.push(token);
        row = load(store, &id).await.expect("an updated row is there");
        assert_row(Some(&row), Some(&next), "a row with another token");
    }
    assert_eq!(row.tokens.newest(), pushed.last().copied(), "newest first");
    assert!(
        pushed[2..].iter().all(|token| row.tokens.contains(*token)),
        "the last four tokens are in the row"
    );
}

fn foreign(text: &str) -> SessionId {
    SessionId::from_foreign(text).expect("short enough for the column")
}

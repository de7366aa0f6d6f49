//! Tests of the faulty store: without failures it behaves like any other store, and each failure has its documented effect.

use bytes::Bytes;

use super::*;
use cloakroom_session::record::TokenHistory;
use cloakroom_session::store::contract;

const NOW_S: i64 = 1_000;

fn record(data: &'static str, tokens: &TokenHistory) -> SessionRecord {
    SessionRecord {
        data: Bytes::from_static(data.as_bytes()),
        expires_at_s: NOW_S + 60,
        tokens: tokens.push(CommitToken::generate()),
        created_at_s: Some(NOW_S),
    }
}

/// Returns a store with one session, and that session.
async fn with_a_session() -> (FaultyStore, SessionId, SessionRecord) {
    let store = FaultyStore::over(Arc::default());
    let first = record(r#"{"cookie":{},"num":1}"#, &TokenHistory::default());
    let id = SessionId::generate();
    let change = RowChange::Create(first.clone());
    let verdict = commit(&store, &id, change).await;
    assert!(matches!(verdict, CommitVerdict::Committed));
    (store, id, first)
}

async fn commit(store: &FaultyStore, id: &SessionId, change: RowChange) -> CommitVerdict {
    let id = id.clone();
    let mut verdicts = store.commit_many(&[Commit { id, change }], NOW_S).await;
    verdicts.remove(0)
}

fn replace(base: &SessionRecord) -> RowChange {
    RowChange::Update {
        base: RowVersion::of(base),
        record: record(r#"{"cookie":{},"num":2}"#, &base.tokens),
        new_id: None,
    }
}

fn writes(set: &[(&str, &str)], delete: &[&str]) -> RivalWrite {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    RivalWrite::Write {
        set: set.iter().map(own).collect(),
        delete: delete.iter().map(|key| (*key).to_owned()).collect(),
    }
}

async fn data(store: &FaultyStore, id: &SessionId) -> Option<String> {
    let row = row(&store.rows, id, NOW_S).await?;
    Some(String::from_utf8(row.data.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_fault_it_keeps_the_contract_of_all_stores() {
    let make = async || Arc::new(FaultyStore::over(Arc::default())) as Arc<dyn SessionStore>;
    contract::check_all(make).await;
}

#[tokio::test]
async fn a_rival_write_is_committed_before_the_next_commit_only() {
    let (store, id, first) = with_a_session().await;
    store.send(writes(&[("num", "41"), ("new", "[1]")], &[]));
    let verdict = commit(&store, &id, replace(&first)).await;
    assert!(matches!(verdict, CommitVerdict::Conflict));
    let rivals = r#"{"cookie":{},"num":41,"new":[1]}"#;
    assert_eq!(data(&store, &id).await.as_deref(), Some(rivals));

    let theirs = row(&store.rows, &id, NOW_S).await.unwrap();
    assert!(theirs.tokens.contains(first.tokens.newest().unwrap()));
    let verdict = commit(&store, &id, replace(&theirs)).await;
    assert!(matches!(verdict, CommitVerdict::Committed));
    assert_eq!(store.waiting(), 0);
}

#[tokio::test]
async fn a_rival_that_changes_nothing_makes_a_conflict_all_the_same() {
    let (store, id, first) = with_a_session().await;
    store.send(writes(&[("num", "1")], &["absent"]));
    let verdict = commit(&store, &id, replace(&first)).await;
    assert!(matches!(verdict, CommitVerdict::Conflict));
    assert_eq!(
        data(&store, &id).await,
        Some(String::from_utf8(first.data.to_vec()).unwrap())
    );
}

#[tokio::test]
async fn a_rival_destroy_makes_the_next_commit_a_conflict() {
    let (store, id, first) = with_a_session().await;
    store.send(RivalWrite::Destroy);
    let verdict = commit(&store, &id, replace(&first)).await;
    assert!(matches!(verdict, CommitVerdict::Conflict));
    assert_eq!(data(&store, &id).await, None);
}

#[tokio::test]
async fn a_rival_waits_for_a_session_that_is_stored_already() {
    let (store, _, first) = with_a_session().await;
    store.send(RivalWrite::Destroy);
    let verdict = commit(&store, &SessionId::generate(), RowChange::Create(first)).await;
    assert!(matches!(verdict, CommitVerdict::Committed));
    let gone = RowChange::Delete { base: None };
    commit(&store, &SessionId::generate(), gone).await;
    assert_eq!((store.waiting(), store.rows.row_count()), (1, 2));
}

#[tokio::test]
async fn a_store_that_is_down_answers_nothing_and_does_nothing() {
    let (store, id, first) = with_a_session().await;
    store.set_down(true);
    let ids = [id.clone()];
    let touch = Touch {
        id: id.clone(),
        expires_at_s: NOW_S + 600,
    };
    let error = store.load_many(&ids, NOW_S).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(matches!(
        commit(&store, &id, replace(&first)).await,
        CommitVerdict::Failed(error) if error.kind == StoreErrorKind::Unavailable
    ));
    assert!(store.touch_many(&[touch], NOW_S).await.is_err());
    assert!(store.reap(NOW_S * 2, 9).await.is_err());

    store.set_down(false);
    assert_eq!(store.load_many(&ids, NOW_S).await.unwrap(), [Some(first)]);
}

//! Checks with many rows: batches, touches, the reaper, and concurrent callers.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    NOW_S, RowChange, assert_committed, assert_conflict, assert_row, commit, created, kept, load,
    load_at, record, renewal, successor, touch, update,
};
use crate::record::{SessionId, SessionRecord};
use crate::store::{Commit, CommitVerdict, RowVersion, SessionStore, Touch};
use cloakroom_base::limits::STORE_BATCH_ROWS_MAX;

const DATA: &str = r#"{"cookie":{},"n":0}"#;

pub(crate) async fn a_touch_moves_valid_rows_and_nothing_else(store: &dyn SessionStore) {
    let ids: Vec<_> = (0..4).map(|_| SessionId::generate()).collect();
    let valid = created(store, &ids[0], &record(DATA)).await;
    let last_second = created(store, &ids[1], &expiring(NOW_S)).await;
    let expired = created(store, &ids[2], &expiring(NOW_S - 1)).await;
    let absent = &ids[3];

    let until = NOW_S + 9_000;
    let all: Vec<_> = ids.iter().map(|id| (id, until)).collect();
    touch(store, &all).await;

    for (id, row) in [(&ids[0], valid), (&ids[1], last_second)] {
        let touched = SessionRecord {
            expires_at_s: until,
            ..row.clone()
        };
        let found = load(store, id).await;
        assert_row(found.as_ref(), Some(&touched), "a touched row");
        let verdict = commit(store, id, update(&row, successor(&row, DATA))).await;
        assert_committed(&verdict, "a touch is no conflict for who read before it");
    }
    assert_row(
        load(store, &ids[2]).await.as_ref(),
        None,
        "a dead row stays dead",
    );
    let found = load_at(store, &ids[2], NOW_S - 1).await;
    assert_row(found.as_ref(), Some(&expired), "a dead row");
    assert_row(
        load(store, absent).await.as_ref(),
        None,
        "a touch creates nothing",
    );

    touch(store, &[(&ids[0], NOW_S + 1)]).await;
    let row = load(store, &ids[0]).await.expect("a touched row is there");
    assert_eq!(row.expires_at_s, NOW_S + 1, "a touch also shortens");
}

pub(crate) async fn the_reaper_takes_expired_rows_alone_and_no_more_than_asked(
    store: &dyn SessionStore,
) {
    // Long before the rows of the other checks, so that only these are expired.
    const LONG_AGO_S: i64 = 1_000_000;
    assert_eq!(reaped(store, LONG_AGO_S, 1_000).await, 0, "nothing yet");
    let expired: Vec<_> = (0..7).map(|_| SessionId::generate()).collect();
    for (id, age_s) in expired.iter().zip(1..) {
        created(store, id, &expiring(LONG_AGO_S - age_s)).await;
    }
    let last_second = SessionId::generate();
    created(store, &last_second, &expiring(LONG_AGO_S)).await;
    let valid = SessionId::generate();
    created(store, &valid, &record(DATA)).await;

    assert_eq!(
        reaped(store, LONG_AGO_S, 0).await,
        0,
        "none when none are asked"
    );
    assert_eq!(reaped(store, LONG_AGO_S, 3).await, 3, "a full batch");
    assert_eq!(reaped(store, LONG_AGO_S, 3).await, 3, "a second one");
    assert_eq!(reaped(store, LONG_AGO_S, 3).await, 1, "the rest");
    assert_eq!(reaped(store, LONG_AGO_S, 3).await, 0, "no more");

    let rows = store.load_many(&expired, 0).await;
    let rows = rows.expect("the store answers a load");
    assert!(rows.iter().all(Option::is_none), "expired rows are gone");
    let found = load_at(store, &last_second, LONG_AGO_S).await;
    assert!(found.is_some(), "a row in its last second stays");
    assert!(load(store, &valid).await.is_some(), "a valid row stays");
    commit(store, &last_second, RowChange::Delete { base: None }).await;
}

pub(crate) async fn many_changes_get_a_verdict_each_in_order(store: &dyn SessionStore) {
    let ids: Vec<_> = (0..8).map(|_| SessionId::generate()).collect();
    let renewed = SessionId::generate();
    let mut rows = Vec::new();
    for id in &ids[..6] {
        rows.push(created(store, id, &record(DATA)).await);
    }
    let stale = SessionRecord {
        data: r#"{"cookie":{},"n":-1}"#.into(),
        ..rows[1].clone()
    };
    let next: Vec<_> = rows.iter().map(|row| successor(row, DATA)).collect();
    let delete = |base: Option<&SessionRecord>| RowChange::Delete {
        base: base.map(RowVersion::of),
    };
    let changes = [
        update(&rows[0], next[0].clone()),
        update(&stale, successor(&stale, DATA)),
        delete(Some(&rows[2])),
        delete(Some(&stale)),
        renewal(&rows[4], next[4].clone(), &renewed),
        RowChange::Create(record(DATA)),
        RowChange::Create(record(DATA)),
        delete(None),
    ];
    let commits: Vec<_> = ids
        .iter()
        .zip(changes)
        .map(|(id, change)| Commit {
            id: id.clone(),
            change,
        })
        .collect();

    let verdicts = store.commit_many(&commits, NOW_S).await;

    let won: Vec<_> = verdicts.iter().map(is_committed).collect();
    let expected = [true, false, true, false, true, false, true, true];
    assert_eq!(won, expected, "verdicts in the order of the changes");
    let found = store.load_many(&ids, NOW_S).await;
    let found = found.expect("the store answers a load");
    let there: Vec<_> = found.iter().map(Option::is_some).collect();
    let expected = [true, true, false, true, false, true, true, false];
    assert_eq!(there, expected, "each change on its own row");
    let first = kept(store, &next[0]);
    assert_row(found[0].as_ref(), Some(&first), "the winner's row");
    assert_row(found[1].as_ref(), Some(&rows[1]), "the loser's row");
    assert!(load(store, &renewed).await.is_some(), "the moved row");
}

pub(crate) async fn calls_without_rows_are_answered(store: &dyn SessionStore) {
    let loaded = store.load_many(&[], NOW_S).await;
    assert!(loaded.expect("an empty load is answered").is_empty());
    assert!(store.commit_many(&[], NOW_S).await.is_empty());
    let touched = store.touch_many(&[], NOW_S).await;
    touched.expect("an empty touch is answered");
}

pub(crate) async fn more_rows_than_one_statement_holds_are_all_handled(store: &dyn SessionStore) {
    let row_count = 2 * STORE_BATCH_ROWS_MAX + 3;
    let ids: Vec<_> = (0..row_count).map(|_| SessionId::generate()).collect();
    let records: Vec<_> = (0..row_count)
        .map(|n| record(format!(r#"{{"cookie":{{}},"n":{n}}}"#)))
        .collect();
    let creates: Vec<_> = ids
        .iter()
        .zip(&records)
        .map(|(id, record)| Commit {
            id: id.clone(),
            change: RowChange::Create(record.clone()),
        })
        .collect();
    let verdicts = store.commit_many(&creates, NOW_S).await;
    assert_eq!(verdicts.len(), row_count);
    assert!(verdicts.iter().all(is_committed), "all rows are created");

    let rows = store.load_many(&ids, NOW_S).await;
    let rows = rows.expect("the store answers a load");
    assert_eq!(rows.len(), row_count);
    for (row, record) in rows.iter().zip(&records) {
        assert_row(row.as_ref(), Some(&kept(store, record)), "one of many rows");
    }

    // Every third change uses a base that differs from the row.
    let updates: Vec<_> = (0..row_count)
        .map(|n| {
            let base = kept(
                store,
                &records[if n % 3 == 0 { (n + 1) % row_count } else { n }],
            );
            Commit {
                id: ids[n].clone(),
                change: update(&base, successor(&base, DATA)),
            }
        })
        .collect();
    let verdicts = store.commit_many(&updates, NOW_S).await;
    assert_eq!(verdicts.len(), row_count);
    for (n, verdict) in verdicts.iter().enumerate() {
        match n % 3 {
            0 => assert_conflict(verdict, "a stale one among many"),
            _ => assert_committed(verdict, "a good one among many"),
        }
    }

    let touches: Vec<_> = ids
        .iter()
        .map(|id| Touch {
            id: id.clone(),
            expires_at_s: NOW_S + 5,
        })
        .collect();
    let touched = store.touch_many(&touches, NOW_S).await;
    touched.expect("the store answers a touch");
    let rows = store.load_many(&ids, NOW_S).await;
    let rows = rows.expect("the store answers a load");
    let moved = |row: &Option<SessionRecord>| row.as_ref().map(|r| r.expires_at_s);
    assert!(
        rows.iter().all(|row| moved(row) == Some(NOW_S + 5)),
        "all rows are touched"
    );
}

pub(crate) async fn of_many_swaps_on_one_row_exactly_one_wins(store: Arc<dyn SessionStore>) {
    const CALLERS: usize = 32;
    let id = SessionId::generate();
    let mut row = created(&*store, &id, &record(DATA)).await;
    for round in 0..4 {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (store, id, row) = (store.clone(), id.clone(), row.clone());
            callers.spawn(async move {
                let data = format!(r#"{{"cookie":{{}},"round":{round},"caller":{caller}}}"#);
                let next = successor(&row, data);
                let verdict = commit(&*store, &id, update(&row, next.clone())).await;
                match verdict {
                    CommitVerdict::Committed => Some(next),
                    CommitVerdict::Conflict => None,
                    other => panic!("a healthy store decides, got {other:?}"),
                }
            });
        }
        let won: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "one winner of {CALLERS} over one base");
        row = kept(&*store, &won[0]);
        let found = load(&*store, &id).await;
        assert_row(found.as_ref(), Some(&row), "the winner's row");
    }
}

pub(crate) async fn concurrent_calls_on_many_rows_do_not_disturb_each_other(
    store: Arc<dyn SessionStore>,
) {
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let store = store.clone();
        callers.spawn(async move {
            let id = SessionId::generate();
            let mut row = created(&*store, &id, &record(DATA)).await;
            for n in 0..8 {
                let data = format!(r#"{{"cookie":{{}},"caller":{caller},"n":{n}}}"#);
                let next = successor(&row, data);
                let verdict = commit(&*store, &id, update(&row, next.clone())).await;
                assert_committed(&verdict, "an update without a rival");
                let found = load(&*store, &id).await;
                row = kept(&*store, &next);
                assert_row(
                    found.as_ref(),
                    Some(&row),
                    "who committed reads its own write",
                );
            }
        });
    }
    callers.join_all().await;
}

async fn reaped(store: &dyn SessionStore, now_s: i64, rows_max: usize) -> usize {
    let count = store.reap(now_s, rows_max).await;
    count.expect("the store answers the reaper")
}

fn expiring(expires_at_s: i64) -> SessionRecord {
    SessionRecord {
        expires_at_s,
        ..record(DATA)
    }
}

fn is_committed(verdict: &CommitVerdict) -> bool {
    matches!(verdict, CommitVerdict::Committed)
}

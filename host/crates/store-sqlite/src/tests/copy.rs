//! Copies between two embedded stores: complete, interrupted and resumed, with logouts and writes during the copy.

mod contested;
mod used;

use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;

use crate::{SqliteOptions, SqliteScan, SqliteStore};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::{COPY_ATTEMPTS_MAX, COPY_PAGE_ROWS};
use cloakroom_session::record::{Charset, CommitToken, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::copy::{
    CopyDifferences, CopyEnd, CopyError, CopyProgress, CopyProgressReading, CopySurvey, CopyTotals,
    StoreCopier,
};
use cloakroom_session::store::scan::{OwnColumns, ScanCursor, ScanPage, StoreScan};
use cloakroom_session::store::{
    Commit, CommitVerdict, RowChange, RowVersion, SessionStore, StoreError, StoreErrorKind,
    StoreFuture, Touch,
};

/// Returns a length as the copy counts it.
fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap()
}

const NOW_S: i64 = 1_800_000_000;

/// An embedded store as a host has it open, and a scan of the same file.
struct Place {
    store: SqliteStore,
    scan: SqliteScan,
}

impl Place {
    fn open(directory: &TempDir, name: &str) -> Self {
        let path: PathBuf = directory.path().join(name);
        let options = SqliteOptions {
            wal_bytes: 0,
            ..SqliteOptions::new(&path)
        };
        let store = SqliteStore::open(&options).unwrap();
        let scan = SqliteScan::of_open(&path, &store).unwrap();
        Self { store, scan }
    }

    async fn create(&self, data: &str) -> SessionId {
        let id = SessionId::generate();
        let record = SessionRecord {
            data: Bytes::copy_from_slice(data.as_bytes()),
            expires_at_s: NOW_S + 3600,
            tokens: TokenHistory::default().push(CommitToken::generate()),
            created_at_s: Some(NOW_S - 60),
        };
        self.commit(&id, RowChange::Create(record)).await;
        id
    }

    async fn update(&self, id: &SessionId, data: &str) {
        let base = self.row(id).await.unwrap();
        let record = SessionRecord {
            data: Bytes::copy_from_slice(data.as_bytes()),
            tokens: base.tokens.push(CommitToken::generate()),
            ..base.clone()
        };
        let change = RowChange::Update {
            base: RowVersion::of(&base),
            record,
            new_id: None,
        };
        self.commit(id, change).await;
    }

    async fn log_out(&self, id: &SessionId) {
        self.commit(id, RowChange::Delete { base: None }).await;
    }

    async fn commit(&self, id: &SessionId, change: RowChange) {
        let commit = Commit {
            id: id.clone(),
            change,
        };
        let verdict = self.store.commit_many(&[commit], NOW_S).await.remove(0);
        assert!(matches!(verdict, CommitVerdict::Committed), "{verdict:?}");
    }

    async fn row(&self, id: &SessionId) -> Option<SessionRecord> {
        let rows = self.store.load_many(std::slice::from_ref(id), NOW_S).await;
        rows.unwrap().remove(0)
    }
}

struct Both {
    source: Place,
    target: Place,
    clock: Clock,
    gauge: CopyProgress,
    _directory: TempDir,
}

impl Both {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            source: Place::open(&directory, "source.sqlite"),
            target: Place::open(&directory, "target.sqlite"),
            clock: Clock::manual(NOW_S * 1000),
            gauge: CopyProgress::default(),
            _directory: directory,
        }
    }

    fn copying(&self) -> StoreCopier<'_> {
        StoreCopier {
            source: &self.source.scan,
            target: &self.target.scan,
            writer: &self.target.store,
            clock: &self.clock,
            gauge: &self.gauge,
        }
    }

    async fn copy(&self) -> CopyTotals {
        let mut totals = CopyTotals::default();
        self.copying().copy(&mut totals).await.unwrap();
        totals
    }

    async fn remove(&self) -> CopyTotals {
        let mut totals = CopyTotals::default();
        self.copying().remove(u64::MAX, &mut totals).await.unwrap();
        totals
    }

    async fn verify(&self) -> CopyDifferences {
        self.copying().verify().await.unwrap()
    }
}

fn text(n: usize) -> String {
    format!(r#"{{"cookie":{{}},"n":{n}}}"#)
}

#[tokio::test]
async fn every_row_arrives_with_its_id_expiry_tokens_and_creation_time() {
    let both = Both::open();
    let mut ids = Vec::new();
    for n in 0..(COPY_PAGE_ROWS + 10) {
        ids.push(both.source.create(&text(n)).await);
    }
    let totals = both.copy().await;
    assert_eq!(totals.copied, count(ids.len()));
    for id in &ids {
        let (there, here) = (both.target.row(id).await, both.source.row(id).await);
        assert!(there.is_some() && there == here);
    }
    let expected = CopyDifferences {
        equal: count(ids.len()),
        ..CopyDifferences::default()
    };
    assert_eq!(both.verify().await, expected);
    assert_eq!(
        both.copy().await,
        CopyTotals::default(),
        "a second pass writes nothing"
    );
    // The token is unchanged, so a host on the target can continue from the source host's last commit.
    both.target
        .update(&ids[0], r#"{"cookie":{},"n":"next"}"#)
        .await;
}

#[tokio::test]
async fn only_rows_changed_since_the_last_pass_are_written() {
    let both = Both::open();
    let changed = both.source.create(&text(1)).await;
    let touched = both.source.create(&text(2)).await;
    both.source.create(&text(3)).await;
    both.copy().await;
    both.source.update(&changed, &text(4)).await;
    let touch = Touch {
        id: touched.clone(),
        expires_at_s: NOW_S + 7200,
    };
    both.source.store.touch_many(&[touch], NOW_S).await.unwrap();
    let new = both.source.create(&text(5)).await;
    let totals = both.copy().await;
    let expected = CopyTotals {
        copied: 1,
        replaced: 1,
        extended: 1,
        ..CopyTotals::default()
    };
    assert_eq!(totals, expected);
    for id in [changed, touched, new] {
        assert_eq!(both.target.row(&id).await, both.source.row(&id).await);
    }
}

#[tokio::test]
async fn a_logout_during_the_copy_does_not_come_back() {
    let both = Both::open();
    let stays = both.source.create(&text(1)).await;
    let ends = both.source.create(&text(2)).await;
    both.copy().await;
    both.source.log_out(&ends).await;
    assert_eq!(both.copy().await, CopyTotals::default());
    assert_eq!(
        both.verify().await.extra,
        1,
        "it is told until the last pass"
    );
    assert_eq!(both.remove().await.removed, 1);
    assert!(both.target.row(&ends).await.is_none());
    assert!(both.target.row(&stays).await.is_some());
    let expected = CopyDifferences {
        equal: 1,
        ..CopyDifferences::default()
    };
    assert_eq!(both.verify().await, expected);
}

#[tokio::test]
async fn a_session_that_ends_between_its_listing_and_its_reading_is_not_written() {
    let both = Both::open();
    let ends = both.source.create(&text(1)).await;
    let copying = both.copying();
    let mut walk = copying.walk(CopyEnd::Source, "copying").await;
    let (ids, now_s) = walk.next().await.unwrap().unwrap();
    both.source.log_out(&ends).await;
    let mut totals = CopyTotals::default();
    copying.settle(&ids, now_s, &mut totals).await.unwrap();
    assert_eq!(totals, CopyTotals::default());
    assert!(both.target.row(&ends).await.is_none());
}

#[tokio::test]
async fn rows_written_by_a_host_in_the_target_are_never_overwritten() {
    let both = Both::open();
    let id = both.source.create(&text(1)).await;
    both.copy().await;
    both.target.update(&id, &text(2)).await;
    let totals = both.copy().await;
    assert_eq!((totals.newer, totals.replaced), (1, 0));
    assert_eq!(
        &both.target.row(&id).await.unwrap().data[..],
        text(2).as_bytes()
    );
    assert_eq!(both.verify().await.different, 1);
}

#[tokio::test]
async fn an_expired_row_of_the_target_is_replaced() {
    let both = Both::open();
    let id = both.source.create(&text(1)).await;
    let old = SessionRecord {
        expires_at_s: NOW_S - 1,
        ..both.source.row(&id).await.unwrap()
    };
    both.target.commit(&id, RowChange::Create(old)).await;
    both.copy().await;
    assert_eq!(both.target.row(&id).await, both.source.row(&id).await);
}

/// A source that fails permanently after a few pages.
#[derive(Debug)]
struct Cut<'a> {
    scan: &'a SqliteScan,
    pages_left: std::sync::atomic::AtomicUsize,
}

impl StoreScan for Cut<'_> {
    fn ids_after<'a>(
        &'a self,
        after: &'a ScanCursor,
        _rows_max: usize,
        now_s: i64,
    ) -> StoreFuture<'a, Result<ScanPage, StoreError>> {
        use std::sync::atomic::Ordering::SeqCst;
        let take = |left: usize| left.checked_sub(1);
        if self.pages_left.fetch_update(SeqCst, SeqCst, take).is_err() {
            let error = StoreError {
                kind: StoreErrorKind::Broken,
                detail: "cut".to_owned(),
            };
            return Box::pin(std::future::ready(Err(error)));
        }
        self.scan.ids_after(after, 2, now_s)
    }

    fn rows<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        self.scan.rows(ids, now_s)
    }

    fn count(&self, now_s: i64) -> StoreFuture<'_, Result<u64, StoreError>> {
        self.scan.count(now_s)
    }

    fn own_columns(&self) -> OwnColumns {
        self.scan.own_columns()
    }

    fn charset(&self) -> Charset {
        self.scan.charset()
    }
}

#[tokio::test]
async fn a_copy_that_was_cut_is_finished_by_the_next_one() {
    let both = Both::open();
    for n in 0..10 {
        both.source.create(&text(n)).await;
    }
    let cut = Cut {
        scan: &both.source.scan,
        pages_left: std::sync::atomic::AtomicUsize::new(3),
    };
    let copying = StoreCopier {
        source: &cut,
        ..both.copying()
    };
    let mut totals = CopyTotals::default();
    let error = copying.copy(&mut totals).await.unwrap_err();
    assert_eq!(error.end, CopyEnd::Source);
    assert_eq!(totals.copied, 6);
    assert_eq!(both.copy().await.copied, 4, "only the rest is copied");
    assert_eq!(both.verify().await.equal, 10);
}

#[tokio::test]
async fn the_progress_names_the_phase_and_the_counts() {
    let both = Both::open();
    for n in 0..3 {
        both.source.create(&text(n)).await;
    }
    both.copy().await;
    let expected = CopyProgressReading {
        phase: "copying",
        done: 3,
        total: Some(3),
    };
    assert_eq!(both.gauge.read(), expected);
}

#[test]
fn a_missing_source_file_is_reported_and_not_created() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent.sqlite");
    let error = SqliteScan::open(&path).unwrap_err();
    assert!(error.to_string().contains("absent.sqlite"), "{error}");
    assert!(!path.exists());
}

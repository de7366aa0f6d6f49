//! Measures a session's transaction without a guest, and one commit on each embedded store.

use std::sync::Arc;

use cloakroom_session::record::{CommitToken, SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::store::{Commit, CommitVerdict, RowChange, RowVersion, SessionStore};
use cloakroom_store_sqlite as sqlite;
use cloakroom_store_sqlite::SqliteStore;
use criterion::{Criterion, SamplingMode};

use super::subjects::rows;
use super::subjects::visits::{NativeCounter, Visitor};
use super::{measure, runtime};

const NOW_S: i64 = 1_800_000_000;

/// Load, get, set and commit, on the store in memory.
pub(crate) fn transactions(criterion: &mut Criterion) {
    let (runtime, visitor) = (runtime(), Visitor::new());
    criterion.bench_function("transaction/memory", |b| {
        measure(b, &runtime, async || visitor.visit(NativeCounter).await);
    });
}

/// One commit at a time, of a small session.
pub(crate) fn commits(criterion: &mut Criterion) {
    // In cargo's target folder, because a temporary file system might not flush to a disk.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let options = sqlite::SqliteOptions::new(folder.path().join("sessions.db"));
    let sqlite = SqliteStore::open(&options).expect("a database");
    let stores: [(&str, Arc<dyn SessionStore>); 2] = [
        ("memory", Arc::new(MemoryStore::new())),
        ("sqlite", Arc::new(sqlite)),
    ];
    let runtime = runtime();
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(50).sampling_mode(SamplingMode::Flat);
    for (name, store) in stores {
        let mut row = runtime.block_on(Row::create(store));
        group.bench_function(name, |b| measure(b, &runtime, async || row.update().await));
    }
    group.finish();
}

/// A row that is updated repeatedly.
struct Row {
    store: Arc<dyn SessionStore>,
    id: SessionId,
    record: SessionRecord,
}

impl Row {
    async fn create(store: Arc<dyn SessionStore>) -> Self {
        let record = SessionRecord {
            data: rows::small(),
            expires_at_s: NOW_S + 3600,
            tokens: TokenHistory::default().push(CommitToken::generate()),
            created_at_s: Some(NOW_S),
        };
        let row = Self {
            store,
            id: SessionId::generate(),
            record,
        };
        row.commit(RowChange::Create(row.record.clone())).await;
        row
    }

    async fn update(&mut self) {
        let record = SessionRecord {
            tokens: self.record.tokens.push(CommitToken::generate()),
            ..self.record.clone()
        };
        let change = RowChange::Update {
            base: RowVersion::of(&self.record),
            record: record.clone(),
            new_id: None,
        };
        self.commit(change).await;
        self.record = record;
    }

    async fn commit(&self, change: RowChange) {
        let id = self.id.clone();
        let commits = [Commit { id, change }];
        let verdicts = self.store.commit_many(&commits, NOW_S).await;
        assert!(
            matches!(verdicts[..], [CommitVerdict::Committed]),
            "{verdicts:?}"
        );
    }
}

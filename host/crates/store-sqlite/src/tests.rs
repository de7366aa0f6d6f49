//! Tests of the embedded store through its public interface: the contract, crashes, a second host, waiting calls.

mod copy;
mod files;
mod identity;

use std::fs;
use std::path::Path;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use cloakroom_session::record::{CommitToken, TokenHistory};
use cloakroom_session::store::{RowVersion, StoreErrorKind, contract};

const NOW_S: i64 = contract::NOW_S;

/// A small log, so that tests do not wait for the disk.
fn options(directory: &TempDir) -> SqliteOptions {
    SqliteOptions {
        wal_bytes: 256 << 10,
        ..SqliteOptions::new(directory.path().join("sessions.db"))
    }
}

fn record(data: impl Into<Bytes>) -> SessionRecord {
    SessionRecord {
        data: data.into(),
        expires_at_s: NOW_S + 60,
        tokens: TokenHistory::default().push(CommitToken::generate()),
        created_at_s: Some(NOW_S),
    }
}

fn create(data: impl Into<Bytes>) -> Commit {
    Commit {
        id: SessionId::generate(),
        change: RowChange::Create(record(data)),
    }
}

async fn commit(store: &SqliteStore, commit: &Commit) -> CommitVerdict {
    let mut verdicts = store.commit_many(std::slice::from_ref(commit), NOW_S).await;
    verdicts.remove(0)
}

async fn exists(store: &SqliteStore, commit: &Commit) -> bool {
    let rows = store.load_many(std::slice::from_ref(&commit.id), NOW_S);
    rows.await.expect("the store reads")[0].is_some()
}

/// A foreign connection that holds the database's only write lock until it is dropped.
fn write_lock(options: &SqliteOptions) -> Connection {
    let stranger = Connection::open(&options.path).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    stranger
}

fn file_bytes(path: &Path, suffix: &str) -> Option<u64> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    fs::metadata(name).ok().map(|file| file.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_keeps_the_contract() {
    let directories = parking_lot::Mutex::new(Vec::new());
    let make = async || {
        let directory = TempDir::new().unwrap();
        let store = SqliteStore::open(&options(&directory)).unwrap();
        directories.lock().push(directory);
        Arc::new(store) as Arc<dyn SessionStore>
    };
    contract::check_all(make).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_come_back_and_are_compared() {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(&options(&directory)).unwrap();
    let data = Bytes::from_static(b"\xff\x00{\"cookie\":\xc3}\x00");
    let base = record(data.clone());
    let id = SessionId::generate();
    let create = RowChange::Create(base.clone());
    let created = Commit {
        id: id.clone(),
        change: create,
    };
    assert!(matches!(
        commit(&store, &created).await,
        CommitVerdict::Committed
    ));

    let rows = store.load_many(std::slice::from_ref(&id), NOW_S).await;
    assert_eq!(rows.unwrap()[0].as_ref().unwrap().data, data);
    let update = |base: &SessionRecord| Commit {
        id: id.clone(),
        change: RowChange::Update {
            base: RowVersion::of(base),
            record: record("{}"),
            new_id: None,
        },
    };
    let cut = SessionRecord {
        data: data.slice(..1),
        ..base.clone()
    };
    assert!(matches!(
        commit(&store, &update(&cut)).await,
        CommitVerdict::Conflict
    ));
    assert!(matches!(
        commit(&store, &update(&base)).await,
        CommitVerdict::Committed
    ));
}

#[tokio::test]
async fn a_reopened_database_has_every_commit() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let commits: Vec<_> = (0..50).map(|_| create("{}")).collect();
    let store = SqliteStore::open(&options).unwrap();
    store.commit_many(&commits, NOW_S).await;

    drop(store);

    assert_eq!(file_bytes(&options.path, "-wal"), None, "the log is gone");
    let store = SqliteStore::open(&options).unwrap();
    for commit in &commits {
        assert!(exists(&store, commit).await);
    }
}

#[tokio::test]
async fn an_acknowledged_commit_is_recoverable_from_the_files_on_disk() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let mut commits = Vec::new();
    for n in 0..30 {
        let next = create(format!(r#"{{"cookie":{{}},"n":{n}}}"#));
        assert!(matches!(
            commit(&store, &next).await,
            CommitVerdict::Committed
        ));
        commits.push(next);
    }

    // The files as a killed host leaves them: no checkpoint, no shared index, and the torn beginning of another frame
    // in the log.
    let after_crash = self::options(&TempDir::new_in(directory.path()).unwrap());
    fs::create_dir_all(after_crash.path.parent().unwrap()).unwrap();
    fs::copy(&options.path, &after_crash.path).unwrap();
    let log = fs::read(directory.path().join("sessions.db-wal")).unwrap();
    let used_bytes = used_log_bytes(&options.path);
    let mut torn = log[..used_bytes].to_vec();
    torn.extend(&log[32..632]);
    fs::write(after_crash.path.with_extension("db-wal"), torn).unwrap();

    let recovered = SqliteStore::open(&after_crash).unwrap();
    for commit in &commits {
        assert!(exists(&recovered, commit).await);
    }
    let next = create("{}");
    assert!(matches!(
        commit(&recovered, &next).await,
        CommitVerdict::Committed
    ));
}

/// Returns the length of the part of the log that holds the commits since the log was last restarted.
fn used_log_bytes(path: &Path) -> usize {
    let stranger = Connection::open(path).unwrap();
    let log_pages = |row: &rusqlite::Row<'_>| row.get::<_, i64>(1);
    let log_pages = stranger.query_row("PRAGMA wal_checkpoint(NOOP)", [], log_pages);
    32 + usize::try_from(log_pages.unwrap()).unwrap() * (4096 + 24)
}

#[tokio::test]
async fn a_second_host_on_the_same_file_is_refused_under_any_path() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&options.path, &link).unwrap();
    let roundabout = directory.path().join("x").join("..").join("sessions.db");

    for path in [options.path.clone(), link, roundabout] {
        let error = SqliteStore::open(&SqliteOptions {
            path,
            ..options.clone()
        });
        let error = error.expect_err("the database has a host").to_string();
        assert!(error.contains("in use by another host"), "{error}");
        assert!(error.contains("sessions.db.lock"), "{error}");
    }

    let row = create("{}");
    assert!(matches!(
        commit(&store, &row).await,
        CommitVerdict::Committed
    ));
    drop(store);
    let store = SqliteStore::open(&options).expect("the lock is free again");
    assert!(exists(&store, &row).await);
}

#[tokio::test]
async fn waiting_commits_share_a_transaction() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let lock = write_lock(&options);
    let commits: Vec<_> = (0..100).map(|_| create("{}")).collect();

    // The first commit finds the database locked. The others queue behind it until the lock is released.
    let all = join_all(commits.iter().map(|next| commit(&store, next)));
    let (verdicts, ()) = join(all, async { drop(lock) }).await;

    assert!(
        verdicts
            .iter()
            .all(|v| matches!(v, CommitVerdict::Committed))
    );
    let count = store.transaction_count();
    assert!(
        (1..=2).contains(&count),
        "100 commits in {count} transactions"
    );
}

#[tokio::test]
async fn a_timed_out_commit_is_ambiguous_only_if_the_writer_had_begun() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions {
        timeout: Duration::from_secs(60),
        ..options(&directory)
    };
    let mut store = SqliteStore::open(&options).unwrap();
    store.timeout = Duration::from_secs(1);
    let lock = write_lock(&options);
    let (begun, queued) = (create("{}"), create("{}"));

    let first = commit(&store, &begun).await;
    let second = commit(&store, &queued).await;

    assert!(
        matches!(&first, CommitVerdict::Ambiguous(error) if error.kind == StoreErrorKind::Unavailable),
        "{first:?}"
    );
    assert!(
        matches!(&second, CommitVerdict::Failed(error) if error.kind == StoreErrorKind::Unavailable),
        "{second:?}"
    );
    drop(lock);
    store.timeout = options.timeout;
    let last = create("{}");
    assert!(matches!(
        commit(&store, &last).await,
        CommitVerdict::Committed
    ));
    assert!(exists(&store, &begun).await, "it was applied after all");
    assert!(!exists(&store, &queued).await, "it never was");
}

#[tokio::test]
async fn the_queue_is_bounded_and_refused_commits_are_not_applied() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions {
        queue_calls_max: 2,
        ..options(&directory)
    };
    let store = SqliteStore::open(&options).unwrap();
    let lock = write_lock(&options);
    let commits: Vec<_> = (0..20).map(|_| create("{}")).collect();

    let all = join_all(commits.iter().map(|next| commit(&store, next)));
    let (verdicts, ()) = join(all, async { drop(lock) }).await;

    let mut committed_count = 0;
    for (commit, verdict) in commits.iter().zip(&verdicts) {
        match verdict {
            CommitVerdict::Committed => {
                committed_count += 1;
                assert!(exists(&store, commit).await);
            }
            CommitVerdict::Failed(error) => {
                assert!(error.detail.contains("too many calls"), "{error}");
                assert!(!exists(&store, commit).await);
            }
            other => panic!("committed or refused, not {other:?}"),
        }
    }
    // Two calls in the queue, plus the calls that the writer took before the lock was dropped.
    assert!((2..20).contains(&committed_count), "{committed_count}");
}

#[tokio::test]
async fn a_commit_whose_caller_is_gone_still_takes_effect() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let lock = write_lock(&options);
    let (dropped, next) = (create("{}"), create("{}"));

    {
        let waiting = pin!(commit(&store, &dropped));
        assert!(futures_util::poll!(waiting).is_pending());
    }
    drop(lock);

    assert!(matches!(
        commit(&store, &next).await,
        CommitVerdict::Committed
    ));
    assert!(exists(&store, &dropped).await);
}

//! Tests of the writer on the test's thread, with a disk that is full, read-only or broken.

use std::sync::mpsc;

use rusqlite::ffi;
use tempfile::TempDir;
use tokio::sync::oneshot::Receiver as Answer;

use super::*;
use crate::{SqliteOptions, SqliteStore};
use cloakroom_base::limits::SQLITE_WAL_GROWTH_MAX;
use cloakroom_base::telemetry::CapturedOutput;
use cloakroom_session::record::{SessionId, SessionRecord, TokenHistory};
use cloakroom_session::store::{RowChange, SessionStore as _, StoreErrorKind};

const NOW_S: i64 = 1_000;

struct Fixture {
    options: SqliteOptions,
    writer: SqliteWriter,
    _lock: file::DatabaseLocks,
    _directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let options = SqliteOptions {
            wal_bytes: 64 << 10,
            ..SqliteOptions::new(directory.path().join("sessions.db"))
        };
        let (database, lock) = file::open(&options).unwrap();
        let (_, jobs) = mpsc::channel();
        Self {
            options,
            writer: SqliteWriter::new(database.into_writer(), Arc::default(), jobs),
            _lock: lock,
            _directory: directory,
        }
    }

    fn pragma(&self, name: &str, value: i64) {
        let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let connection = &self.writer.connection;
        match name {
            "max_page_count" => connection
                .pragma_update_and_check(None, name, value, set)
                .map(drop),
            _ => connection.pragma_update(None, name, value),
        }
        .unwrap();
    }

    fn page_count(&self) -> i64 {
        let connection = &self.writer.connection;
        let count = connection.pragma_query_value(None, "page_count", |row| row.get(0));
        count.unwrap()
    }
}

/// Returns the log lines about the file at `path`, each with its level.
fn lines_about(
    captured: &CapturedOutput,
    path: &std::path::Path,
) -> Vec<(String, serde_json::Value)> {
    let text = captured.text();
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["level"].as_str().unwrap().to_owned(), line)
    });
    let path = path.to_str().unwrap();
    lines.filter(|(_, line)| line["path"] == path).collect()
}

type Reply = Answer<Result<Vec<usize>, SqliteWriteError>>;

fn job(id: &SessionId, data_bytes: usize) -> (WriteJob, Reply) {
    let (reply, answer) = oneshot::channel();
    let record = SessionRecord {
        data: "x".repeat(data_bytes).into(),
        expires_at_s: NOW_S,
        tokens: TokenHistory::default(),
        created_at_s: None,
    };
    let commit = Commit {
        id: id.clone(),
        change: RowChange::Create(record),
    };
    let job = WriteJob {
        work: WriteRequest::Commits(vec![commit]),
        now_s: NOW_S,
        claim: Arc::default(),
        reply,
    };
    (job, answer)
}

#[track_caller]
fn assert_unavailable(mut answer: Reply) {
    match answer.try_recv().expect("an answer") {
        Err(SqliteWriteError::NotApplied(error)) => {
            assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
        }
        other => panic!("not applied, not {other:?}"),
    }
}

#[track_caller]
fn assert_written(mut answer: Reply) {
    let changed = answer.try_recv().expect("an answer");
    assert_eq!(changed.expect("it was written"), [1]);
}

#[test]
fn every_commit_is_flushed_to_a_write_ahead_log() {
    let fixture = Fixture::new();
    let connection = &fixture.writer.connection;

    let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
    // Turned off while the log is grown; 2 is FULL.
    let flushes = connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));

    assert_eq!((mode.unwrap().as_str(), flushes.unwrap()), ("wal", 2));
}

#[test]
fn a_full_disk_refuses_only_commits_that_do_not_fit_and_recovers() {
    let mut fixture = Fixture::new();
    fixture.pragma("max_page_count", fixture.page_count() + 1);
    let (big_id, small_id) = (SessionId::generate(), SessionId::generate());
    let (big, big_answer) = job(&big_id, 100_000);
    let (small, small_answer) = job(&small_id, 100);

    fixture.writer.execute(vec![small, big]);

    assert_unavailable(big_answer);
    assert_written(small_answer);
    assert!(fixture.writer.shared.halted().is_none());
    let count = |id| statements::load(&fixture.writer.connection, id, NOW_S).unwrap();
    assert!(count(&small_id).is_some() && count(&big_id).is_none());

    fixture.pragma("max_page_count", 1_000_000);
    let (big, big_answer) = job(&big_id, 100_000);
    fixture.writer.execute(vec![big]);
    assert_written(big_answer);
}

#[test]
fn a_database_that_turns_read_only_refuses_writes_until_it_is_not() {
    let mut fixture = Fixture::new();
    fixture.pragma("query_only", 1);
    let id = SessionId::generate();
    let (refused, answer) = job(&id, 1);
    fixture.writer.execute(vec![refused]);
    assert_unavailable(answer);

    fixture.pragma("query_only", 0);
    let (written, answer) = job(&id, 1);
    fixture.writer.execute(vec![written]);
    assert_written(answer);
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_written_until_the_store_is_opened_anew() {
    let mut fixture = Fixture::new();
    let (before_id, after_id) = (SessionId::generate(), SessionId::generate());
    let (before, answer) = job(&before_id, 1);
    fixture.writer.execute(vec![before]);
    assert_written(answer);

    let failure = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
    let failure = rusqlite::Error::SqliteFailure(failure, None);
    fixture.writer.halt_if_disk_failed(&failure);

    let (after, answer) = job(&after_id, 1);
    fixture.writer.execute(vec![after]);
    assert_unavailable(answer);
    let halted = fixture.writer.shared.halted().unwrap();
    assert!(halted.detail.contains("until restart"), "{halted}");

    let Fixture {
        options,
        writer,
        _lock: lock,
        _directory,
    } = fixture;
    let (jobs, no_jobs) = mpsc::channel();
    drop(jobs);
    SqliteWriter {
        jobs: no_jobs,
        ..writer
    }
    .run();
    let log = options.path.with_extension("db-wal");
    assert!(log.exists(), "closing did not touch the failed disk again");
    drop(lock);
    let store = SqliteStore::open(&options).unwrap();
    let rows = store.load_many(&[before_id, after_id], NOW_S).await;
    let there: Vec<_> = rows.unwrap().iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false]);
}

#[test]
fn a_withdrawn_job_is_not_executed() {
    let fixture = Fixture::new();
    let (taken_back, mut answer) = job(&SessionId::generate(), 1);
    assert!(taken_back.claim.take());

    let batch = fixture.writer.batch(taken_back);

    assert!(batch.is_empty());
    assert!(answer.try_recv().is_err());
}

#[test]
fn a_batch_is_closed_at_its_limit_of_rows() {
    let mut fixture = Fixture::new();
    let (queue, jobs) = mpsc::channel();
    fixture.writer.jobs = jobs;
    let mut answers = Vec::new();
    let mut next = || {
        let (job, answer) = job(&SessionId::generate(), 1);
        answers.push(answer);
        job
    };
    for _ in 0..SQLITE_TRANSACTION_ROWS_MAX + 10 {
        queue.send(next()).unwrap();
    }

    let first = fixture.writer.batch(next());
    let rest = fixture.writer.batch(next());

    assert_eq!(first.len(), SQLITE_TRANSACTION_ROWS_MAX);
    assert_eq!(rest.len(), 12);
}

#[test]
fn a_log_held_long_by_a_reader_is_reported_once_and_truncated_later() {
    let mut fixture = Fixture::new();
    let log = fixture.options.path.canonicalize().unwrap();
    let log = log.with_extension("db-wal");
    let log_bytes = || std::fs::metadata(&log).unwrap().len();
    let (lines, _guard) = CapturedOutput::json_of_this_thread();
    let stranger = Connection::open(&fixture.options.path).unwrap();
    stranger.execute_batch("BEGIN").unwrap();
    let count = "SELECT count(*) FROM sessions";
    let row_count: i64 = stranger.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(row_count, 0);
    let mut write = || {
        let (job, answer) = job(&SessionId::generate(), 400_000);
        fixture.writer.execute(vec![job]);
        fixture.writer.checkpoint_if_due();
        assert_written(answer);
    };
    // 4096 bytes per page, plus 24 in the log.
    let used_bytes = SQLITE_CHECKPOINT_PAGES.unsigned_abs() * (4096 + 24);
    let bytes_max = used_bytes * SQLITE_WAL_GROWTH_MAX;

    while log_bytes() < bytes_max + 2 * used_bytes {
        write();
    }

    let found = lines_about(&lines, &log);
    let [(level, line)] = found.as_slice() else {
        panic!("one line, not {found:?}");
    };
    assert_eq!(level, "WARN");
    assert!(line["bytes"].as_u64().unwrap() > bytes_max, "{line}");
    assert!(
        line["message"].as_str().unwrap().contains("`lsof`"),
        "{line}"
    );

    // The next checkpoint is tried after the same number of pages as before, and the commit after it restarts the log.
    stranger.execute_batch("COMMIT").unwrap();
    let mut write_count = 0;
    while log_bytes() > bytes_max {
        write_count += 1;
        assert!(write_count < 50, "the log is still {} bytes", log_bytes());
        write();
    }
    write();

    let levels: Vec<_> = lines_about(&lines, &log)
        .into_iter()
        .map(|(level, _)| level)
        .collect();
    assert_eq!(levels, ["WARN", "INFO"]);
}

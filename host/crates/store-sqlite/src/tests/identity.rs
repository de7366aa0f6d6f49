//! Tests of how the embedded store recognizes its files: a removed or replaced file, a file with a second name, and the
//! log of another database.

use super::*;

/// Copies the files as a killed host leaves them into a separate folder.
fn after_crash(directory: &TempDir, options: &SqliteOptions, folder: &str) -> SqliteOptions {
    let folder = directory.path().join(folder);
    fs::create_dir(&folder).unwrap();
    let copy = SqliteOptions {
        path: folder.join("sessions.db"),
        ..options.clone()
    };
    fs::copy(&options.path, &copy.path).unwrap();
    fs::copy(log_of(options), log_of(&copy)).unwrap();
    copy
}

fn log_of(options: &SqliteOptions) -> std::path::PathBuf {
    options.path.with_extension("db-wal")
}

async fn halts_without_a_write(store: &SqliteStore) {
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while store.halted().is_none() {
        assert!(std::time::Instant::now() < end, "it is never noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[track_caller]
fn assert_foreign(options: &SqliteOptions) {
    let log = fs::read(log_of(options)).unwrap();
    let error = SqliteStore::open(options).expect_err("the log is not its own");
    assert!(
        matches!(error, SqliteOpenError::ForeignLog { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains("sessions.db-wal") && text.contains("remove the log"),
        "{text}"
    );
    // A scan next to the host does not accept the log either.
    let error = SqliteScan::open(&options.path).expect_err("the log is not its own");
    assert!(matches!(error, ScanError::ForeignLog { .. }), "{error:?}");
    assert!(
        fs::read(log_of(options)).unwrap() == log,
        "it is left alone"
    );
}

#[tokio::test]
async fn after_its_file_was_removed_nothing_is_written_and_reads_go_on() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let before = create("{}");
    assert!(matches!(
        commit(&store, &before).await,
        CommitVerdict::Committed
    ));
    assert!(store.halted().is_none());
    fs::remove_file(&options.path).unwrap();

    let verdict = commit(&store, &create("{}")).await;

    let error = match verdict {
        CommitVerdict::Failed(error) => error,
        other => panic!("not applied, not {other:?}"),
    };
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    for part in ["sessions.db was removed", "restart the host"] {
        assert!(error.detail.contains(part), "{error}");
    }
    assert_eq!(store.halted().unwrap().detail, error.detail);
    assert!(exists(&store, &before).await);
}

#[tokio::test]
async fn a_file_or_a_log_that_was_replaced_is_noticed_without_a_write() {
    for suffix in ["", "-wal"] {
        let directory = TempDir::new().unwrap();
        let options = options(&directory);
        let store = SqliteStore::open(&options).unwrap();
        let mut file = options.path.clone().into_os_string();
        file.push(suffix);
        let other = directory.path().join("other");
        fs::copy(&file, &other).unwrap();
        fs::rename(&other, &file).unwrap();

        halts_without_a_write(&store).await;

        let error = store.halted().unwrap();
        let named = format!("sessions.db{suffix} was replaced by another file");
        assert!(error.detail.contains(&named), "{error}");
        drop(store);
        assert!(log_of(&options).exists(), "what is there is left alone");
    }
}

#[tokio::test]
async fn a_second_name_is_the_same_file() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let second = SqliteOptions {
        path: directory.path().join("second.db"),
        ..options.clone()
    };
    fs::hard_link(&options.path, &second.path).unwrap();

    // On other systems this kind of lock would exclude SQLite's own locks.
    if cfg!(target_os = "linux") {
        let error = SqliteStore::open(&second).expect_err("the file has a host");
        assert!(matches!(error, SqliteOpenError::InUse { .. }), "{error:?}");
    }

    let row = create("{}");
    assert!(matches!(
        commit(&store, &row).await,
        CommitVerdict::Committed
    ));
    drop(store);
    let store = SqliteStore::open(&second).expect("the lock is free again");
    assert!(exists(&store, &row).await);
}

#[tokio::test]
async fn a_log_of_another_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let others = TempDir::new().unwrap();
    let (mine, other) = (options(&directory), options(&others));
    let stores = [&mine, &other].map(|options| SqliteStore::open(options).unwrap());
    for store in &stores {
        assert!(matches!(
            commit(store, &create("{}")).await,
            CommitVerdict::Committed
        ));
    }
    let crashed = after_crash(&directory, &mine, "crashed");

    fs::copy(log_of(&other), log_of(&crashed)).unwrap();
    assert_foreign(&crashed);

    fs::copy(log_of(&mine), log_of(&crashed)).unwrap();
    SqliteStore::open(&crashed).expect("its own log");
}

#[tokio::test]
async fn a_log_beside_a_backup_or_without_a_database_is_refused() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    commit(&store, &create("{}")).await;
    let backup = directory.path().join("backup.db");
    let stranger = Connection::open(&options.path).unwrap();
    let target = backup.to_str().unwrap();
    stranger.execute("VACUUM INTO ?1", [target]).unwrap();
    commit(&store, &create("{}")).await;

    let restored = after_crash(&directory, &options, "restored");
    fs::copy(&backup, &restored.path).unwrap();
    assert_foreign(&restored);

    let bare = after_crash(&directory, &options, "bare");
    fs::remove_file(&bare.path).unwrap();
    assert_foreign(&bare);
    fs::remove_file(log_of(&bare)).unwrap();
    SqliteStore::open(&bare).expect("the remedy that was named");
}

#[tokio::test]
async fn its_own_log_is_taken_after_any_number_of_checkpoints_and_starts() {
    let directory = TempDir::new().unwrap();
    let mut options = options(&directory);
    let mut commits: Vec<Commit> = Vec::new();
    for round in 0..3 {
        let store = SqliteStore::open(&options).unwrap();
        for row in &commits {
            assert!(exists(&store, row).await, "round {round}");
        }
        // Enough pages for two checkpoints, and a few for the log that the next start finds.
        for count in [100; 20].into_iter().chain([3]) {
            let more: Vec<_> = (0..count).map(|_| create("x".repeat(4_000))).collect();
            let verdicts = store.commit_many(&more, NOW_S).await;
            assert!(
                verdicts
                    .iter()
                    .all(|v| matches!(v, CommitVerdict::Committed))
            );
            commits.extend(more.into_iter().take(2));
        }
        options = after_crash(&directory, &options, &format!("round-{round}"));
    }
}

#[tokio::test]
async fn its_own_log_is_taken_after_another_process_made_the_checkpoint() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    commit(&store, &create("{}")).await;
    let stranger = Connection::open(&options.path).unwrap();
    let copied = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let busy = stranger.query_row("PRAGMA wal_checkpoint(RESTART)", [], copied);
    assert_eq!(busy.unwrap(), 0, "all of it");
    // Some of these rows add a page to the database and thereby write the first page.
    let rows: Vec<_> = (0..20).map(|_| create("x".repeat(4_000))).collect();
    store.commit_many(&rows, NOW_S).await;

    let crashed = after_crash(&directory, &options, "crashed");

    drop(SqliteScan::open(&crashed.path).expect("its own log"));
    let recovered = SqliteStore::open(&crashed).expect("its own log");
    assert!(exists(&recovered, &rows[19]).await);
}

//! Tests of the embedded store's files: the log, foreign readers, permissions, and foreign or broken files.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn the_log_is_grown_at_start_and_never_beyond_while_commits_go_on() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions::new(directory.path().join("sessions.db"));
    let store = SqliteStore::open(&options).unwrap();
    let grown_bytes = file_bytes(&options.path, "-wal").unwrap();
    assert!(grown_bytes >= options.wal_bytes);
    let database_bytes = file_bytes(&options.path, "").unwrap();
    assert!(
        database_bytes < 64 << 10,
        "the database is not: {database_bytes}"
    );

    // Far more pages than the log holds: one page per row, because random ids are scattered.
    let mut written_bytes = 0;
    while written_bytes < 3 * options.wal_bytes {
        let commits: Vec<_> = (0..100).map(|_| create("x".repeat(4_000))).collect();
        let verdicts = store.commit_many(&commits, NOW_S).await;
        assert!(
            verdicts
                .iter()
                .all(|v| matches!(v, CommitVerdict::Committed))
        );
        written_bytes += 100 * 4_096;
    }

    assert_eq!(file_bytes(&options.path, "-wal"), Some(grown_bytes));
}

#[tokio::test]
async fn a_long_read_of_another_connection_delays_no_commit_and_sees_one_state() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let first = create("{}");
    commit(&store, &first).await;
    let stranger = Connection::open(&options.path).unwrap();
    let row_count = || -> i64 {
        let count = "SELECT count(*) FROM sessions";
        stranger.query_row(count, [], |row| row.get(0)).unwrap()
    };
    stranger.execute_batch("BEGIN").unwrap();
    assert_eq!(row_count(), 1);

    for _ in 0..20 {
        let commits: Vec<_> = (0..100).map(|_| create("x".repeat(4_000))).collect();
        let verdicts = store.commit_many(&commits, NOW_S).await;
        assert!(
            verdicts
                .iter()
                .all(|v| matches!(v, CommitVerdict::Committed))
        );
    }

    assert_eq!(row_count(), 1, "its snapshot");
    stranger.execute_batch("COMMIT").unwrap();
    assert_eq!(row_count(), 2_001);
}

#[tokio::test]
async fn a_hot_copy_is_a_database_with_all_rows() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let commits: Vec<_> = (0..20).map(|_| create("{}")).collect();
    store.commit_many(&commits, NOW_S).await;
    let copy = SqliteOptions {
        path: directory.path().join("copy.db"),
        ..options.clone()
    };

    let stranger = Connection::open(&options.path).unwrap();
    let target = copy.path.to_str().unwrap();
    stranger.execute("VACUUM INTO ?1", [target]).unwrap();

    let copied = SqliteStore::open(&copy).unwrap();
    for commit in &commits {
        assert!(exists(&copied, commit).await);
    }
}

#[test]
fn missing_directories_are_made_and_all_files_are_private() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions {
        path: directory.path().join("a").join("b").join("sessions.db"),
        ..options(&directory)
    };
    let store = SqliteStore::open(&options).unwrap();
    for name in [
        "sessions.db",
        "sessions.db-wal",
        "sessions.db-shm",
        "sessions.db.lock",
    ] {
        let path = options.path.with_file_name(name);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mode = fs::metadata(options.path.parent().unwrap());
    assert_eq!(mode.unwrap().permissions().mode() & 0o777, 0o700);
    drop(store);
}

#[test]
fn a_path_that_cannot_be_written_is_named_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let open = |path: &Path| {
        let error = SqliteStore::open(&SqliteOptions::new(path)).expect_err("it cannot be opened");
        (error.to_string(), error)
    };

    let (text, error) = open(&file.join("sessions.db"));
    assert!(
        matches!(error, SqliteOpenError::Directory { .. }),
        "{error:?}"
    );
    assert!(text.contains("file/sessions.db"), "{text}");

    for path in [directory.path(), Path::new(""), Path::new("/")] {
        let (_, error) = open(path);
        assert!(
            matches!(error, SqliteOpenError::NotAFile { .. }),
            "{error:?}"
        );
    }

    // On this file system no user can create files, not even root.
    if cfg!(target_os = "linux") {
        let (text, error) = open(Path::new("/sys/sessions.db"));
        assert!(matches!(error, SqliteOpenError::File { .. }), "{error:?}");
        assert!(
            text.contains("cannot write /sys/sessions.db.lock"),
            "{text}"
        );
        assert!(text.contains("a path that its user may write"), "{text}");
    }
}

#[test]
fn a_read_only_directory_is_named_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let set_mode = |mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.path(), permissions).unwrap();
    };
    set_mode(0o500);
    let may_write_anyway = fs::write(directory.path().join("probe"), "").is_ok();

    let opened = SqliteStore::open(&options);

    set_mode(0o700);
    match opened {
        // Root may write even without write permission.
        Ok(_) => assert!(may_write_anyway),
        Err(error) => {
            assert!(!may_write_anyway);
            assert!(matches!(error, SqliteOpenError::File { .. }), "{error:?}");
        }
    }
}

#[test]
fn files_that_are_no_store_of_ours_are_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let open = || SqliteStore::open(&options).expect_err("it is not ours");

    let text = "not a database, and longer than a header ".repeat(200);
    fs::write(&options.path, &text).unwrap();
    let error = open();
    assert!(matches!(error, SqliteOpenError::Sqlite { .. }), "{error:?}");
    assert!(error.to_string().contains("not a database"), "{error}");
    assert_eq!(fs::read_to_string(&options.path).unwrap(), text);
    fs::remove_file(&options.path).unwrap();

    let other = Connection::open(&options.path).unwrap();
    let schema = "CREATE TABLE sessions (sid TEXT PRIMARY KEY, expired INTEGER, sess TEXT)";
    other.execute(schema, []).unwrap();
    drop(other);
    let error = open();
    assert!(matches!(error, SqliteOpenError::Schema { .. }), "{error:?}");
    fs::remove_file(&options.path).unwrap();

    let later = Connection::open(&options.path).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    let error = open();
    assert!(
        matches!(error, SqliteOpenError::TooNew { version: 99, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_corrupt_page_is_broken_and_never_an_absent_session() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let row = create("{}");
    commit(&store, &row).await;
    drop(store);
    // The second page is the root of the table: the file opens, but its rows are lost.
    let mut file = fs::read(&options.path).unwrap();
    file[4_096..8_192].fill(0xff);
    fs::write(&options.path, file).unwrap();

    let store = SqliteStore::open(&options).unwrap();

    let loaded = store.load_many(std::slice::from_ref(&row.id), NOW_S).await;
    let error = loaded.expect_err("nothing is known of the row");
    assert_eq!(error.kind, StoreErrorKind::Broken, "{error}");
    let verdict = commit(&store, &create("{}")).await;
    assert!(
        matches!(&verdict, CommitVerdict::Failed(error) if error.kind == StoreErrorKind::Broken),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn nothing_of_a_session_is_in_debug_or_errors() {
    let directory = TempDir::new().unwrap();
    let options = options(&directory);
    let store = SqliteStore::open(&options).unwrap();
    let row = create(r#"{"cookie":{},"secret":"swordfish"}"#);
    commit(&store, &row).await;
    drop(store);
    let mut file = fs::read(&options.path).unwrap();
    file[4_096..8_192].fill(0xff);
    fs::write(&options.path, file).unwrap();
    let store = SqliteStore::open(&options).unwrap();

    let loaded = store.load_many(std::slice::from_ref(&row.id), NOW_S).await;
    let text = format!(
        "{store:?} {row:?} {:?} {:?}",
        loaded,
        commit(&store, &row).await
    );

    assert!(!text.contains("swordfish") && !text.contains(row.id.as_str()));
    assert!(text.contains("malformed"), "{text}");
}

//! The database as files: path, locks, permissions, connections and the grown log. Knows no rows and no
//! threads.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufReader};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::SqliteOptions;
use super::log::{self, CheckpointMode, WriteAheadLog, beside, checkpoint};
use super::open_error::SqliteOpenError;
use super::origin;
use super::statements::{LOAD, SCHEMA, SCHEMA_VERSION};
use super::watch::DatabaseWatch;
use cloakroom_base::random;

/// The oldest SQLite version whose write-ahead log is safe. Up to 3.51.2, a reset of the log could lose commits.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Longest time that a checkpoint waits for readers.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(20);

/// An opened database: its writing connection, and the data to open more connections.
#[derive(Debug)]
pub(crate) struct SqliteDatabase {
    path: PathBuf,
    writer: Connection,
    log: WriteAheadLog,
    watch: DatabaseWatch,
    file: Arc<File>,
    busy_timeout: Duration,
}

/// The locks that keep other hosts from the database until this is dropped. It must be dropped after every connection:
/// closing any descriptor of the database releases SQLite's locks of this process.
#[derive(Debug)]
pub(crate) struct DatabaseLocks {
    /// Locks the database's path.
    _path: File,
    /// Locks the file itself, which another host may reach under another name (a hard link).
    _database: Arc<File>,
}

/// The parts that the writer works with.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) connection: Connection,
    pub(crate) log: WriteAheadLog,
    pub(crate) watch: DatabaseWatch,
    /// The database file, to read its header.
    pub(crate) file: Arc<File>,
}

/// Takes the locks, creates missing files and prepares the database.
pub(crate) fn open(
    options: &SqliteOptions,
) -> Result<(SqliteDatabase, DatabaseLocks), SqliteOpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        let found = rusqlite::version();
        return Err(SqliteOpenError::SqliteTooOld { found });
    }
    let path = resolve(&options.path)?;
    let path_lock = lock(&path)?;
    let file = Arc::new(create(&path)?);
    let locks = DatabaseLocks {
        _path: path_lock,
        _database: Arc::clone(&file),
    };
    refuse_foreign_log(&file, &path)?;
    // Shorter than the time limit of a call, so that a caller that waits for another process's lock gets a clear error.
    let busy_timeout = options.timeout / 2;
    let writer = connect_writer(&path, &file, busy_timeout)?;
    let log = WriteAheadLog::of(&writer, &path, options.wal_bytes).map_err(|source| {
        SqliteOpenError::Sqlite {
            path: path.clone(),
            source,
        }
    })?;
    if let Err(error) = grow_log(&writer, &file, &path, options.wal_bytes) {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => {
                tracing::warn!(%error, "no room to grow the session database's log: commits will be slower");
            }
            _ => {
                return Err(SqliteOpenError::Sqlite {
                    path,
                    source: error,
                });
            }
        }
    }
    let watch = DatabaseWatch::new(Arc::clone(&file), &options.path, &path).map_err(|source| {
        SqliteOpenError::File {
            path: path.clone(),
            source,
        }
    })?;
    let database = SqliteDatabase {
        path,
        writer,
        log,
        watch,
        file,
        busy_timeout,
    };
    Ok((database, locks))
}

impl SqliteDatabase {
    /// Opens another connection, which cannot write.
    pub(crate) fn connect_reader(&self) -> Result<Connection, SqliteOpenError> {
        let connect = || {
            let connection = connect(&self.path, self.busy_timeout)?;
            connection.pragma_update(None, "query_only", true)?;
            // SQLite opens the log by its path at the first read. Preparing a statement reads the schema, so reads
            // continue even if the files are moved later.
            connection.prepare(LOAD)?;
            Ok(connection)
        };
        connect().map_err(|source| SqliteOpenError::Sqlite {
            path: self.path.clone(),
            source,
        })
    }

    /// Returns the writing connection and the parts that belong to it.
    pub(crate) fn into_writer(self) -> WriterParts {
        WriterParts {
            connection: self.writer,
            log: self.log,
            watch: self.watch,
            file: self.file,
        }
    }
}

/// Runs `work` with a lock wait that is short enough for a thread that callers wait for.
pub(crate) fn with_short_wait<T>(
    connection: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let wait_ms: u32 = connection.pragma_query_value(None, "busy_timeout", |row| row.get(0))?;
    connection.busy_timeout(CHECKPOINT_WAIT)?;
    let result = work();
    connection.busy_timeout(Duration::from_millis(wait_ms.into()))?;
    result
}

/// Returns the database's canonical path, so that two names of one database use the same lock. Creates its directory.
fn resolve(path: &Path) -> Result<PathBuf, SqliteOpenError> {
    let not_a_file = || SqliteOpenError::NotAFile { path: path.into() };
    let name = path.file_name().ok_or_else(not_a_file)?;
    // SQLite would read from a pipe forever.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(not_a_file());
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let unusable = |source| SqliteOpenError::Directory {
        path: path.into(),
        source,
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(unusable)?;
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => Ok(directory.canonicalize().map_err(unusable)?.join(name)),
    }
}

fn lock(path: &Path) -> Result<File, SqliteOpenError> {
    let lock_path = beside(path, ".lock");
    let unusable = |source| SqliteOpenError::File {
        path: lock_path.clone(),
        source,
    };
    let file = open_private(&lock_path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SqliteOpenError::InUse {
            path: path.into(),
            lock_path,
        }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// Creates the database file, empty and with private permissions, so that other users can never read it. SQLite gives
/// its log the same permissions. Also locks the file.
fn create(path: &Path) -> Result<File, SqliteOpenError> {
    let unusable = |source| SqliteOpenError::File {
        path: path.into(),
        source,
    };
    let file = open_private(path).map_err(unusable)?;
    // On other systems this kind of lock excludes SQLite's own locks.
    if cfg!(target_os = "linux") {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SqliteOpenError::InUse {
                    path: path.into(),
                    lock_path: path.into(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
    }
    let metadata = file.metadata().map_err(unusable)?;
    if metadata.nlink() > 1 {
        tracing::warn!(
            path = %path.display(),
            "the session database has several names (hard links), and SQLite keeps a log next to the name by which it is opened: \
             always start the host with the same name, or remove the others"
        );
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine may read the session database: chmod it to 600"
        );
    }
    Ok(file)
}

fn refuse_foreign_log(database: &File, path: &Path) -> Result<(), SqliteOpenError> {
    let log_path = beside(path, "-wal");
    let is_foreign = match File::open(&log_path) {
        Ok(log) => origin::is_foreign(database, BufReader::new(log)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    match is_foreign {
        Ok(false) => Ok(()),
        Ok(true) => Err(SqliteOpenError::ForeignLog {
            path: path.into(),
            log_path,
        }),
        Err(source) => Err(SqliteOpenError::File {
            path: log_path,
            source,
        }),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

fn connect_writer(
    path: &Path,
    file: &File,
    busy_timeout: Duration,
) -> Result<Connection, SqliteOpenError> {
    let failed = |source| SqliteOpenError::Sqlite {
        path: path.into(),
        source,
    };
    let connection = connect(path, busy_timeout).map_err(failed)?;
    let version = "PRAGMA user_version";
    let version: i64 = connection
        .query_row(version, [], |row| row.get(0))
        .map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(SqliteOpenError::TooNew {
            path: path.into(),
            version,
        });
    }
    let prepare = || {
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // For systems where fsync alone does not reach the disk (macOS). No effect elsewhere.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // The writer runs checkpoints between transactions, when no caller waits for it.
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    };
    prepare().map_err(failed)?;
    let create_schema = || {
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
        // This transaction may be the first of a new log.
        mark(&transaction, origin::stamp(file))?;
        transaction.execute_batch(SCHEMA)?;
        transaction.prepare(LOAD)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    create_schema().map_err(|source| SqliteOpenError::Schema {
        path: path.into(),
        source,
    })?;
    Ok(connection)
}

fn connect(path: &Path, busy_timeout: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Sets the mark in the database's header by which a log and its database recognize each other ([`origin`]).
pub(crate) fn mark(connection: &Connection, mark: i32) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", mark)
}

/// Grows the log to `wal_bytes` by repeatedly writing the same page without flushes, so that the database does not grow
/// as well.
///
/// The log is copied into the database and flushed before and after, so no committed data is at risk.
fn grow_log(
    connection: &Connection,
    file: &File,
    path: &Path,
    wal_bytes: u64,
) -> rusqlite::Result<()> {
    checkpoint(connection, CheckpointMode::Restart)?;
    mark(connection, origin::stamp(file))?;
    // Different at each start, so that two databases with the same history have different marks.
    let [first, second, third, fourth, ..] = random::name();
    mark(
        connection,
        i32::from_be_bytes([first >> 1, second, third, fourth]),
    )?;
    let log_bytes = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    if log_bytes >= wal_bytes {
        return Ok(());
    }
    let frame_count = wal_bytes / log::frame_bytes(connection)? + 1;
    connection.pragma_update(None, "synchronous", "OFF")?;
    let rewrite_first_page = || connection.pragma_update(None, "user_version", SCHEMA_VERSION);
    let grown = (0..frame_count).try_for_each(|_| rewrite_first_page());
    connection.pragma_update(None, "synchronous", "FULL")?;
    checkpoint(connection, CheckpointMode::Restart)?;
    grown
}

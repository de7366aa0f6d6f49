//! The database as files: path, lock, permissions, connections, checkpoints, the grown log. Knows no rows and no threads.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::Options;
use super::log::{self, Log};
use super::statements::{LOAD, SCHEMA, SCHEMA_VERSION};

/// The oldest SQLite whose write-ahead log can be trusted: up to 3.51.2 a reset of the log could lose commits.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Longest wait of a checkpoint for readers.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(20);

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path names no file.
    #[error("{} is not the path of a file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The directory cannot be made or found.
    #[error("cannot use the directory of the session database {}: {source}", path.display())]
    Directory {
        /// The database's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be created or opened for writing.
    #[error("cannot write {}: {source}; give the host a path that its user may write", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another host has it.
    #[error(
        "the session database {} is in use by another host (which holds {}): stop that one, or give this one another path",
        path.display(), lock_path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The file whose lock is held.
        lock_path: PathBuf,
    },
    /// The file is some other kind of database.
    #[error("{} holds something else than Cloakroom's sessions: {source}", path.display())]
    Schema {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file was written by a later release.
    #[error(
        "the session database {} has schema version {version}, written by a later release; this one knows {SCHEMA_VERSION}",
        path.display()
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// SQLite cannot open or prepare the file.
    #[error("cannot open the session database {}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The SQLite this program was built with may lose commits.
    #[error("SQLite {found} may corrupt a write-ahead log; 3.51.3 or later is needed")]
    SqliteTooOld {
        /// Its version.
        found: &'static str,
    },
    /// The system gave no thread.
    #[error("cannot start a thread for the session database: {0}")]
    Thread(#[source] io::Error),
}

/// An opened database: its writing connection, and the way to more.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    writer: Connection,
    log: Log,
    busy_timeout: Duration,
}

/// Takes the lock, creates what is missing, prepares the file; the lock lasts until its file is dropped.
pub(super) fn open(options: &Options) -> Result<(Database, File), OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        let found = rusqlite::version();
        return Err(OpenError::SqliteTooOld { found });
    }
    let path = resolve(&options.path)?;
    let lock = lock(&path)?;
    create(&path)?;
    // Shorter than a call may take, so that who waits for a stranger's lock gets a clear answer.
    let busy_timeout = options.timeout / 2;
    let writer = connect_writer(&path, busy_timeout)?;
    let log = Log::of(&writer, &path, options.wal_bytes).map_err(|source| OpenError::Sqlite {
        path: path.clone(),
        source,
    })?;
    if let Err(error) = grow_log(&writer, &path, options.wal_bytes) {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => {
                tracing::warn!(%error, "no room to grow the session database's log: commits will be slower");
            }
            _ => {
                return Err(OpenError::Sqlite {
                    path,
                    source: error,
                });
            }
        }
    }
    let database = Database {
        path,
        writer,
        log,
        busy_timeout,
    };
    Ok((database, lock))
}

impl Database {
    /// One more connection, which cannot write.
    pub(super) fn connect_reader(&self) -> Result<Connection, OpenError> {
        let connect = || {
            let connection = connect(&self.path, self.busy_timeout)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        connect().map_err(|source| OpenError::Sqlite {
            path: self.path.clone(),
            source,
        })
    }

    /// The connection that writes, and its log.
    pub(super) fn into_writer(self) -> (Connection, Log) {
        (self.writer, self.log)
    }
}

/// How much of the log is to be copied into the database.
#[derive(Clone, Copy, Debug)]
pub(super) enum CheckpointMode {
    /// Nothing: only tells the log's length.
    Noop,
    /// All of it, so that the next write starts at the log's beginning. The file keeps its length.
    Restart,
}

/// What a checkpoint found and did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checkpoint {
    /// Pages in the log.
    pub(super) log_pages: i64,
    /// Whether nobody was in the way.
    pub(super) is_complete: bool,
}

/// Runs a checkpoint, waiting for readers as long as the connection waits for any lock.
pub(super) fn checkpoint(
    connection: &Connection,
    mode: CheckpointMode,
) -> rusqlite::Result<Checkpoint> {
    let sql = match mode {
        CheckpointMode::Noop => "PRAGMA wal_checkpoint(NOOP)",
        CheckpointMode::Restart => "PRAGMA wal_checkpoint(RESTART)",
    };
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([], |row| {
        Ok(Checkpoint {
            is_complete: row.get::<_, i64>(0)? == 0,
            log_pages: row.get(1)?,
        })
    })
}

/// Runs `work` with a wait for locks that is short enough for a thread that others wait for.
pub(super) fn with_short_wait<T>(
    connection: &Connection,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let wait_ms: u32 = connection.pragma_query_value(None, "busy_timeout", |row| row.get(0))?;
    connection.busy_timeout(CHECKPOINT_WAIT)?;
    let result = work();
    connection.busy_timeout(Duration::from_millis(wait_ms.into()))?;
    result
}

/// The database's one true path, so that two names of it meet at the same lock. Makes its directory.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let not_a_file = || OpenError::NotAFile { path: path.into() };
    let name = path.file_name().ok_or_else(not_a_file)?;
    // SQLite would read from a pipe for ever.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(not_a_file());
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let unusable = |source| OpenError::Directory {
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

fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let unusable = |source| OpenError::File {
        path: lock_path.clone(),
        source,
    };
    let file = open_private(&lock_path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: path.into(),
            lock_path,
        }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// Creates the database file, empty, so that it is never readable by others; SQLite gives its log the same permissions.
fn create(path: &Path) -> Result<(), OpenError> {
    let file = open_private(path).and_then(|file| file.metadata());
    let metadata = file.map_err(|source| OpenError::File {
        path: path.into(),
        source,
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine may read the session database: chmod it to 600"
        );
    }
    Ok(())
}

fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

fn connect_writer(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Sqlite {
        path: path.into(),
        source,
    };
    let connection = connect(path, busy_timeout).map_err(failed)?;
    let version = "PRAGMA user_version";
    let version: i64 = connection
        .query_row(version, [], |row| row.get(0))
        .map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(OpenError::TooNew {
            path: path.into(),
            version,
        });
    }
    let prepare = || {
        connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Where fsync alone does not reach the disk (macOS); nothing elsewhere.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // The writer checkpoints between transactions, when nobody waits for it.
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    };
    prepare().map_err(failed)?;
    let create_schema = || {
        connection.execute_batch(SCHEMA)?;
        connection.prepare(LOAD)?;
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)
    };
    create_schema().map_err(|source| OpenError::Schema {
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

/// Grows the log to `wal_bytes` by writing the same page again and again, unflushed, so that the database does not grow with it.
///
/// The log is copied into the database and flushed before and after, so nothing that was committed is ever at stake.
fn grow_log(connection: &Connection, path: &Path, wal_bytes: u64) -> rusqlite::Result<()> {
    checkpoint(connection, CheckpointMode::Restart)?;
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

/// The file of the same name and a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

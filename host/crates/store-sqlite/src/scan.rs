//! Reads an embedded store's file, even while a host has it open: short reads over a connection that cannot write. Does
//! not take the store's own locks.
//!
//! Each read is one statement, so it never keeps the log from being reused. The last pass of a copy opens the source as a host
//! does, and so holds its lock.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, params};

use super::fault::{store_error, unavailable};
use super::log::beside;
use super::statements::{self, SCHEMA_VERSION};
use super::{SqliteStore, origin};
use cloakroom_base::limits::SQLITE_TIMEOUT;
use cloakroom_session::record::{Charset, SessionId, SessionRecord};
use cloakroom_session::store::scan::{OwnColumns, ScanCursor, ScanPage, StoreScan};
use cloakroom_session::store::{StoreError, StoreFuture};

const IDS_AFTER: &str = "
    SELECT session_id FROM sessions WHERE session_id > ?1 AND expires >= ?2 ORDER BY session_id LIMIT ?3";

const COUNT: &str = "SELECT count(*) FROM sessions WHERE expires >= ?1";

/// How often a log that seems to belong to another database is checked while a host changes the database.
const LOG_LOOKS_MAX: u32 = 5;

/// The rows of an embedded store, whether a host uses it or not.
///
/// Dropping it does not copy the write-ahead log into the database. Only the host does that.
#[derive(Debug)]
pub struct SqliteScan {
    path: PathBuf,
    /// Its calls block, so they run on the runtime's blocking threads.
    connection: Arc<Mutex<Connection>>,
}

/// Error returned when a file cannot be read as an embedded store.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file does not exist, or this user must not read it.
    #[error("cannot read the session database {}: {source}", path.display())]
    File {
        /// The path as given.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// The log next to the database was written for another database, or for another state of this one.
    #[error(
        "the log {} was not written for the session database {}: SQLite would read corrupt data",
        log_path.display(), path.display()
    )]
    ForeignLog {
        /// The database's path.
        path: PathBuf,
        /// The log's path.
        log_path: PathBuf,
    },
    /// The file is another kind of database, or was written by a later release.
    #[error(
        "{} holds no sessions in a format that this release knows (schema version {version}, expected {SCHEMA_VERSION})",
        path.display()
    )]
    Schema {
        /// The file's path.
        path: PathBuf,
        /// The schema version in the file.
        version: i64,
    },
    /// SQLite cannot open or read the file.
    #[error("cannot read the session database {}: {source}", path.display())]
    Sqlite {
        /// The file's path.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
}

impl SqliteScan {
    /// Opens the database for reading. Creates no database file, and blocks for one read of the log.
    ///
    /// This process must not have the database open; use [`SqliteScan::of_open`] then.
    ///
    /// # Errors
    /// Returns an error if the file is missing, cannot be read, has another database's log next to it, or is not a
    /// database of this store.
    pub fn open(path: &Path) -> Result<Self, ScanError> {
        let unreadable = |source| ScanError::File {
            path: path.into(),
            source,
        };
        let found = fs::metadata(path).map_err(unreadable)?;
        if !found.is_file() {
            return Err(ScanError::NotAFile { path: path.into() });
        }
        if let Some(log_path) = foreign_log(path).map_err(unreadable)? {
            let path = path.into();
            return Err(ScanError::ForeignLog { path, log_path });
        }
        Self::connect(path)
    }

    /// Like [`SqliteScan::open`], for the file of a store that this process has open. The store has already checked the
    /// log. A second check would close a descriptor of the database, and that releases the store's locks (POSIX).
    ///
    /// # Errors
    /// The same as for [`SqliteScan::open`].
    pub fn of_open(path: &Path, _store: &SqliteStore) -> Result<Self, ScanError> {
        Self::connect(path)
    }

    fn connect(path: &Path) -> Result<Self, ScanError> {
        let failed = |source| ScanError::Sqlite {
            path: path.into(),
            source,
        };
        let connection = connect(path).map_err(failed)?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?;
        if version != SCHEMA_VERSION {
            let path = path.into();
            return Err(ScanError::Schema { path, version });
        }
        Ok(Self {
            path: path.into(),
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Returns the path as given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a read on a blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || {
            // A panic leaves no transaction open, because each read is one statement.
            let connection = connection.lock();
            work(&connection).map_err(|error| store_error(&error, "reading sessions"))
        });
        match task.await {
            Ok(result) => result,
            Err(_) => Err(unavailable(
                "the reader of the session database has stopped",
            )),
        }
    }
}

/// Returns the path of the log next to the database if the log belongs to another database.
fn foreign_log(path: &Path) -> io::Result<Option<PathBuf>> {
    // SQLite keeps the log next to the target of a symbolic link.
    let path = path.canonicalize()?;
    let log_path = beside(&path, "-wal");
    let database = File::open(&path)?;
    for _ in 0..LOG_LOOKS_MAX {
        let stamp_before = origin::stamp(&database);
        let log = match File::open(&log_path) {
            Ok(log) => BufReader::new(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !origin::is_foreign(&database, log)? {
            return Ok(None);
        }
        // A running host may have copied its log into the database and restarted the log in the meantime. The header
        // and the log are then from different times, so check again.
        if origin::stamp(&database) == stamp_before {
            return Ok(Some(log_path));
        }
    }
    // Only a running host changes the database this often, and a host checks the log when it starts.
    Ok(None)
}

/// Opens the connection in read-write mode, because reading a log without its index requires a connection that can
/// rebuild the index.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(SQLITE_TIMEOUT / 2)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

impl StoreScan for SqliteScan {
    fn ids_after<'a>(
        &'a self,
        after: &'a ScanCursor,
        rows_max: usize,
        now_s: i64,
    ) -> StoreFuture<'a, Result<ScanPage, StoreError>> {
        Box::pin(async move {
            let after = after.as_bytes().to_vec();
            let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
            let keys = self.read(move |connection| {
                let mut statement = connection.prepare_cached(IDS_AFTER)?;
                let after = ToSqlOutput::Borrowed(ValueRef::Text(&after));
                let keys = statement.query_map(params![after, now_s, limit], |row| {
                    Ok(row.get_ref(0)?.as_bytes()?.to_vec())
                })?;
                keys.collect::<rusqlite::Result<Vec<_>>>()
            });
            Ok(ScanPage::of(keys.await?, rows_max))
        })
    }

    fn rows<'a>(
        &'a self,
        ids: &'a [SessionId],
        now_s: i64,
    ) -> StoreFuture<'a, Result<Vec<Option<SessionRecord>>, StoreError>> {
        Box::pin(async move {
            let ids = ids.to_vec();
            self.read(move |connection| {
                let rows = ids.iter().map(|id| statements::load(connection, id, now_s));
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await
        })
    }

    fn count(&self, now_s: i64) -> StoreFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let counted = self.read(move |connection| {
                connection.query_row(COUNT, [now_s], |row| row.get::<_, i64>(0))
            });
            Ok(u64::try_from(counted.await?).unwrap_or(0))
        })
    }

    fn own_columns(&self) -> OwnColumns {
        OwnColumns {
            tokens: true,
            created: true,
        }
    }

    fn charset(&self) -> Charset {
        Charset::Unicode
    }
}

//! Errors of opening an embedded store, with their remedies. Knows only the paths of files.

use std::io;
use std::path::PathBuf;

use super::statements::SCHEMA_VERSION;

/// Error returned when an embedded store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// The path does not name a file.
    #[error("{} is not the path of a file", path.display())]
    NotAFile {
        /// The configured path.
        path: PathBuf,
    },
    /// The directory cannot be created or found.
    #[error("cannot use the directory of the session database {}: {source}", path.display())]
    Directory {
        /// The database's path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file cannot be created or opened for writing.
    #[error("cannot write {}: {source}; give the host a path that its user may write", path.display())]
    File {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another host uses the database.
    #[error(
        "the session database {} is in use by another host (which holds {}): stop that host, or give this host another path",
        path.display(), lock_path.display()
    )]
    InUse {
        /// The database's path.
        path: PathBuf,
        /// The file whose lock is held.
        lock_path: PathBuf,
    },
    /// The log next to the database was written for another database, or for another state of this one.
    #[error(
        "the log {} was not written for the session database {}: put the database back that belongs to the log, \
         or remove the log, which gives up the commits in it",
        log_path.display(), path.display()
    )]
    ForeignLog {
        /// The database's path.
        path: PathBuf,
        /// The log's path.
        log_path: PathBuf,
    },
    /// The file is another kind of database.
    #[error("{} is not a database of Cloakroom's sessions: {source}", path.display())]
    Schema {
        /// The database's path.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The file was written by a later release.
    #[error(
        "the session database {} has schema version {version}, written by a later release; this one knows {SCHEMA_VERSION}",
        path.display()
    )]
    TooNew {
        /// The database's path.
        path: PathBuf,
        /// The schema version in the database.
        version: i64,
    },
    /// SQLite cannot open or prepare the file.
    #[error("cannot open the session database {}: {source}", path.display())]
    Sqlite {
        /// The database's path.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// The SQLite version that this program was built with may lose commits.
    #[error("SQLite {found} may corrupt a write-ahead log; 3.51.3 or later is needed")]
    SqliteTooOld {
        /// The SQLite version.
        found: &'static str,
    },
    /// The operating system could not start a thread.
    #[error("cannot start a thread for the session database: {0}")]
    Thread(#[source] io::Error),
}

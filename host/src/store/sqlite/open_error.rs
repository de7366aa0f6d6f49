//! Why an embedded store could not be opened, with the remedy. Knows no files beyond their paths.

use std::io;
use std::path::PathBuf;

use super::statements::SCHEMA_VERSION;

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
    /// The log beside the database was written for another one, or for another state of it.
    #[error(
        "the log {} was not written for the session database {}: put the database back that belongs to the log, \
         or remove the log, which gives up the commits in it",
        log_path.display(), path.display()
    )]
    ForeignLog {
        /// The database.
        path: PathBuf,
        /// The log.
        log_path: PathBuf,
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

//! The write-ahead log: copies it into the database, limits its length, and logs when a reader keeps it above the limit.
//! Knows no rows and no threads.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use cloakroom_base::limits::{SQLITE_CHECKPOINT_PAGES, SQLITE_WAL_GROWTH_MAX};

/// Number of bytes that the log adds to each page.
const FRAME_HEADER_BYTES: u64 = 24;

/// The write-ahead log of one database.
#[derive(Debug)]
pub(crate) struct WriteAheadLog {
    path: PathBuf,
    frame_bytes: u64,
    bytes_max: u64,
    /// Whether the warning was logged. It is logged once until a checkpoint is complete.
    is_overgrown: bool,
}

/// How much of the log is copied into the database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CheckpointMode {
    /// Nothing: only reports the log's length.
    Noop,
    /// All of it, so that the next write starts at the beginning of the log. The file keeps its length.
    Restart,
}

/// The result of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointResult {
    /// Number of pages in the log.
    pub(crate) log_pages: i64,
    /// Whether no other connection prevented the checkpoint from completing.
    pub(crate) is_complete: bool,
}

impl WriteAheadLog {
    /// Returns the log of the database at `path`. The connection truncates the file to its limit when it restarts the
    /// log.
    pub(crate) fn of(
        connection: &Connection,
        path: &Path,
        wal_bytes: u64,
    ) -> rusqlite::Result<Self> {
        let frame_bytes = frame_bytes(connection)?;
        // The log reaches this length between two checkpoints, even if it was not grown to it.
        let used_bytes = SQLITE_CHECKPOINT_PAGES.unsigned_abs() * frame_bytes;
        let bytes_max = wal_bytes
            .max(used_bytes)
            .saturating_mul(SQLITE_WAL_GROWTH_MAX);
        let limit = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        connection.pragma_update(None, "journal_size_limit", limit)?;
        Ok(Self {
            path: beside(path, "-wal"),
            frame_bytes,
            bytes_max,
            is_overgrown: false,
        })
    }

    /// Records a checkpoint. Warns once when the log exceeds its limit, and logs once when a later checkpoint is
    /// complete.
    pub(crate) fn note(&mut self, checkpoint: CheckpointResult) {
        let pages = u64::try_from(checkpoint.log_pages).unwrap_or(0);
        let is_long = pages.saturating_mul(self.frame_bytes) > self.bytes_max;
        if !checkpoint.is_complete && is_long && !self.is_overgrown {
            self.is_overgrown = true;
            tracing::warn!(
                path = %self.path.display(),
                bytes = self.file_bytes(),
                "the session database's log grows, because another process keeps a read of the database open (a backup that hangs, \
                 an open shell): find the process with `lsof` on the database's file and end it"
            );
        } else if checkpoint.is_complete && self.is_overgrown {
            self.is_overgrown = false;
            tracing::info!(
                path = %self.path.display(),
                bytes = self.file_bytes(),
                bytes_max = self.bytes_max,
                "the session database's log was copied into the database; the next commit shortens it"
            );
        }
    }

    fn file_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |log| log.len())
    }
}

/// Returns the number of bytes that one page takes in the log.
pub(crate) fn frame_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(u64::from(page_bytes) + FRAME_HEADER_BYTES)
}

/// Runs a checkpoint. It waits for readers as long as the connection waits for any lock.
pub(crate) fn checkpoint(
    connection: &Connection,
    mode: CheckpointMode,
) -> rusqlite::Result<CheckpointResult> {
    let sql = match mode {
        CheckpointMode::Noop => "PRAGMA wal_checkpoint(NOOP)",
        CheckpointMode::Restart => "PRAGMA wal_checkpoint(RESTART)",
    };
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([], |row| {
        Ok(CheckpointResult {
            is_complete: row.get::<_, i64>(0)? == 0,
            log_pages: row.get(1)?,
        })
    })
}

/// Returns the path with `suffix` appended to the file name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

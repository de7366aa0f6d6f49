//! Limits the length of the write-ahead log, and logs when a reader keeps it above the limit. Knows no rows and no
//! threads.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::file::{self, CheckpointResult};
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
            path: file::beside(path, "-wal"),
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

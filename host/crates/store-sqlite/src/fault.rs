//! The meaning of SQLite's errors for the request (retry later or not) and for the store (continue or refuse all
//! writes).

use rusqlite::ffi;

use cloakroom_session::store::{StoreError, StoreErrorKind};

/// Error of a write that did not return counts.
#[derive(Clone, Debug)]
pub(crate) enum SqliteWriteError {
    /// No part of it is in the database or ever will be.
    NotApplied(StoreError),
    /// It may be in the database, or may be found there after a restart.
    Unknown(StoreError),
}

impl From<SqliteWriteError> for StoreError {
    fn from(error: SqliteWriteError) -> Self {
        match error {
            SqliteWriteError::NotApplied(error) | SqliteWriteError::Unknown(error) => error,
        }
    }
}

/// Returns an error of the store itself: no queue space, or no answer in time.
pub(crate) fn unavailable(detail: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unavailable,
        detail: detail.into(),
    }
}

/// Converts `error` for the request. The text contains SQL and SQLite's message, but never values.
pub(crate) fn store_error(error: &rusqlite::Error, doing: &str) -> StoreError {
    use rusqlite::ErrorCode as Code;
    let kind = match error.sqlite_error_code() {
        Some(
            Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::ReadOnly
            | Code::DiskFull
            | Code::SystemIoFailure
            | Code::OutOfMemory
            | Code::CannotOpen
            | Code::PermissionDenied
            | Code::OperationInterrupted,
        ) => StoreErrorKind::Unavailable,
        Some(Code::TooBig) => StoreErrorKind::TooLarge,
        _ => StoreErrorKind::Broken,
    };
    let code = match error.sqlite_error() {
        Some(sqlite) => format!(" (SQLite result code {})", sqlite.extended_code),
        None => String::new(),
    };
    StoreError {
        kind,
        detail: format!("{doing}: {error}{code}"),
    }
}

/// Returns whether the disk itself failed.
///
/// After a failed flush the kernel may drop the pages and report the next flush as successful. Nothing that is written
/// from then on can be trusted, and the file must be read again. Failures of memory or of the shared index (`-shm`,
/// never flushed and rebuilt at every start) lose nothing.
pub(crate) fn is_disk_failure(error: &rusqlite::Error) -> bool {
    let Some(sqlite) = error.sqlite_error() else {
        return false;
    };
    let is_harmless = matches!(
        sqlite.extended_code,
        ffi::SQLITE_IOERR_NOMEM
            | ffi::SQLITE_IOERR_SHMOPEN
            | ffi::SQLITE_IOERR_SHMSIZE
            | ffi::SQLITE_IOERR_SHMMAP
            | ffi::SQLITE_IOERR_SHMLOCK
    );
    sqlite.code == rusqlite::ErrorCode::SystemIoFailure && !is_harmless
}

/// Returns whether a failed COMMIT certainly left nothing behind: the disk was full, so its last frame was not written.
pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(extended_code: std::ffi::c_int) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None)
    }

    #[test]
    fn transient_errors_are_unavailable_and_a_corrupt_file_is_broken() {
        let kind = |code| store_error(&failure(code), "testing").kind;
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_CANTOPEN,
        ] {
            assert_eq!(kind(code), StoreErrorKind::Unavailable, "code {code}");
        }
        assert_eq!(kind(ffi::SQLITE_TOOBIG), StoreErrorKind::TooLarge);
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_ERROR] {
            assert_eq!(kind(code), StoreErrorKind::Broken, "code {code}");
        }
    }

    #[test]
    fn a_failed_flush_or_write_is_a_disk_failure_and_a_full_disk_is_not() {
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR,
        ] {
            assert!(is_disk_failure(&failure(code)), "code {code}");
        }
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_IOERR_NOMEM,
            ffi::SQLITE_IOERR_SHMSIZE,
        ] {
            assert!(!is_disk_failure(&failure(code)), "code {code}");
        }
    }
}

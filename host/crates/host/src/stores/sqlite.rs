//! `sqlite:PATH`: sessions in a file of this machine. This is the default store. It has no keys of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    ConfiguredStore, CopySource, CopyTarget, OpenStore, SourceWriters, StoreChoice, StoreFactory,
    StoreLocation,
};
use crate::config_reader::Section;
use crate::config_reader::fault::{ConfigFault, SettingOrigin};
use crate::config_reader::kinds::ValueError;
use crate::failure::{StartError, StartFailure};
use cloakroom_base::clock::Clock;
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_session::store::{SessionStore, StoreFuture};
use cloakroom_store_sqlite::{ScanError, SqliteOpenError, SqliteOptions, SqliteScan, SqliteStore};

/// The default path of the embedded store, relative to the working directory.
pub(crate) const DEFAULT_SQLITE_PATH: &str = ".cloakroom/sessions.sqlite";

/// Descriptors of the embedded database: three connections with a database file and a log each, and the lock file.
const DESCRIPTORS: u64 = 16;

/// The kind of store in a SQLite file.
pub(crate) struct SqliteFactory;

/// A store in this file.
#[derive(Debug)]
struct ConfiguredSqlite(PathBuf);

impl StoreFactory for SqliteFactory {
    fn schemes(&self) -> &'static [&'static str] {
        &["sqlite", "sqlite3"]
    }

    fn url_form(&self) -> &'static str {
        "sqlite:PATH"
    }

    fn check_url(&self, rest: &str) -> Result<(), ValueError> {
        parse(rest).map(|_| ())
    }

    fn read(
        &self,
        section: &mut Section<'_>,
        choice: StoreChoice<'_>,
    ) -> Option<Arc<dyn ConfiguredStore>> {
        let path = match choice {
            StoreChoice::Url(rest) => {
                let is_in_file = matches!(section.origin_of("url"), SettingOrigin::File { .. });
                let base = if is_in_file {
                    section.base()
                } else {
                    Path::new("")
                };
                base.join(parse(rest).ok()?)
            }
            StoreChoice::Keys => DEFAULT_SQLITE_PATH.into(),
            StoreChoice::Other | StoreChoice::Unknown => return None,
        };
        Some(Arc::new(ConfiguredSqlite(path)))
    }
}

/// Returns the path of a URL.
fn parse(rest: &str) -> Result<&str, ValueError> {
    match rest.strip_prefix("//").unwrap_or(rest) {
        "" | ":memory:" => Err(ValueError::new(
            "names no file",
            "write \"sqlite:PATH\", or \"memory:\" for a store that ends with the host",
        )),
        path => Ok(path),
    }
}

impl ConfiguredStore for ConfiguredSqlite {
    fn place(&self) -> String {
        format!("in {}", self.0.display())
    }

    fn location(&self) -> StoreLocation<'_> {
        StoreLocation::File(&self.0)
    }

    fn descriptors(&self) -> u64 {
        DESCRIPTORS
    }

    fn changed_keys(&self, new: &(dyn ConfiguredStore + 'static)) -> Vec<&'static str> {
        match new.downcast_ref::<Self>() {
            Some(new) if self.0 == new.0 => Vec::new(),
            Some(_) | None => vec!["store.url"],
        }
    }

    fn open(&self) -> StoreFuture<'_, Result<Box<dyn OpenStore>, StartError>> {
        Box::pin(async {
            let opened = open(SqliteOptions::new(&self.0)).await;
            let store = opened.map_err(|error| start_error(&error))?;
            Ok(Box::new(store) as _)
        })
    }

    fn open_source<'a>(
        &'a self,
        flag: &'static str,
        writers: SourceWriters,
    ) -> StoreFuture<'a, Result<CopySource, StartError>> {
        Box::pin(async move {
            let scan = Arc::new(scan(&self.0, flag)?);
            let store = match writers {
                SourceWriters::Excluded => Some(Box::new(lock(&self.0, 0, flag).await?) as _),
                SourceWriters::Allowed => None,
            };
            Ok(CopySource { scan, store })
        })
    }

    fn open_target(&self, flag: &'static str) -> StoreFuture<'_, Result<CopyTarget, StartError>> {
        Box::pin(async move {
            let wal_bytes = SqliteOptions::new(&self.0).wal_bytes;
            let store = lock(&self.0, wal_bytes, flag).await?;
            let scan = SqliteScan::of_open(&self.0, &store);
            let scan = Arc::new(scan.map_err(|error| unreadable(&error, flag))?);
            let store = Box::new(store);
            Ok(CopyTarget { scan, store })
        })
    }

    fn examine<'a>(
        &'a self,
        flag: &'static str,
        _clock: &'a Clock,
    ) -> StoreFuture<'a, Result<Vec<ExamineFinding>, StartError>> {
        Box::pin(async move { Ok(scan(&self.0, flag)?.examine().await) })
    }
}

impl OpenStore for Arc<SqliteStore> {
    fn sessions(&self) -> Arc<dyn SessionStore> {
        Arc::clone(self) as _
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async move {
            // Dropping the store flushes it and joins its threads, which must not block a thread that serves requests.
            let closed = tokio::task::spawn_blocking(move || drop(self)).await;
            closed.expect("closing the store neither panics nor is cancelled");
        })
    }
}

async fn open(options: SqliteOptions) -> Result<Arc<SqliteStore>, SqliteOpenError> {
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&options)).await;
    let opened = opened.expect("opening the store neither panics nor is cancelled");
    opened.map(Arc::new)
}

/// Opens the store itself, which locks the file: meanwhile, no host can open it.
async fn lock(path: &Path, wal_bytes: u64, flag: &str) -> Result<Arc<SqliteStore>, StartError> {
    let options = SqliteOptions {
        wal_bytes,
        ..SqliteOptions::new(path)
    };
    open(options).await.map_err(|error| match error {
        SqliteOpenError::InUse { .. } => StartError::Failed(StartFailure {
            problem: format!("{flag}: {} is open in a host", path.display()),
            remedy: "stop the host, then call the command again".to_owned(),
        }),
        error => {
            let remedy = "correct what the error names, or name another file";
            ConfigFault::new(flag, error.to_string(), remedy).into()
        }
    })
}

fn scan(path: &Path, flag: &str) -> Result<SqliteScan, StartError> {
    SqliteScan::open(path).map_err(|error| unreadable(&error, flag))
}

fn start_error(error: &SqliteOpenError) -> StartError {
    use SqliteOpenError as Error;
    let problem = error.to_string();
    let remedy = "or keep sessions elsewhere: --store sqlite:PATH, --store memory:".to_owned();
    match error {
        Error::InUse { .. }
        | Error::ForeignLog { .. }
        | Error::SqliteTooOld { .. }
        | Error::Thread(_) => StartError::Failed(StartFailure { problem, remedy }),
        _ => ConfigFault::new("store.url", problem, remedy).into(),
    }
}

fn unreadable(error: &ScanError, flag: &str) -> StartError {
    let remedy = match error {
        ScanError::ForeignLog { .. } => {
            "restore the database that belongs to the log, or remove the log and lose the commits in it"
        }
        _ => "name the file of an embedded store that this user may read",
    };
    ConfigFault::new(flag, error.to_string(), remedy).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_with_or_without_slashes() {
        for (rest, path) in [
            ("a.db", "a.db"),
            ("/x/a.db", "/x/a.db"),
            ("///x/a.db", "/x/a.db"),
        ] {
            assert_eq!(parse(rest).ok(), Some(path), "{rest}");
        }
    }
}

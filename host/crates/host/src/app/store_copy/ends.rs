//! Opens the stores of a copy or a check: a source is read while a host may use it, a target is written exclusively, and a
//! check only reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::stores::{OpenStore, mysql_options};
use crate::config::{Backend, ConfigFault, MysqlSettings};
use crate::failure::{StartError, StartFailure};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits::COPY_STATEMENT_TIMEOUT;
use cloakroom_base::telemetry;
use cloakroom_session::store::SessionStore;
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_session::store::scan::StoreScan;
use cloakroom_store_mysql as mysql;
use cloakroom_store_mysql::{ConnectErrorClass, MysqlConnectError, MysqlOptions, MysqlStore};
use cloakroom_store_sqlite as sqlite;
use cloakroom_store_sqlite::{ScanError, SqliteOpenError, SqliteScan, SqliteStore};

/// The store that a copy reads from.
pub(crate) enum CopySource {
    /// Read while a host may have it open, or with the file locked so that no host can write.
    Sqlite(SqliteScan, Option<Arc<SqliteStore>>),
    Mysql(Arc<MysqlStore>),
}

/// The store that a copy writes to.
pub(crate) enum CopyTarget {
    Sqlite(SqliteScan, Arc<SqliteStore>),
    Mysql(Arc<MysqlStore>),
}

impl CopySource {
    /// Opens a source without creating anything. With `is_closed`, an embedded store is locked against hosts.
    pub(crate) async fn open(
        backend: &Backend,
        flag: &str,
        is_closed: bool,
    ) -> Result<Self, StartError> {
        match backend {
            Backend::Memory => Err(in_memory(flag)),
            Backend::Sqlite(path) => {
                let scan = scan(path, flag)?;
                let lock = match is_closed {
                    true => Some(lock(path, 0, flag).await?),
                    false => None,
                };
                Ok(Self::Sqlite(scan, lock))
            }
            Backend::Mysql(settings) => {
                let options = options(settings)?;
                let connected = MysqlStore::connect(&as_it_is(options)).await;
                let store = connected.map_err(|error| refused(error, flag))?;
                if is_closed && matches!(store.read_only().await, Ok(None)) {
                    telemetry::say(&format!(
                        "warning: {flag}: the server accepts writes: data that a host or an Express app writes there from now on is lost; \
                         stop each of them, or set read_only on the server"
                    ));
                }
                Ok(Self::Mysql(Arc::new(store)))
            }
        }
    }

    pub(crate) fn scan(&self) -> &dyn StoreScan {
        match self {
            Self::Sqlite(scan, _) => scan,
            Self::Mysql(store) => &**store,
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(scan, lock) => {
                drop(scan);
                if let Some(store) = lock {
                    OpenStore::Sqlite(store).close().await;
                }
            }
            Self::Mysql(store) => OpenStore::Mysql(store).close().await,
        }
    }
}

impl CopyTarget {
    /// Opens a target, and creates the file or the table if it is missing.
    pub(crate) async fn open(backend: &Backend, flag: &str) -> Result<Self, StartError> {
        match backend {
            Backend::Memory => Err(in_memory(flag)),
            Backend::Sqlite(path) => {
                let wal_bytes = sqlite::SqliteOptions::new(path).wal_bytes;
                let store = lock(path, wal_bytes, flag).await?;
                let scan = SqliteScan::of_open(path, &store);
                let scan = scan.map_err(|error| unreadable(&error, flag))?;
                Ok(Self::Sqlite(scan, store))
            }
            Backend::Mysql(settings) => {
                let options = options(settings)?;
                let connected = MysqlStore::connect(&options).await;
                let store = connected.map_err(|error| refused(error, flag))?;
                if store.rewrites_data() {
                    return Err(json(&options, flag));
                }
                for finding in store.findings() {
                    let warning = format!("warning: {flag}: {}: {}", finding.found, finding.remedy);
                    telemetry::say(&telemetry::escape(&warning));
                }
                Ok(Self::Mysql(Arc::new(store)))
            }
        }
    }

    pub(crate) fn scan(&self) -> &dyn StoreScan {
        match self {
            Self::Sqlite(scan, _) => scan,
            Self::Mysql(store) => &**store,
        }
    }

    pub(crate) fn writer(&self) -> &dyn SessionStore {
        match self {
            Self::Sqlite(_, store) => &**store,
            Self::Mysql(store) => &**store,
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(scan, store) => {
                drop(scan);
                OpenStore::Sqlite(store).close().await;
            }
            Self::Mysql(store) => OpenStore::Mysql(store).close().await,
        }
    }
}

/// Checks a store, which a host may have open. Changes nothing.
pub(crate) async fn examine(
    backend: &Backend,
    flag: &str,
    clock: &Clock,
) -> Result<Vec<ExamineFinding>, StartError> {
    match backend {
        Backend::Memory => Err(in_memory(flag)),
        Backend::Sqlite(path) => Ok(scan(path, flag)?.examine().await),
        Backend::Mysql(settings) => {
            let examined = mysql::examine(&options(settings)?, clock).await;
            examined.map_err(|error| refused(error, flag))
        }
    }
}

fn options(settings: &MysqlSettings) -> Result<MysqlOptions, StartError> {
    let mut options = mysql_options(settings)?;
    options.statement_timeout = options.statement_timeout.max(COPY_STATEMENT_TIMEOUT);
    Ok(options)
}

/// Returns the options for a store in which nothing is created or altered. A read-only server is accepted only if it is the
/// only one in the list: among several servers, a read-only one may lack the last commits.
fn as_it_is(options: MysqlOptions) -> MysqlOptions {
    MysqlOptions {
        create_database_table: false,
        alter_table: false,
        reads_only: options.socket.is_some() || options.hosts.len() == 1,
        ..options
    }
}

/// MySQL's JSON type does not preserve the text of a document. Every row would differ from its source forever, and every pass
/// would write all rows again.
fn json(options: &MysqlOptions, flag: &str) -> StartError {
    let names = &options.schema;
    let problem = format!(
        "the column {} has the type json: the server rewrites the text of each session, so no copy can be compared with its source",
        names.data
    );
    let remedy = format!(
        "run `ALTER TABLE {} MODIFY {} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`",
        names.table, names.data
    );
    ConfigFault::new(flag, problem, remedy).into()
}

fn scan(path: &Path, flag: &str) -> Result<SqliteScan, StartError> {
    SqliteScan::open(path).map_err(|error| unreadable(&error, flag))
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

/// Opens the store itself, which locks the file: meanwhile, no host can open it.
async fn lock(path: &Path, wal_bytes: u64, flag: &str) -> Result<Arc<SqliteStore>, StartError> {
    let options = sqlite::SqliteOptions {
        wal_bytes,
        ..sqlite::SqliteOptions::new(PathBuf::from(path))
    };
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&options)).await;
    let opened = opened.expect("opening the store neither panics nor is cancelled");
    opened.map(Arc::new).map_err(|error| match error {
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

fn in_memory(flag: &str) -> StartError {
    let problem = "a store in memory ends with its host";
    ConfigFault::new(flag, problem, "name a file or a server").into()
}

fn refused(error: MysqlConnectError, flag: &str) -> StartError {
    let usual = match error.culprit {
        ConnectErrorClass::Reach => {
            return StartError::Failed(StartFailure {
                problem: format!("{flag}: the store cannot be reached: {}", error.detail),
                remedy: "start the database, or correct its address in the URL; a read-only source must be the only server in the URL"
                    .to_owned(),
            });
        }
        ConnectErrorClass::Account => {
            "correct the user in the URL or its password, or create the account in the database"
        }
        ConnectErrorClass::Database => {
            "correct the database's name in the URL, create the database, or grant the account its privileges"
        }
        ConnectErrorClass::Tls => {
            "name a configuration whose [store] has the `tls` and `ca_file` of this server"
        }
        _ => {
            "correct the table, or name a configuration whose [store] has the names of the table and its columns"
        }
    };
    let remedy = match error.remedy.is_empty() {
        true => usual.to_owned(),
        false => error.remedy,
    };
    ConfigFault::new(flag, error.detail, remedy).into()
}

//! Opens the configured store, and closes it when no other part uses it any more.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::config;
use crate::config::{Backend, ConfigFault, MysqlSettings, StoreSettings, TlsMode, TlsVerify};
use crate::failure::{StartError, StartFailure};
use cloakroom_session::cookie::IdComparison;
use cloakroom_session::record::Charset;
use cloakroom_session::store::SessionStore;
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_store_mysql as mysql;
use cloakroom_store_mysql::{ConnectErrorClass, MysqlConnectError, MysqlStore};
use cloakroom_store_sqlite as sqlite;
use cloakroom_store_sqlite::SqliteStore;

/// An open store of one of the three kinds.
#[derive(Debug)]
pub(crate) enum OpenStore {
    Memory(Arc<MemoryStore>),
    Sqlite(Arc<SqliteStore>),
    Mysql(Arc<MysqlStore>),
}

impl OpenStore {
    pub(crate) fn as_dyn(&self) -> Arc<dyn SessionStore> {
        match self {
            Self::Memory(store) => Arc::clone(store) as _,
            Self::Sqlite(store) => Arc::clone(store) as _,
            Self::Mysql(store) => Arc::clone(store) as _,
        }
    }

    /// Returns how the store compares session ids.
    pub(crate) fn id_comparison(&self) -> IdComparison {
        match self {
            Self::Mysql(store) if store.compares_ids_loosely() => IdComparison::Loose,
            // All other stores compare ids byte by byte.
            Self::Memory(_) | Self::Sqlite(_) | Self::Mysql(_) => IdComparison::Exact,
        }
    }

    /// Returns the characters that the rows of the store can hold.
    pub(crate) fn charset(&self) -> Charset {
        match self {
            Self::Memory(_) | Self::Sqlite(_) => Charset::Unicode,
            Self::Mysql(store) => store.charset(),
        }
    }

    /// Finishes the work in progress and closes the store.
    pub(crate) async fn close(self) {
        match self {
            Self::Memory(_) => {}
            Self::Sqlite(store) => {
                // Dropping the store flushes it and joins its threads, which must not block a thread that serves requests.
                let closed = tokio::task::spawn_blocking(move || drop(store)).await;
                closed.expect("closing the store neither panics nor is cancelled");
            }
            Self::Mysql(store) => store.shutdown().await,
        }
    }
}

/// Opens the store. For MySQL, the host has connected and checked the table when this returns.
pub(crate) async fn open(settings: &StoreSettings) -> Result<OpenStore, StartError> {
    match &settings.backend {
        Backend::Memory => Ok(OpenStore::Memory(Arc::new(MemoryStore::new()))),
        Backend::Sqlite(path) => {
            let options = sqlite::SqliteOptions::new(path);
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&options)).await;
            let opened = opened.expect("opening the store neither panics nor is cancelled");
            let store = opened.map_err(|error| sqlite_error(&error))?;
            Ok(OpenStore::Sqlite(Arc::new(store)))
        }
        Backend::Mysql(settings) => {
            let options = mysql_options(settings)?;
            let connected = MysqlStore::connect(&options).await;
            let store = connected.map_err(|error| mysql_error(error, options.start_timeout))?;
            Ok(OpenStore::Mysql(Arc::new(store)))
        }
    }
}

fn sqlite_error(error: &sqlite::SqliteOpenError) -> StartError {
    use sqlite::SqliteOpenError as Error;
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

/// Converts an error of the MySQL store. An unreachable server may come back, so this is not a fault of the configuration. All
/// other errors are.
fn mysql_error(error: MysqlConnectError, waited: Duration) -> StartError {
    let (key, usual_remedy) = match error.culprit {
        ConnectErrorClass::Reach => {
            return StartError::Failed(StartFailure {
                problem: format!(
                    "the session store cannot be reached: {} (tried for {} s)",
                    error.detail,
                    waited.as_secs_f32()
                ),
                remedy: "start the database, or correct its address under [store]".to_owned(),
            });
        }
        ConnectErrorClass::Account => (
            "store.user",
            "correct user and password under [store], or create the account in the database",
        ),
        ConnectErrorClass::Database => (
            "store.database",
            "correct its name under [store], create it, or grant the account its privileges",
        ),
        ConnectErrorClass::Tls => (
            "store.tls",
            "write store.tls = { ca_file = \"ca.pem\" } with the file of the server's authority, and name the host as its certificate \
             does, or add verify = \"ca\" where the certificate names no host (MySQL's own); tls = false only on a trusted network",
        ),
        ConnectErrorClass::Table => (
            "store.schema.table_name",
            "correct the name, or the account's privileges on the table",
        ),
        ConnectErrorClass::Columns => ("store.schema.column_names", "correct the names"),
    };
    let remedy = match error.remedy.as_str() {
        "" => usual_remedy,
        remedy => remedy,
    };
    ConfigFault::new(key, error.detail, remedy).into()
}

pub(crate) fn mysql_options(settings: &MysqlSettings) -> Result<mysql::MysqlOptions, ConfigFault> {
    let host = |(name, port): &(String, u16)| mysql::ServerAddress {
        name: name.clone(),
        port: *port,
    };
    let hosts = settings.hosts.iter().map(host).collect();
    let mut options =
        mysql::MysqlOptions::new(hosts, settings.user.clone(), settings.database.clone());
    options.socket.clone_from(&settings.socket);
    options.password = settings
        .password
        .as_ref()
        .map(|password| SecretString::from(password.reveal()));
    options.connection_limit = settings.connection_limit;
    options.schema = schema(&settings.schema)?;
    options.create_database_table = settings.create_database_table;
    options.alter_table = settings.alter_table;
    options.tls = match settings.tls {
        TlsMode::Required => mysql::MysqlTls::Required,
        TlsMode::Off => mysql::MysqlTls::Off,
        TlsMode::Auto => mysql::MysqlTls::Auto,
    };
    options.ca_file.clone_from(&settings.ca_file);
    options.verify = match settings.verify {
        TlsVerify::Full => mysql::CertificateCheck::Full,
        TlsVerify::Ca => mysql::CertificateCheck::Ca,
    };
    options.connect_timeout = settings.connect_timeout;
    options.statement_timeout = settings.statement_timeout;
    options.acquire_timeout = settings.acquire_timeout;
    Ok(options)
}

fn schema(names: &config::SchemaNames) -> Result<mysql::SchemaNames, ConfigFault> {
    let identifier = |key: &str, name: &str| {
        mysql::Identifier::new(name).map_err(|error| {
            ConfigFault::new(
                format!("store.schema.{key}"),
                error.to_string(),
                "rename it, or correct the name",
            )
        })
    };
    let columns = &names.column_names;
    Ok(mysql::SchemaNames {
        table: identifier("table_name", &names.table_name)?,
        session_id: identifier("column_names.session_id", &columns.session_id)?,
        expires: identifier("column_names.expires", &columns.expires)?,
        data: identifier("column_names.data", &columns.data)?,
    })
}

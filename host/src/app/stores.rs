//! Opens the store that the configuration names, and closes it when nobody uses it any more.

use std::sync::Arc;

use secrecy::SecretString;

use crate::config::{self, Backend, Fault, MysqlSettings, StoreSettings, TlsMode};
use crate::store::memory::MemoryStore;
use crate::store::mysql::{self, MysqlStore};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{SessionStore, StoreErrorKind};

/// A store of one of the three kinds.
#[derive(Debug)]
pub(super) enum OpenStore {
    Memory(Arc<MemoryStore>),
    Sqlite(Arc<SqliteStore>),
    Mysql(Arc<MysqlStore>),
}

impl OpenStore {
    pub(super) fn as_dyn(&self) -> Arc<dyn SessionStore> {
        match self {
            Self::Memory(store) => Arc::clone(store) as _,
            Self::Sqlite(store) => Arc::clone(store) as _,
            Self::Mysql(store) => Arc::clone(store) as _,
        }
    }

    /// Settles what is under way.
    pub(super) async fn close(self) {
        match self {
            Self::Memory(_) => {}
            Self::Sqlite(store) => {
                // Its drop flushes and joins threads: not on a thread that serves.
                let closed = tokio::task::spawn_blocking(move || drop(store)).await;
                closed.expect("closing the store neither panics nor is cancelled");
            }
            Self::Mysql(store) => store.shutdown().await,
        }
    }
}

/// Opens it; a MySQL store has connected and looked at its table when this returns.
pub(super) async fn open(settings: &StoreSettings) -> Result<OpenStore, Fault> {
    match &settings.backend {
        Backend::Memory => Ok(OpenStore::Memory(Arc::new(MemoryStore::new()))),
        Backend::Sqlite(path) => {
            let options = sqlite::Options::new(path);
            let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&options)).await;
            let opened = opened.expect("opening the store neither panics nor is cancelled");
            opened
                .map(|store| OpenStore::Sqlite(Arc::new(store)))
                .map_err(|error| {
                    Fault::new(
                        "store.url",
                        error.to_string(),
                        "or keep sessions elsewhere: --store sqlite:PATH, --store memory:",
                    )
                })
        }
        Backend::Mysql(settings) => {
            let options = mysql_options(settings)?;
            let store = MysqlStore::connect(&options).await.map_err(|error| {
                let remedy = match error.kind {
                    StoreErrorKind::Unavailable => {
                        "start the database, or correct its address under [store]"
                    }
                    StoreErrorKind::TooLarge | StoreErrorKind::Broken => {
                        "correct [store], or the account's rights and the table"
                    }
                };
                Fault::new("store", error.to_string(), remedy)
            })?;
            Ok(OpenStore::Mysql(Arc::new(store)))
        }
    }
}

fn mysql_options(settings: &MysqlSettings) -> Result<mysql::Options, Fault> {
    let host = |(name, port): &(String, u16)| mysql::Host {
        name: name.clone(),
        port: *port,
    };
    let any = mysql::Host {
        name: "localhost".to_owned(),
        port: mysql::PORT,
    };
    let mut options = mysql::Options::new(any, settings.user.clone(), settings.database.clone());
    options.hosts = settings.hosts.iter().map(host).collect();
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
        TlsMode::Required => mysql::Tls::Required,
        TlsMode::Off => mysql::Tls::Off,
        TlsMode::Auto => mysql::Tls::Auto,
    };
    options.ca_file.clone_from(&settings.ca_file);
    options.connect_timeout = settings.connect_timeout;
    options.statement_timeout = settings.statement_timeout;
    options.acquire_timeout = settings.acquire_timeout;
    Ok(options)
}

fn schema(names: &config::SchemaNames) -> Result<mysql::SchemaNames, Fault> {
    let identifier = |key: &str, name: &str| {
        mysql::Identifier::new(name).map_err(|error| {
            Fault::new(
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

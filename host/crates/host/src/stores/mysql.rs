//! `mysql://USER@HOST:PORT/DATABASE`: sessions in a table of MySQL, MariaDB or another server with the same protocol.

mod copy;
mod keys;
mod tls;
mod url;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    ConfiguredStore, CopySource, CopyTarget, OpenStore, SourceWriters, StoreChoice, StoreFactory,
    StoreLocation,
};
use crate::config_reader::Section;
use crate::config_reader::fault::ConfigFault;
use crate::config_reader::kinds::ValueError;
use crate::failure::{StartError, StartFailure};
use cloakroom_base::clock::Clock;
use cloakroom_session::cookie::IdComparison;
use cloakroom_session::record::Charset;
use cloakroom_session::store::examine::ExamineFinding;
use cloakroom_session::store::{SessionStore, StoreFuture};
use cloakroom_store_mysql::{ConnectErrorClass, MysqlConnectError, MysqlOptions, MysqlStore};

/// The kind of store on a MySQL server.
pub(crate) struct MysqlFactory;

/// A store on a MySQL server.
#[derive(Debug)]
pub(crate) struct ConfiguredMysql(pub(crate) MysqlOptions);

impl StoreFactory for MysqlFactory {
    fn schemes(&self) -> &'static [&'static str] {
        &["mysql", "mariadb"]
    }

    fn url_form(&self) -> &'static str {
        "mysql://USER@HOST:PORT/DATABASE"
    }

    fn check_url(&self, rest: &str) -> Result<(), ValueError> {
        url::parse(rest).map(|_| ())
    }

    fn check_argument(&self, rest: &str, password_flag: &str) -> Result<(), ValueError> {
        match url::parse(rest)?.password {
            None => Ok(()),
            Some(_) => Err(ValueError::new(
                "the URL contains a password, and every user of this machine can read command lines",
                format!(
                    "take the password out of the URL and write {password_flag} env:NAME or {password_flag} file:PATH"
                ),
            )),
        }
    }

    fn address_keys(&self) -> &'static [&'static str] {
        &keys::ADDRESS_KEYS
    }

    fn read(
        &self,
        section: &mut Section<'_>,
        choice: StoreChoice<'_>,
    ) -> Option<Arc<dyn ConfiguredStore>> {
        let options = keys::read(section, choice)?;
        Some(Arc::new(ConfiguredMysql(options)))
    }
}

impl ConfiguredStore for ConfiguredMysql {
    fn place(&self) -> String {
        let options = &self.0;
        let servers = match &options.socket {
            Some(socket) => format!("the socket {}", socket.display()),
            None => {
                let servers = options.hosts.iter().map(ToString::to_string);
                servers.collect::<Vec<_>>().join(" or ")
            }
        };
        format!(
            "in MySQL at {servers}, database {}, table {}",
            options.database,
            options.schema.table.as_str()
        )
    }

    fn location(&self) -> StoreLocation<'_> {
        StoreLocation::Server
    }

    fn descriptors(&self) -> u64 {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        // One extra connection per server, to check a server that is not in use.
        let per_server = count(self.0.connection_limit).saturating_add(1);
        count(self.0.hosts.len().max(1)).saturating_mul(per_server)
    }

    fn changed_keys(&self, new: &(dyn ConfiguredStore + 'static)) -> Vec<&'static str> {
        match new.downcast_ref::<Self>() {
            Some(new) => changed_keys(&self.0, &new.0),
            None => vec!["store.url"],
        }
    }

    fn open(&self) -> StoreFuture<'_, Result<Box<dyn OpenStore>, StartError>> {
        Box::pin(async {
            let connected = MysqlStore::connect(&self.0).await;
            let store = connected.map_err(|error| start_error(error, self.0.start_timeout))?;
            Ok(Box::new(Arc::new(store)) as _)
        })
    }

    fn open_source<'a>(
        &'a self,
        flag: &'static str,
        writers: SourceWriters,
    ) -> StoreFuture<'a, Result<CopySource, StartError>> {
        Box::pin(copy::open_source(&self.0, flag, writers))
    }

    fn open_target(&self, flag: &'static str) -> StoreFuture<'_, Result<CopyTarget, StartError>> {
        Box::pin(copy::open_target(&self.0, flag))
    }

    fn examine<'a>(
        &'a self,
        flag: &'static str,
        clock: &'a Clock,
    ) -> StoreFuture<'a, Result<Vec<ExamineFinding>, StartError>> {
        Box::pin(copy::examine(&self.0, flag, clock))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn assert_sound(&self) {
        let options = &self.0;
        assert_eq!(options.hosts.is_empty(), options.socket.is_some());
        let mut hosts = options.hosts.iter();
        assert!(hosts.all(|host| !host.name.is_empty() && host.port != 0));
        assert!(!options.user.is_empty() && !options.database.is_empty());
        let names = &options.schema;
        // MySQL compares column names without regard to case.
        let names = [&names.session_id, &names.expires, &names.data];
        let mut names: Vec<_> = names.map(|name| name.as_str().to_ascii_lowercase()).into();
        names.extend(["cloakroom_token".to_owned(), "cloakroom_created".to_owned()]);
        names.sort();
        assert!(
            names.windows(2).all(|two| two[0] != two[1]),
            "one column twice"
        );
    }
}

impl OpenStore for Arc<MysqlStore> {
    fn sessions(&self) -> Arc<dyn SessionStore> {
        Arc::clone(self) as _
    }

    fn id_comparison(&self) -> IdComparison {
        match self.compares_ids_loosely() {
            true => IdComparison::Loose,
            false => IdComparison::Exact,
        }
    }

    fn charset(&self) -> Charset {
        MysqlStore::charset(self)
    }

    fn close(self: Box<Self>) -> StoreFuture<'static, ()> {
        Box::pin(async move { self.shutdown().await })
    }
}

/// Every field is named, so that a new one cannot be forgotten here.
fn changed_keys(old: &MysqlOptions, new: &MysqlOptions) -> Vec<&'static str> {
    let MysqlOptions {
        hosts,
        socket,
        user,
        password,
        database,
        connection_limit,
        schema,
        create_database_table,
        alter_table,
        reads_only: _,
        tls,
        ca_file,
        verify,
        connect_timeout,
        statement_timeout,
        acquire_timeout,
        start_timeout: _,
    } = old;
    fn revealed(password: &Option<SecretString>) -> Option<&str> {
        password.as_ref().map(SecretString::expose_secret)
    }
    let keys = [
        ("store.host", *hosts != new.hosts),
        ("store.socket", *socket != new.socket),
        ("store.user", *user != new.user),
        (
            "store.password",
            revealed(password) != revealed(&new.password),
        ),
        ("store.database", *database != new.database),
        (
            "store.connection_limit",
            *connection_limit != new.connection_limit,
        ),
        (
            "store.create_database_table",
            *create_database_table != new.create_database_table,
        ),
        ("store.alter_table", *alter_table != new.alter_table),
        ("store.schema", *schema != new.schema),
        ("store.tls", *tls != new.tls),
        ("store.ca_file", *ca_file != new.ca_file),
        ("store.tls.verify", *verify != new.verify),
        (
            "store.connect_timeout",
            *connect_timeout != new.connect_timeout,
        ),
        (
            "store.statement_timeout",
            *statement_timeout != new.statement_timeout,
        ),
        (
            "store.acquire_timeout",
            *acquire_timeout != new.acquire_timeout,
        ),
    ];
    let changed = keys.into_iter().filter(|(_, is_changed)| *is_changed);
    changed.map(|(key, _)| key).collect()
}

/// Converts an error of the start. An unreachable server may come back, so this is not a fault of the configuration. All other
/// errors are.
fn start_error(error: MysqlConnectError, waited: Duration) -> StartError {
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

//! `[store]`: the session store. Supports the options of express-mysql-session, and options that it drops.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::config_reader::fault::SettingOrigin;
use crate::config_reader::kinds::{
    Field, ValueError, boolean, count_in, duration, path, secret, some_items, text,
};
use crate::config_reader::source::TomlValue;
use crate::config_reader::{ConfigMode, Section};
use crate::stores::mysql::tls;
use crate::stores::mysql::url::{self, MYSQL_PORT, MysqlUrl, StoreUrl};
use cloakroom_base::limits;

pub use crate::stores::mysql::tls::{TlsMode, TlsVerify};

/// The `[store]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The kind and the address of the store.
    pub backend: Backend,
    /// Whether expired rows are deleted.
    pub clear_expired: bool,
    /// Time between two deletions of expired rows.
    pub check_expiration_interval: Duration,
    /// How long a session without a cookie expiry lives after its last use.
    pub expiration: Duration,
    /// Whether reading a session leaves its expiry unchanged.
    pub disable_touch: bool,
}

/// The kind and the address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In the memory of this process. Sessions are lost when it ends.
    Memory,
    /// The embedded store, in this file.
    Sqlite(PathBuf),
    /// MySQL, MariaDB or another server with the same protocol.
    Mysql(Box<MysqlSettings>),
}

/// The address of a MySQL server, its connection settings, and the names of its table and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlSettings {
    /// Hosts and ports in order of preference. Empty if `socket` is set.
    pub hosts: Vec<(String, u16)>,
    /// A Unix socket, instead of hosts.
    pub socket: Option<PathBuf>,
    /// The user name.
    pub user: String,
    /// The password of the user.
    pub password: Option<SecretText>,
    /// The name of the database.
    pub database: String,
    /// Maximum number of connections per host.
    pub connection_limit: usize,
    /// Whether the table is created if it is missing.
    pub create_database_table: bool,
    /// Whether Cloakroom's own columns and index are added to an existing table.
    pub alter_table: bool,
    /// The names of the table and its columns.
    pub schema: SchemaNames,
    /// Whether the connection is encrypted.
    pub tls: TlsMode,
    /// PEM file with the certificate authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How the certificate of the server is verified.
    pub verify: TlsVerify,
    /// Longest time to connect and log in.
    pub connect_timeout: Duration,
    /// Longest time for one statement.
    pub statement_timeout: Duration,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
}

/// The names of the table and its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaNames {
    /// The name of the table.
    pub table_name: String,
    /// The names of its columns.
    pub column_names: ColumnNames,
}

/// The names of the columns that Express uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnNames {
    /// The session id, the primary key.
    pub session_id: String,
    /// The last second in which the session is valid.
    pub expires: String,
    /// The session data as JSON text.
    pub data: String,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// The default path of the embedded store, relative to the working directory.
pub const DEFAULT_SQLITE_PATH: &str = ".cloakroom/sessions.sqlite";

/// Keys that name a MySQL server. They conflict with `url`.
const ADDRESS_KEYS: [&str; 5] = ["host", "port", "user", "database", "socket"];
/// Keys that only have an effect with a MySQL server.
const TRUST_KEYS: [&str; 2] = ["password", "ca_file"];

/// The keys that name the store, before they are checked against each other.
struct StoreAddressKeys {
    url: Option<StoreUrl>,
    hosts: Option<Vec<String>>,
    port: Option<usize>,
    socket: Option<PathBuf>,
    user: Option<String>,
    password: Option<SecretText>,
    database: Option<String>,
}

/// Reads `[store]`. The backend is `None` if it is unknown because of a fault.
pub(crate) fn read(mut section: Section<'_>) -> (StoreSettings, Option<Backend>) {
    let clear_expired = section.get("clear_expired", boolean).unwrap_or(true);
    let interval = section.get("check_expiration_interval", duration);
    let expiration = section.get("expiration", duration);
    let disable_touch = section.get("disable_touch", boolean).unwrap_or(false);
    let address = StoreAddressKeys {
        url: section.get("url", store_url),
        hosts: section.get("host", hosts),
        port: section.get("port", count_in(1, 65_535)),
        socket: section.get("socket", path),
        user: section.get("user", text),
        password: section
            .get("password", secret)
            .map(|password| SecretText::new(password.expose_secret().to_owned())),
        database: section.get("database", text),
    };
    let rest = read_mysql_rest(&mut section);
    let backend = match section.reader.purpose() {
        ConfigMode::Serve => weigh(&section, address, rest),
        ConfigMode::Rehearse => Some(Backend::Memory),
    };
    let is_chosen = section.reader.purpose() == ConfigMode::Serve;
    if is_chosen && matches!(backend, Some(Backend::Memory | Backend::Sqlite(_))) {
        let idle = TRUST_KEYS.iter().filter(|key| section.is_given(key));
        for key in idle.filter(|key| !is_overruled(&section, key)) {
            section.warn(key, "has no effect: the store is not MySQL");
        }
    }
    let settings = StoreSettings {
        backend: backend.clone().unwrap_or(Backend::Memory),
        clear_expired,
        check_expiration_interval: interval.unwrap_or(limits::CHECK_EXPIRATION_INTERVAL),
        expiration: expiration.unwrap_or(limits::SESSION_EXPIRATION),
        disable_touch,
    };
    (settings, backend)
}

/// Reads the MySQL settings other than the address, which is left empty.
fn read_mysql_rest(section: &mut Section<'_>) -> MysqlSettings {
    let tls = tls::read(section);
    let mut timeout = |key, default| section.get(key, duration).unwrap_or(default);
    MysqlSettings {
        hosts: Vec::new(),
        socket: None,
        user: String::new(),
        password: None,
        database: String::new(),
        connect_timeout: timeout("connect_timeout", limits::STORE_CONNECT_TIMEOUT),
        statement_timeout: timeout("statement_timeout", limits::STORE_STATEMENT_TIMEOUT),
        acquire_timeout: timeout("acquire_timeout", limits::STORE_ACQUIRE_TIMEOUT),
        connection_limit: section
            .get("connection_limit", count_in(1, 10_000))
            .unwrap_or(limits::STORE_CONNECTIONS_MAX),
        create_database_table: section
            .get("create_database_table", boolean)
            .unwrap_or(true),
        alter_table: section.get("alter_table", boolean).unwrap_or(false),
        schema: read_schema(section.section("schema")),
        tls: tls.mode,
        ca_file: tls.ca_file,
        verify: tls.verify,
    }
}

fn read_schema(mut section: Section<'_>) -> SchemaNames {
    let names = |section: &mut Section<'_>, key: &'static str, default: &str| {
        let name = section.get(key, identifier);
        name.unwrap_or_else(|| default.to_owned())
    };
    let table_name = names(&mut section, "table_name", "sessions");
    let mut columns = section.section("column_names");
    let column_names = ColumnNames {
        session_id: names(&mut columns, "session_id", "session_id"),
        expires: names(&mut columns, "expires", "expires"),
        data: names(&mut columns, "data", "data"),
    };
    check_columns(&columns, &column_names);
    SchemaNames {
        table_name,
        column_names,
    }
}

/// Checks the names of the columns. MySQL compares them without regard to case, so two equal names would be the same column.
fn check_columns(section: &Section<'_>, names: &ColumnNames) {
    const OUR_OWN: [&str; 2] = ["cloakroom_token", "cloakroom_created"];
    let ColumnNames {
        session_id,
        expires,
        data,
    } = names;
    let names = [
        ("session_id", session_id),
        ("expires", expires),
        ("data", data),
    ];
    for (at, (key, name)) in names.into_iter().enumerate() {
        let is_same = |other: &str| name.eq_ignore_ascii_case(other);
        if OUR_OWN.into_iter().any(is_same) {
            let problem = format!("{name:?} is a column that this host adds");
            section.fault(key, problem, "give the column another name");
        }
        if names[..at].iter().any(|(_, other)| is_same(other)) {
            section.fault(key, "two columns have one name", "give each its own");
        }
    }
}

/// Returns whether a key of the file is overridden by a URL from the environment or the command line, which names another
/// server.
fn is_overruled(section: &Section<'_>, key: &str) -> bool {
    let is_in_file = |key| matches!(section.origin_of(key), SettingOrigin::File { .. });
    section.is_given("url") && !is_in_file("url") && is_in_file(key)
}

fn weigh(section: &Section<'_>, address: StoreAddressKeys, rest: MysqlSettings) -> Option<Backend> {
    let is_explicit = ADDRESS_KEYS.iter().any(|key| section.is_given(key));
    if !section.is_given("url") {
        if is_explicit || section.is_given("password") {
            return explicit(section, address, rest);
        }
        return Some(Backend::Sqlite(DEFAULT_SQLITE_PATH.into()));
    }
    let besides = ADDRESS_KEYS.iter().filter(|key| section.is_given(key));
    for key in besides.filter(|key| !is_overruled(section, key)) {
        section.fault(
            key,
            "the address is given twice: here and in store.url",
            "leave out one of the two",
        );
    }
    match address.url? {
        StoreUrl::Memory => Some(Backend::Memory),
        StoreUrl::Sqlite(path) => {
            let is_in_file = matches!(section.origin_of("url"), SettingOrigin::File { .. });
            let base = if is_in_file {
                section.reader.base()
            } else {
                Path::new("")
            };
            Some(Backend::Sqlite(base.join(path)))
        }
        StoreUrl::Mysql(url) => {
            let password = password_of(section, &url, address.password);
            Some(Backend::Mysql(Box::new(MysqlSettings {
                hosts: url.hosts,
                user: url.user,
                password,
                database: url.database,
                ..rest
            })))
        }
    }
}

fn password_of(
    section: &Section<'_>,
    url: &MysqlUrl,
    password: Option<SecretText>,
) -> Option<SecretText> {
    let Some(in_url) = &url.password else {
        return password;
    };
    if matches!(section.origin_of("url"), SettingOrigin::File { .. }) {
        section.fault(
            "url",
            "contains a password in clear text",
            "take it out of the URL and write password = \"env:NAME\" or \"file:PATH\"; \
             or give the whole URL in the environment variable CLOAKROOM_STORE_URL",
        );
    } else if section.is_given("password") && !is_overruled(section, "password") {
        section.fault(
            "password",
            "the password is given twice: here and in store.url",
            "leave out one of the two",
        );
    }
    Some(SecretText::new(in_url.clone()))
}

fn explicit(
    section: &Section<'_>,
    address: StoreAddressKeys,
    rest: MysqlSettings,
) -> Option<Backend> {
    for key in ["user", "database"] {
        if !section.is_given(key) {
            section.fault(
                key,
                "missing: it is part of the address",
                format!("write {key} = \"...\" under [store]"),
            );
        }
    }
    if section.is_given("socket") {
        for key in ["host", "port"].iter().filter(|key| section.is_given(key)) {
            section.fault(
                key,
                "a socket has neither host nor port",
                "leave out one of the two",
            );
        }
    }
    let port = address
        .port
        .and_then(|port| u16::try_from(port).ok())
        .unwrap_or(MYSQL_PORT);
    let mut hosts = Vec::new();
    if !section.is_given("socket") {
        for host in address
            .hosts
            .unwrap_or_else(|| vec!["localhost".to_owned()])
        {
            match url::parse_host(&host, port) {
                Ok(host) => hosts.push(host),
                Err(complaint) => section.fault("host", complaint.problem, complaint.remedy),
            }
        }
    }
    Some(Backend::Mysql(Box::new(MysqlSettings {
        hosts,
        socket: address.socket,
        user: address.user?,
        password: address.password,
        database: address.database?,
        ..rest
    })))
}

fn store_url(field: &Field<'_>) -> Result<StoreUrl, ValueError> {
    url::parse(&text(field)?)
}

/// Reads one host or a list of hosts.
fn hosts(field: &Field<'_>) -> Result<Vec<String>, ValueError> {
    match field.value {
        TomlValue::Text(one) => {
            let hosts = one.split(',').map(|host| host.trim().to_owned());
            text(field).map(|_| hosts.collect())
        }
        _ => some_items(|host| Ok(host.to_owned()))(field),
    }
}

/// Reads the name of a table or column. Only allows characters that are safe between backticks and valid for every server with
/// this protocol.
fn identifier(field: &Field<'_>) -> Result<String, ValueError> {
    let name = text(field)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || c == '-';
    if name.len() <= 64 && name.chars().all(is_plain) {
        return Ok(name);
    }
    Err(ValueError::new(
        format!("{name:?} is not a valid table or column name"),
        "use at most 64 letters, digits, `_`, `-` and `$`",
    ))
}

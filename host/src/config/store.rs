//! `[store]`: where sessions are kept. Express-mysql-session's options, and what it drops.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Which store, and where.
    pub backend: Backend,
    /// Whether expired rows are deleted.
    pub clear_expired: bool,
    /// Time between two deletions of expired rows.
    pub check_expiration_interval: Duration,
    /// How long a session without a cookie expiry lives after its last use.
    pub expiration: Duration,
    /// Whether reading a session leaves its expiry alone.
    pub disable_touch: bool,
}

/// Which store, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In this process's memory; gone with it.
    Memory,
    /// The embedded store in this file.
    Sqlite(PathBuf),
    /// MySQL, MariaDB or another server of their protocol.
    Mysql(MysqlSettings),
}

/// How to reach a MySQL server and what its table is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlSettings {
    /// Hosts and ports in order of preference; empty when `socket` is set.
    pub hosts: Vec<(String, u16)>,
    /// A Unix socket instead.
    pub socket: Option<PathBuf>,
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Option<SecretText>,
    /// The database.
    pub database: String,
    /// Connections per host.
    pub connection_limit: usize,
    /// Whether the table is created if it is missing.
    pub create_database_table: bool,
    /// Whether an existing table gets the columns and the index that are Cloakroom's own.
    pub alter_table: bool,
    /// The table's and its columns' names.
    pub schema: SchemaNames,
    /// Whether the link is encrypted.
    pub tls: TlsMode,
    /// PEM file of the authorities to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect and log in.
    pub connect_timeout: Duration,
    /// Longest time for one statement.
    pub statement_timeout: Duration,
    /// Longest wait for a free connection.
    pub acquire_timeout: Duration,
}

/// When the link to a MySQL server is encrypted; encrypted links always verify the server's certificate and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Always.
    Required,
    /// Never.
    Off,
    /// Unless the server is on this machine (a socket, `localhost`, a loopback address).
    Auto,
}

/// The table's and its columns' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaNames {
    /// The table.
    pub table_name: String,
    /// Its columns.
    pub column_names: ColumnNames,
}

/// The names of the columns that Express uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnNames {
    /// The id, the primary key.
    pub session_id: String,
    /// The last valid second.
    pub expires: String,
    /// The JSON text.
    pub data: String,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Hides `text`.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

//! The options of the MySQL store: the servers, the account, the table's names and the time limits. Knows no
//! configuration file. `Debug` never prints the password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use cloakroom_base::limits::{
    STORE_ACQUIRE_TIMEOUT, STORE_CONNECT_TIMEOUT, STORE_CONNECTIONS_MAX, STORE_STATEMENT_TIMEOUT,
};

/// The options of a MySQL store.
#[derive(Clone)]
pub struct MysqlOptions {
    /// The servers in order of preference. They must hold the same data: members of one cluster, or servers that
    /// receive each other's commits. Unused when `socket` is set.
    pub hosts: Vec<ServerAddress>,
    /// A Unix socket to use instead of `hosts`.
    pub socket: Option<PathBuf>,
    /// The account. Once the table exists, it needs only `SELECT`, `INSERT`, `UPDATE` and `DELETE` on that table.
    pub user: String,
    /// The account's password.
    pub password: Option<SecretString>,
    /// The database that contains the table.
    pub database: String,
    /// Maximum number of connections per host (express-mysql-session's `connectionLimit`). Default: 10. Lower while the
    /// server refuses more.
    pub connection_limit: usize,
    /// The names of the table and its columns. Default: Express's names.
    pub schema: SchemaNames,
    /// Whether a missing table is created. Default: true.
    pub create_database_table: bool,
    /// Whether missing Cloakroom columns and the missing index are added to an existing table. Default: false.
    pub alter_table: bool,
    /// Whether the store only reads. A server that takes no writes may then be used as well. Default: false.
    pub reads_only: bool,
    /// Whether connections are encrypted. Default: [`MysqlTls::Auto`].
    pub tls: MysqlTls,
    /// PEM file of the certificate authorities to trust for TLS instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How much of a server's certificate is verified. Default: [`CertificateCheck::Full`]. [`CertificateCheck::Ca`] requires a `ca_file`,
    /// because a public authority signs certificates for any host.
    pub verify: CertificateCheck,
    /// Time limit for connecting and logging in to one host. Default: 2 s.
    pub connect_timeout: Duration,
    /// Time limit for one statement. Default: 2 s. A wait for a row lock ends one second earlier, but not before one
    /// second.
    pub statement_timeout: Duration,
    /// Longest wait for a free connection. Default: 2 s.
    pub acquire_timeout: Duration,
    /// How long [`super::MysqlStore::connect`] waits for a server to become reachable. Default: 10 s.
    pub start_timeout: Duration,
}

/// One server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Host name or IP address (IPv6 without brackets).
    pub name: String,
    /// TCP port.
    pub port: u16,
}

/// When a TCP connection is encrypted. An encrypted connection always verifies the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MysqlTls {
    /// Encrypted unless the host is this machine: `localhost` or a loopback address.
    Auto,
    /// Always encrypted.
    Required,
    /// Never encrypted.
    Off,
}

/// How much of a server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateCheck {
    /// Verifies that a trusted authority signed the certificate and that it names the host.
    Full,
    /// Verifies only that a trusted authority signed the certificate. MySQL's generated certificates name no host.
    Ca,
}

/// The name of a table or column that is safe between backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier(String);

/// The names of the table and of Express's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaNames {
    /// The table.
    pub table: Identifier,
    /// The column of the id, which is the primary key.
    pub session_id: Identifier,
    /// The column of the last valid second.
    pub expires: Identifier,
    /// The column of the JSON text.
    pub data: Identifier,
}

/// Error returned for an invalid name of a table or column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a valid table or column name: use 1 to 64 ASCII letters, digits, '_', '$' or '-'"
)]
pub struct BadIdentifier {
    /// The invalid name.
    pub name: String,
}

impl MysqlOptions {
    /// Creates options for these hosts, with defaults for everything else.
    pub fn new(hosts: Vec<ServerAddress>, user: String, database: String) -> Self {
        Self {
            hosts,
            socket: None,
            user,
            password: None,
            database,
            connection_limit: STORE_CONNECTIONS_MAX,
            schema: SchemaNames::default(),
            create_database_table: true,
            alter_table: false,
            reads_only: false,
            tls: MysqlTls::Auto,
            ca_file: None,
            verify: CertificateCheck::Full,
            connect_timeout: STORE_CONNECT_TIMEOUT,
            statement_timeout: STORE_STATEMENT_TIMEOUT,
            acquire_timeout: STORE_ACQUIRE_TIMEOUT,
            start_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for MysqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlOptions")
            .field("hosts", &self.hosts)
            .field("socket", &self.socket)
            .field("database", &self.database)
            .field("connection_limit", &self.connection_limit)
            .field("schema", &self.schema)
            .field("create_database_table", &self.create_database_table)
            .field("alter_table", &self.alter_table)
            .field("tls", &self.tls)
            .field("ca_file", &self.ca_file)
            .field("verify", &self.verify)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("acquire_timeout", &self.acquire_timeout)
            .finish_non_exhaustive()
    }
}

impl ServerAddress {
    /// Returns whether the address is one of this machine's own.
    pub fn is_loopback(&self) -> bool {
        self.name.eq_ignore_ascii_case("localhost")
            || (self.name.parse()).is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl Identifier {
    /// Creates an identifier.
    ///
    /// # Errors
    /// Returns [`BadIdentifier`] unless the name consists of 1 to 64 ASCII letters, digits, `_`, `$` and `-`.
    pub fn new(name: &str) -> Result<Self, BadIdentifier> {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"_$-".contains(&c);
        if (1..=64).contains(&name.len()) && name.bytes().all(is_allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadIdentifier {
                name: name.to_owned(),
            })
        }
    }

    /// Returns the name without backticks.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Prints the name between backticks, as statements need it.
impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl Default for SchemaNames {
    /// Returns express-mysql-session's names.
    fn default() -> Self {
        let named = |name: &str| Identifier(name.to_owned());
        Self {
            table: named("sessions"),
            session_id: named("session_id"),
            expires: named("expires"),
            data: named("data"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> ServerAddress {
        ServerAddress {
            name: name.to_owned(),
            port: 3306,
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let mut options = MysqlOptions::new(vec![host("db")], "app".to_owned(), "shop".to_owned());
        options.password = Some(SecretString::from("s3cr3t-w0rd"));
        assert!(!format!("{options:?} {options:#?}").contains("s3cr3t"));
    }

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        assert_eq!(host("db1").to_string(), "db1:3306");
        assert_eq!(host("fe80::1").to_string(), "[fe80::1]:3306");
    }

    #[test]
    fn identifiers_that_could_escape_their_backticks_are_refused() {
        for name in ["", "a`b", "a b", "a.b", "tablé", "a\0", &"x".repeat(65)] {
            assert!(Identifier::new(name).is_err(), "{name:?}");
        }
        let name = Identifier::new("my-Sessions_$1").unwrap();
        assert_eq!(name.to_string(), "`my-Sessions_$1`");
    }

    #[test]
    fn loopback_is_recognised() {
        let is_loopback = |name: &str| host(name).is_loopback();
        assert!(
            ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"].map(is_loopback)
                == [true; 5]
        );
        assert!(
            [
                "db1",
                "10.0.0.1",
                "localhost.example.com",
                "127.0.0.1.example.com"
            ]
            .map(is_loopback)
                == [false; 4]
        );
    }
}

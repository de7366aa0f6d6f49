//! What the MySQL store is told: where the servers are, who we are, what the table is called, how long anything may take.
//! Knows no configuration file; no `Debug` of it shows the password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// How the store reaches its servers and what it finds there.
#[derive(Clone)]
pub struct Options {
    /// The servers in order of preference: all of one cluster, whatever one of them holds the others are about to hold.
    /// Unused when `socket` is set.
    pub hosts: Vec<Host>,
    /// A Unix socket instead of hosts.
    pub socket: Option<PathBuf>,
    /// The account. `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the one table are all it needs once the table exists.
    pub user: String,
    /// Its password.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
    /// Most connections per host (express-mysql-session's `connectionLimit`); 10 unless told. Fewer while the server refuses more.
    pub connection_limit: usize,
    /// The table's and its columns' names; Express's unless told.
    pub schema: SchemaNames,
    /// Whether the table is created where it is missing; yes unless told.
    pub create_database_table: bool,
    /// Whether an existing table gets our columns and our index where they are missing; no unless told.
    pub alter_table: bool,
    /// Whether nothing is ever written, so that a server which takes no writes serves as well; no unless told.
    pub reads_only: bool,
    /// Whether links are encrypted; [`Tls::Auto`] unless told.
    pub tls: Tls,
    /// PEM file of the authorities to trust for TLS instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How much of a server's certificate is verified; [`Verify::Full`] unless told. [`Verify::Ca`] wants a `ca_file`: a public
    /// authority signs the certificate of any host.
    pub verify: Verify,
    /// Longest time to connect and log in to one host; 2 s unless told.
    pub connect_timeout: Duration,
    /// Longest time for one statement; 2 s unless told. Waits for row locks end a second earlier, but not under a second.
    pub statement_timeout: Duration,
    /// Longest wait for a free connection; 2 s unless told.
    pub acquire_timeout: Duration,
    /// Longest time that [`super::MysqlStore::connect`] waits for a server to be there; 10 s unless told.
    pub start_timeout: Duration,
}

/// One server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name or IP address (IPv6 without brackets).
    pub name: String,
    /// TCP port.
    pub port: u16,
}

/// When a TCP link is encrypted. An encrypted link always verifies the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Unless the host is this machine: `localhost` or a loopback address.
    Auto,
    /// Always.
    Required,
    /// Never.
    Off,
}

/// How much of a server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// That an authority of ours has signed it, and that it is the host's.
    Full,
    /// That an authority of ours has signed it. MySQL's own generated certificates name no host.
    Ca,
}

/// A table's or column's name that is safe between backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier(String);

/// The names of the table and of the columns that Express uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaNames {
    /// The table.
    pub table: Identifier,
    /// The id, the primary key.
    pub session_id: Identifier,
    /// The last valid second.
    pub expires: Identifier,
    /// The JSON text.
    pub data: Identifier,
}

/// Why a name is not taken for a table or a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no table or column name: use 1 to 64 ASCII letters, digits, '_', '$' or '-'")]
pub struct NotAnIdentifier {
    /// What was given.
    pub name: String,
}

impl Options {
    /// Options for these hosts, all else as usual.
    pub fn new(hosts: Vec<Host>, user: String, database: String) -> Self {
        Self {
            hosts,
            socket: None,
            user,
            password: None,
            database,
            connection_limit: 10,
            schema: SchemaNames::default(),
            create_database_table: true,
            alter_table: false,
            reads_only: false,
            tls: Tls::Auto,
            ca_file: None,
            verify: Verify::Full,
            connect_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(2),
            start_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("hosts", &self.hosts)
            .field("socket", &self.socket)
            .field("database", &self.database)
            .field("schema", &self.schema)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Whether the address is this machine's own.
    pub fn is_loopback(&self) -> bool {
        self.name.eq_ignore_ascii_case("localhost")
            || (self.name.parse()).is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl Identifier {
    /// Takes over a name.
    ///
    /// # Errors
    /// [`NotAnIdentifier`] for anything but 1 to 64 ASCII letters, digits, `_`, `$` and `-`.
    pub fn new(name: &str) -> Result<Self, NotAnIdentifier> {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"_$-".contains(&c);
        if (1..=64).contains(&name.len()) && name.bytes().all(is_allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(NotAnIdentifier {
                name: name.to_owned(),
            })
        }
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Between backticks, as statements need it.
impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl Default for SchemaNames {
    /// Express-mysql-session's names.
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

    fn host(name: &str) -> Host {
        Host {
            name: name.to_owned(),
            port: 3306,
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let mut options = Options::new(vec![host("db")], "app".to_owned(), "shop".to_owned());
        options.password = Some(SecretString::from("s3cr3t-w0rd"));
        assert!(!format!("{options:?} {options:#?}").contains("s3cr3t"));
    }

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        assert_eq!(host("db1").to_string(), "db1:3306");
        assert_eq!(host("fe80::1").to_string(), "[fe80::1]:3306");
    }

    #[test]
    fn names_that_could_leave_their_backticks_are_refused() {
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

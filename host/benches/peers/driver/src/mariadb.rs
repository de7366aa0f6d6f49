//! A private MariaDB server with MariaDB's own defaults, which are durable: a commit is flushed before it is acknowledged
//! (`innodb_flush_log_at_trx_commit=1`). All contenders that use a database use this server, each time with a new database.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use cloakroom_mariadb::Installation;

use crate::process::{self, Server};

/// The account of all contenders.
pub const USER: &str = "bench";
/// The account's password.
pub const PASSWORD: &str = "bench";

/// The running server.
#[derive(Debug)]
pub struct Mariadb {
    server: Server,
    address: SocketAddr,
}

impl Mariadb {
    /// Creates a data directory in `directory` and starts the server on it.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let installation = Installation::create(directory)?;
        let address = process::free_address()?;
        let mut command = installation.server(address.port())?;
        // Relative to the data directory, because the path of a socket must be short.
        command.arg("--socket=socket");
        let server = Server::start(command, address, &directory.join("log"))?;
        let mariadb = Self { server, address };
        mariadb.query(&format!(
            "CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
             GRANT ALL ON *.* TO '{USER}'@'127.0.0.1'"
        ))?;
        Ok(mariadb)
    }

    /// Creates an empty database, replacing one of the same name.
    pub fn make_database(&self, name: &str) -> anyhow::Result<()> {
        self.query(&format!(
            "DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}"
        ))?;
        Ok(())
    }

    /// Executes the statements and returns their output, one row per line.
    pub fn query(&self, statements: &str) -> anyhow::Result<String> {
        let port = format!("--port={}", self.address.port());
        let words = [
            "--no-defaults",
            "--protocol=tcp",
            "--host=127.0.0.1",
            "--user=root",
        ];
        let said = process::output(
            Command::new("mariadb")
                .args(words)
                .args([&port, "--batch", "--skip-column-names", "--execute"])
                .arg(statements),
        );
        said.with_context(|| format!("MariaDB's log ends: {}", self.server.log()))
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Stops the server gracefully.
    pub fn stop(self) -> anyhow::Result<()> {
        self.server.stop().map(drop)
    }
}
